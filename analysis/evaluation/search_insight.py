"""What a search found out: whether more of it would pay, what mattered, and how its trials went."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import json_to_distribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.search_space import intersection_search_space
from optuna.trial import TrialState, create_trial

from analysis.evaluation.evaluate import read_evaluation
from analysis.evaluation.result_files import read_result, write_result
from analysis.statistics.selection import expected_best
from analysis.text_tables import Row, csv_text, markdown
from run_folder.names import RESULTS
from run_folder.records import to_plain
from run_folder.run import Run
from run_folder.trials import State, TrialRecord

logging.getLogger("optuna").setLevel(logging.WARNING)

INSIGHT = f"{RESULTS}/insight.json"
FEWEST_TRIALS = 4
"""Finished trials that importances need."""

HOW_SCORED = (
    "Expected best: validation macro F1 of the deployed model; a trial that failed counts 0, one that was stopped "
    "its last epoch's value. Trials that continue another are left out."
)
_ENDS = ("finished", "stopped", "failed")


@dataclass(frozen=True, kw_only=True)
class ExpectedBestCurve:
    """The expected best validation macro F1 of 1, 2, … trials, with its band; see ``expected_best``."""

    trials: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def at(self, trials: int) -> float | None:
        """The mean of this number of trials; None where there were fewer."""
        return self.mean[trials - 1] if trials <= len(self.mean) else None


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Macro F1 of a strategy's best trial: validation, test, and the first minus the second."""

    validation_f1: float
    test_f1: float
    difference: float


@dataclass(frozen=True, kw_only=True)
class TrialCurve:
    """A trial's validation macro F1 by epoch, and that of the deployed model where it finished."""

    state: State
    f1: tuple[float, ...]
    final: float | None


@dataclass(frozen=True, kw_only=True)
class StrategyInsight:
    """What the search of one strategy found out.

    Attributes:
        trials: all; finished, stopped and failed: those that ended so.
        importances: by parameter, shares that sum to 1; None where importances_note says why there are none.
        stopped_after: by number of epochs (as text), trials that were stopped then.
        curves: by trial.
    """

    trials: int
    finished: int
    stopped: int
    failed: int
    expected_best: ExpectedBestCurve
    gap: Gap | None
    importances: Mapping[str, float] | None
    importances_note: str | None
    stopped_after: Mapping[str, int]
    curves: Mapping[str, TrialCurve]

    @property
    def stopped_words(self) -> str | None:
        """After which epochs trials were stopped, and how many; None where none was."""
        return ", ".join(f"epoch {epoch}: {trials}" for epoch, trials in self.stopped_after.items()) or None


@dataclass(frozen=True, kw_only=True)
class HistoryRow:
    """One trial of the search.

    Attributes:
        f1: on validation, of the deployed model or the last epoch; None where it failed or has none.
        epochs: finished ones; seconds: of their training and validation.
    """

    trial: str
    strategy: str
    number: int
    state: State
    f1: float | None
    epochs: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Insight:
    """What ``results/insight.json`` holds.

    Attributes:
        identity: of the trials and test figures that it was made from.
        history: in the order of suggestion.
    """

    identity: str
    strategies: Mapping[str, StrategyInsight]
    history: tuple[HistoryRow, ...]


def write_insight(run: Run) -> Insight:
    """Write ``results/insight.json``, unless the one there is of the same trials, and ``.md`` and ``.csv``.

    Repetitions with other seeds are not part of the search, so they are left out.

    Returns:
        what the JSON file holds.
    """
    identity = _identity(run)
    known = read_insight(run)
    found = known if known is not None and known.identity == identity else insight(run, identity)
    table = insight_table(found)
    run.folder.write(f"{RESULTS}/insight.csv", csv_text(table).encode())
    run.folder.write(f"{RESULTS}/insight.md", insight_markdown(found).encode())
    if found is not known:
        write_result(run, INSIGHT, found)
    return found


