"""What a search found out: whether more of it would pay, what mattered, and how its trials went."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import json_to_distribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.search_space import intersection_search_space
from optuna.trial import TrialState, create_trial

from analysis.evaluation.evaluate import test_figures
from analysis.evaluation.predictions import TEST
from analysis.statistics.selection import expected_best
from analysis.text_tables import csv_text, markdown
from run_folder.names import RESULTS
from run_folder.records import to_plain
from run_folder.run import Run
from run_folder.trials import TrialRecord

logging.getLogger("optuna").setLevel(logging.WARNING)

INSIGHT = f"{RESULTS}/insight.json"
FEWEST_TRIALS = 4
"""Finished trials below which no importances are told."""

HOW_SCORED = (
    "Expected best: validation macro F1 of the deployed model; a trial that failed counts 0, one that was stopped "
    "its last epoch's value. Trials that go on from another are left out."
)


def write_insight(run: Run) -> dict[str, Any]:
    """Write ``results/insight.json``, ``.md`` and ``.csv``, unless those there are of these trials; returns the first.

    Repetitions with other seeds are no part of the search, and so of nothing here.
    """
    identity = _identity(run)
    if run.folder.exists(INSIGHT):
        known: dict[str, Any] = json.loads(run.folder.read(INSIGHT))
        if known["identity"] == identity:
            return known
    found = {"identity": identity, **insight(run)}
    table = insight_table(found)
    run.folder.write(f"{RESULTS}/insight.csv", csv_text(table).encode())
    run.folder.write(f"{RESULTS}/insight.md", insight_markdown(found).encode())
    run.folder.write(INSIGHT, json.dumps(found, indent=2, allow_nan=False).encode())
    return found


def insight(run: Run) -> dict[str, Any]:
    """By strategy: counts, expected best, gap, importances, where stopped, curves; and the history of all trials."""
    trials = _searched(run)
    by_strategy = {name: [trial for trial in trials if trial.strategy == name] for name in run.strategies}
    return {
        "strategies": {name: _of_strategy(run, name, its) for name, its in by_strategy.items()},
        "history": [_history_row(trial) for trial in trials],
    }


def _searched(run: Run) -> list[TrialRecord]:
    """In the order in which they were suggested."""
    return [trial for trial in run.trials.values() if trial.repeats is None]


def _identity(run: Run) -> str:
    trials = [[t.name, t.state, t.reason, to_plain(t.final), [e.f1 for e in t.epochs]] for t in _searched(run)]
    evaluated = {strategy: _gap(run, strategy) for strategy in run.strategies}
    return hashlib.sha256(json.dumps([trials, evaluated], sort_keys=True).encode()).hexdigest()


def _of_strategy(run: Run, strategy: str, trials: Sequence[TrialRecord]) -> dict[str, Any]:
    states = Counter(trial.state for trial in trials)
    importances, note = importances_of(trials)
    return {
        "trials": len(trials),
        **{state: states[state] for state in ("finished", "stopped", "failed")},
        "expected_best": _expected_best(trials),
        "gap": _gap(run, strategy),
        "importances": importances,
        "importances_note": note,
        "stopped_after": _stopped_after(trials),
        "curves": {
            trial.name: {
                "state": trial.state,
                "f1": [epoch.f1 for epoch in trial.epochs],
                "final": trial.score if trial.state == "finished" else None,
            }
            for trial in trials
        },
    }


def _draws(trials: Sequence[TrialRecord]) -> list[float]:
    """Scores of the trials that ended; one that was retried counts as its retry, as if it had not failed."""
    retried = {trial.retry_of for trial in trials}
    ended = [t for t in trials if t.state != "running" and t.continues is None and t.name not in retried]
    return [_last_f1(trial) or 0.0 for trial in ended]


def _last_f1(trial: TrialRecord) -> float | None:
    """Of the deployed model, or of a stopped or running trial's last epoch; None where it failed or has none."""
    if trial.state == "finished":
        return trial.score
    return trial.epochs[-1].f1 if trial.epochs and trial.state != "failed" else None