def read_insight(run: Run) -> Insight | None:
    """What ``write_insight`` wrote, or None where there is nothing, or the file is damaged."""
    return read_result(run, INSIGHT, Insight)


def insight(run: Run, identity: str = "") -> Insight:
    """What the search found out, by strategy, and the history of all its trials."""
    trials = _searched(run)
    by_strategy = {name: [trial for trial in trials if trial.strategy == name] for name in run.strategies}
    return Insight(
        identity=identity,
        strategies={name: _of_strategy(run, name, its) for name, its in by_strategy.items()},
        history=tuple(map(_history_row, trials)),
    )


def _searched(run: Run) -> list[TrialRecord]:
    """The search's trials in the order of suggestion."""
    return [trial for trial in run.trials.values() if trial.of_search]


def _identity(run: Run) -> str:
    trials = [[t.name, t.state, t.reason, to_plain(t.final), [e.f1 for e in t.epochs]] for t in _searched(run)]
    evaluated = {strategy: to_plain(_gap(run, strategy)) for strategy in run.strategies}
    return hashlib.sha256(json.dumps([trials, evaluated], sort_keys=True).encode()).hexdigest()


def _of_strategy(run: Run, strategy: str, trials: Sequence[TrialRecord]) -> StrategyInsight:
    states = Counter(trial.state for trial in trials)
    importances, note = importances_of(trials)
    return StrategyInsight(
        trials=len(trials),
        finished=states["finished"],
        stopped=states["stopped"],
        failed=states["failed"],
        expected_best=_expected_best(trials),
        gap=_gap(run, strategy),
        importances=importances,
        importances_note=note,
        stopped_after=_stopped_after(trials),
        curves={
            trial.name: TrialCurve(
                state=trial.state,
                f1=tuple(epoch.f1 for epoch in trial.epochs),
                final=trial.score if trial.state == "finished" else None,
            )
            for trial in trials
        },
    )


def _draws(trials: Sequence[TrialRecord]) -> list[float]:
    """Scores of the trials that ended; one that was retried counts as its retry, as if it had not failed."""
    retried = {trial.retry_of for trial in trials}
    ended = [t for t in trials if t.state != "running" and t.continues is None and t.name not in retried]
    return [_last_f1(trial) or 0.0 for trial in ended]


def _last_f1(trial: TrialRecord) -> float | None:
    """Validation macro F1 of the deployed model, or of a stopped or running trial's last epoch, else None."""
    if trial.state == "finished":
        return trial.score
    return trial.epochs[-1].f1 if trial.epochs and trial.state != "failed" else None


def _expected_best(trials: Sequence[TrialRecord]) -> ExpectedBestCurve:
    scores = _draws(trials)
    if not scores:
        return ExpectedBestCurve(trials=(), mean=(), low=(), high=())
    best = expected_best(np.array(scores))
    return ExpectedBestCurve(
        trials=tuple(range(1, len(scores) + 1)),
        mean=tuple(best.mean.tolist()),
        low=tuple(best.low.tolist()),
        high=tuple(best.high.tolist()),
    )


def _gap(run: Run, strategy: str) -> Gap | None:
    """The gap of the strategy's best trial, once that has been evaluated."""
    best = run.best(strategy, 1)
    figures = read_evaluation(run, best[0].name) if best else None
    if figures is None:
        return None
    validation, test = best[0].score, figures.test.f1
    return Gap(validation_f1=validation, test_f1=test, difference=validation - test)


def importances_of(trials: Sequence[TrialRecord]) -> tuple[dict[str, float] | None, str | None]:
    """Each parameter's share of the variance of validation macro F1 (fANOVA, Hutter et al. 2014), largest first.

    Macro F1 is the target also where a search had a second objective.

    Returns:
        shares that sum to 1, or None; and what they leave out, or why there are none.
    """
    finished = [t for t in trials if t.state == "finished" and t.continues is None]
    if len(finished) < FEWEST_TRIALS:
        return None, f"needs {FEWEST_TRIALS} finished trials, and there are {len(finished)}"
    if len({trial.score for trial in finished}) == 1:
        return None, "all finished trials have the same score"
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        create_trial(
            state=TrialState.COMPLETE,
            params=dict(trial.hyperparameters),
            distributions={name: json_to_distribution(d) for name, d in trial.distributions.items()},
            value=trial.score,
        )
        for trial in finished
    )
    common = intersection_search_space(study.get_trials(deepcopy=False))
    varied = [name for name in common if len({trial.hyperparameters[name] for trial in finished}) > 1]
    if not varied:
        return None, "no parameter that all finished trials have was varied"
    try:
        shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), params=varied)
    except RuntimeError:  # its trees saw no variance
        return None, "too little variance among the finished trials"
    conditional = sorted({name for trial in finished for name in trial.hyperparameters} - set(common))
    note = f"of parameters that all finished trials have; not of {', '.join(conditional)}" if conditional else None
    return {name: float(share) for name, share in shares.items()}, note


def _stopped_after(trials: Sequence[TrialRecord]) -> dict[str, int]:
    epochs = Counter(len(trial.epochs) for trial in trials if trial.state == "stopped")
    return {str(epoch): epochs[epoch] for epoch in sorted(epochs)}


def _history_row(trial: TrialRecord) -> HistoryRow:
    return HistoryRow(
        trial=trial.name,
        strategy=trial.strategy,
        number=trial.number,
        state=trial.state,
        f1=_last_f1(trial),
        epochs=len(trial.epochs),
        seconds=trial.final.seconds if trial.final else sum(epoch.seconds for epoch in trial.epochs),
    )


def insight_table(found: Insight) -> pd.DataFrame:
    """One row per figure: strategy, figure, of what, value, and the interval of an expected best."""
    rows: list[tuple[Any, ...]] = []
    for strategy, insight in found.strategies.items():
        best = insight.expected_best
        rows += [(strategy, "trials", state, getattr(insight, state), None, None) for state in _ENDS]
        for trials, *values in zip(best.trials, best.mean, best.low, best.high, strict=True):
            rows.append((strategy, "expected_best", str(trials), *values))
        plain = {
            "gap": to_plain(insight.gap),
            "importance": insight.importances,
            "stopped_after": insight.stopped_after,
        }
        for figure, values_of in plain.items():
            rows += [(strategy, figure, name, value, None, None) for name, value in (values_of or {}).items()]
    return pd.DataFrame(rows, columns=["strategy", "figure", "of", "value", "low", "high"], dtype=object)


def insight_markdown(found: Insight) -> str:
    """The same as tables that people read."""
    strategies = found.strategies
    longest = max((len(insight.expected_best.trials) for insight in strategies.values()), default=0)
    budgets = sorted({2**power for power in range(longest.bit_length())} | {longest} - {0})
    parts: dict[str, list[Row]] = {
        f"Expected best validation macro F1, by the number of trials\n\n{HOW_SCORED}": [
            {"strategy": name, **{str(n): insight.expected_best.at(n) for n in budgets}}
            for name, insight in strategies.items()
        ],
        "Validation and test macro F1 of each strategy's best trial": [
            {"strategy": name, **{field.name: getattr(insight.gap, field.name, None) for field in fields(Gap)}}
            for name, insight in strategies.items()
        ],
        "What mattered: shares of the variance of validation macro F1 (fANOVA)": [
            {"strategy": name, "importances": _words(insight.importances), "note": insight.importances_note}
            for name, insight in strategies.items()
        ],
        "How trials ended": [
            {
                "strategy": name,
                **{state: getattr(insight, state) for state in ("trials", *_ENDS)},
                "stopped after": insight.stopped_words,
            }
            for name, insight in strategies.items()
        ],
    }
    return "\n".join(f"## {title}\n\n{markdown(pd.DataFrame(rows, dtype=object))}" for title, rows in parts.items())


def _words(importances: Mapping[str, float] | None) -> str | None:
    return ", ".join(f"{name} {share:.2f}" for name, share in importances.items()) if importances else None