def _expected_best(trials: Sequence[TrialRecord]) -> dict[str, list[float]]:
    scores = _draws(trials)
    if not scores:
        return {"trials": [], "mean": [], "low": [], "high": []}
    best = expected_best(np.array(scores))
    return {
        "trials": list(range(1, len(scores) + 1)),
        "mean": best.mean.tolist(),
        "low": best.low.tolist(),
        "high": best.high.tolist(),
    }


def _gap(run: Run, strategy: str) -> dict[str, float] | None:
    """Validation macro F1 of the strategy's best trial less its test macro F1, once that is known."""
    best = run.best(strategy, 1)
    figures = test_figures(run, best[0].name) if best else None
    if figures is None or figures[TEST]["f1"] is None:
        return None
    validation, test = best[0].score, float(figures[TEST]["f1"])
    return {"validation_f1": validation, "test_f1": test, "difference": validation - test}


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


def _history_row(trial: TrialRecord) -> dict[str, Any]:
    return {
        "trial": trial.name,
        "strategy": trial.strategy,
        "number": trial.number,
        "state": trial.state,
        "f1": _last_f1(trial),
        "epochs": len(trial.epochs),
        "seconds": trial.final.seconds if trial.final else sum(epoch.seconds for epoch in trial.epochs),
    }


def insight_table(found: Mapping[str, Any]) -> pd.DataFrame:
    """One row per figure: strategy, figure, of what, value, and the interval of an expected best."""
    rows: list[tuple[Any, ...]] = []
    for strategy, its in found["strategies"].items():
        rows += [(strategy, "trials", state, its[state], None, None) for state in ("finished", "stopped", "failed")]
        best = its["expected_best"]
        for trials, *values in zip(*(best[name] for name in ("trials", "mean", "low", "high")), strict=True):
            rows.append((strategy, "expected_best", str(trials), *values))
        plain = {"gap": its["gap"], "importance": its["importances"], "stopped_after": its["stopped_after"]}
        for figure, values_of in plain.items():
            rows += [(strategy, figure, of, value, None, None) for of, value in (values_of or {}).items()]
    return pd.DataFrame(rows, columns=["strategy", "figure", "of", "value", "low", "high"], dtype=object)


def insight_markdown(found: Mapping[str, Any]) -> str:
    """The same as tables that people read."""
    strategies = found["strategies"]
    longest = max((len(its["expected_best"]["trials"]) for its in strategies.values()), default=0)
    budgets = sorted({2**power for power in range(longest.bit_length())} | {longest} - {0})
    parts = {
        f"Expected best validation macro F1, by the number of trials\n\n{HOW_SCORED}": [
            {"strategy": name, **{str(n): _at(its["expected_best"], n) for n in budgets}}
            for name, its in strategies.items()
        ],
        "Validation and test macro F1 of each strategy's best trial": [
            {"strategy": name, **(its["gap"] or dict.fromkeys(("validation_f1", "test_f1", "difference")))}
            for name, its in strategies.items()
        ],
        "What mattered: shares of the variance of validation macro F1 (fANOVA)": [
            {"strategy": name, "importances": _words(its["importances"]), "note": its["importances_note"]}
            for name, its in strategies.items()
        ],
        "How trials ended": [
            {
                "strategy": name,
                **{state: its[state] for state in ("trials", "finished", "stopped", "failed")},
                "stopped after": ", ".join(f"epoch {epoch}: {n}" for epoch, n in its["stopped_after"].items()) or None,
            }
            for name, its in strategies.items()
        ],
    }
    return "\n".join(f"## {title}\n\n{markdown(pd.DataFrame(rows, dtype=object))}" for title, rows in parts.items())


def _at(best: Mapping[str, Sequence[float]], trials: int) -> float | None:
    return best["mean"][trials - 1] if trials <= len(best["mean"]) else None


def _words(importances: Mapping[str, float] | None) -> str | None:
    return ", ".join(f"{name} {share:.2f}" for name, share in importances.items()) if importances else None
