"""The leaderboard of best configurations, and the paper's Tables I and II."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from analysis.evaluation.controls import CONTROLS
from analysis.evaluation.costs import Costs, read_costs
from analysis.evaluation.evaluate import Evaluation, read_evaluation
from analysis.evaluation.front import tested_front
from analysis.evaluation.predictions import TEST, VALIDATION
from analysis.evaluation.run_statistics import (
    ModelStatistics,
    SeedsFigure,
    Statistics,
    StrategyStatistics,
    compared_trials,
    read_statistics,
)
from analysis.statistics.resampling import METRICS, OVERALL
from analysis.statistics.verdict import Verdict
from analysis.text_tables import Cell, Row, cell_text, csv_text, latex, markdown, short
from run_folder.events import read_events, skipped_strategies
from run_folder.names import DEPLOYED, RESULTS, TRIALS
from run_folder.results import Scores
from run_folder.run import Run
from run_folder.trials import Objective, TrialRecord, pareto_front
from trainables import scheme_note
from trainables.references import BASELINE, epochs_in_all

SIZE_AND_QUALITY: tuple[Objective, ...] = (("f1", "maximize"), ("bytes", "minimize"))
"""Rows that no other surpasses in both are the leaderboard's Pareto front."""
NOT_DEFINED = "not defined"
NOT_EVALUATED = "not evaluated"

Known = Mapping[str, StrategyStatistics | ModelStatistics]
"""By strategy or control: statistics of the models that the tables show."""

_SIZES = ("scheme", "parameters", "nonzero_parameters", "bytes", "macs", "runtime")


@dataclass(frozen=True)
class Leaderboard:
    """The tables of a run.

    Attributes:
        best: one row per evaluated trial, best validation macro F1 first, then the controls.
        table1: the paper's Table I: a row per strategy (its best trial, or the mean over its seeds) and control, test
            macro figures with intervals, and the difference from the baseline's macro F1.
        table2: the paper's Table II: a row per symptom and strategy, one against the rest, with intervals.
        verdicts: a row per strategy: its verdict against the baseline; empty where there is none.
        notes: how to read the figures of tables and verdicts.
        without: strategies that have no row, with the reason.
    """

    best: pd.DataFrame
    table1: pd.DataFrame
    table2: pd.DataFrame
    verdicts: pd.DataFrame
    notes: tuple[str, ...]
    without: Mapping[str, str]

    def tables(self) -> dict[str, pd.DataFrame]:
        """File name (without ending) to table."""
        tables = {"leaderboard": self.best, "table1": self.table1, "table2": self.table2}
        return tables if self.verdicts.empty else {**tables, "verdicts": self.verdicts}


def build_leaderboard(run: Run, top: int) -> Leaderboard:
    """Tables of the ``top`` best trials of each strategy and the controls; what is not evaluated says so.

    Ranks follow the deployed model's validation macro F1; the test figures decide nothing.
    """
    best = {strategy: run.best(strategy, top) for strategy in run.strategies}
    costs = read_costs(run)
    reference = best[BASELINE][0].name if best.get(BASELINE) else None
    longer = {row: names[0] for row, names in compared_trials(run).items() if row not in best}
    names = [*(trial.name for trials in best.values() for trial in trials), *longer.values(), *tested_front(run)]
    figures = {name: found for name in (*names, *CONTROLS) if (found := read_evaluation(run, name))}
    shown = {t.name: t for trials in best.values() for t in trials} | {
        name: run.trials[name] for name in tested_front(run)
    }
    trials = sorted(shown.values(), key=lambda t: (-t.score, t.strategy, t.number))
    front = pareto_front(
        [[trial.figure(metric) for metric, _ in SIZE_AND_QUALITY] for trial in trials], SIZE_AND_QUALITY
    )
    first = {strategy: trials[0].name for strategy, trials in best.items() if trials} | longer
    first |= {name: name for name in CONTROLS if name in figures}
    statistics = read_statistics(run)
    known = _known(statistics, first)
    tested = _tested(figures, known)
    rows = [
        _trial_row(run, trial, tested.get(trial.name), _cost_columns(costs, trial.name, reference))
        | {"rank": rank, "pareto": on_front}
        for rank, (trial, on_front) in enumerate(zip(trials, front, strict=True), start=1)
    ]
    rows += [
        _trial_row(run, run.trials[name], tested.get(name), _cost_columns(costs, name, reference)) | {"strategy": row}
        for row, name in longer.items()
    ]
    rows += [_control_row(name, figures[name]) for name in CONTROLS if name in figures]
    evaluated = {strategy: figures[name].test for strategy, name in first.items() if name in figures}
    without = {strategy: _why_none(run, strategy) for strategy, trials in best.items() if not trials}
    return Leaderboard(
        best=pd.DataFrame(rows, dtype=object),  # keeps integers next to gaps
        table1=_frame(
            [
                {
                    "strategy": strategy,
                    **_figures(metrics, known.get(strategy), OVERALL),
                    **(_against(known, strategy) if known else {}),
                }
                for strategy, metrics in evaluated.items()
            ]
        ),
        table2=_frame(
            [
                {
                    "symptom": symptom,
                    "strategy": strategy,
                    **_figures(metrics.per_symptom[symptom], known.get(strategy), symptom),
                }
                for symptom in run.symptoms
                for strategy, metrics in evaluated.items()
            ]
        ),
        verdicts=pd.DataFrame(_verdict_rows(run.strategies, known, without), dtype=object),
        notes=_notes(statistics, known, run.text_word),
        without=without,
    )


def _tested(figures: Mapping[str, Evaluation], known: Known) -> dict[str, Row]:
    """By trial, its figures on the test set as the leaderboard shows them: the mean over its seeds, as in Table I."""
    rows = {name: _prefixed(TEST, found.test) for name, found in figures.items()}
    for found in _of_strategies(known).values():
        means = {metric: figure.point for metric, figure in found.figures[OVERALL].items()}
        rows[found.trial] = {f"{TEST}_{m}": NOT_DEFINED if mean is None else mean for m, mean in means.items()}
    return rows


def _known(statistics: Statistics | None, first: Mapping[str, str]) -> Known:
    """Statistics of the strategies whose best trials these are, and of the controls."""
    known: dict[str, StrategyStatistics | ModelStatistics] = {}
    if statistics is None:
        return known
    for strategy, name in first.items():
        if strategy in statistics.strategies:
            if statistics.strategies[strategy].trial == name:
                known[strategy] = statistics.strategies[strategy]
        elif name in statistics.models:
            known[strategy] = statistics.models[name]
    return known


def _of_strategies(known: Known) -> dict[str, StrategyStatistics]:
    return {name: statistics for name, statistics in known.items() if isinstance(statistics, StrategyStatistics)}


def _frame(rows: Sequence[Row]) -> pd.DataFrame:
    """A table without the deviations over seeds where no strategy has several."""
    table = pd.DataFrame(rows, dtype=object)
    empty = [name for name in table if str(name).endswith("_deviation") and table[name].isna().all()]
    return table.drop(columns=empty)


def _figures(metrics: Scores, known: StrategyStatistics | ModelStatistics | None, row: str) -> Row:
    """Figures overall or of a symptom; with their intervals, as means over the seeds, where these are known."""
    names = METRICS if row == OVERALL else METRICS[1:]
    if known is None:
        return {name: _score(metrics, name) for name in names}
    figures = known.figures[row]
    cells: Row = {name: NOT_DEFINED if figures[name].point is None else figures[name].point for name in names}
    for name in names:
        figure = figures[name]
        cells |= {f"{name}_low": figure.low, f"{name}_high": figure.high}
        cells[f"{name}_deviation"] = figure.deviation if isinstance(figure, SeedsFigure) else None
    return cells | {"seeds": len(known.seeds) if isinstance(known, StrategyStatistics) else None}


def _verdict(known: Known, strategy: str) -> Verdict | None:
    statistics = known.get(strategy)
    return statistics.verdict if isinstance(statistics, StrategyStatistics) else None


def _against(known: Known, strategy: str) -> Row:
    """The strategy's macro F1 against the baseline's."""
    return _difference(_verdict(known, strategy)) | {"verdict": _words(known, strategy)}


def _difference(verdict: Verdict | None) -> Row:
    return {
        "difference": verdict.difference if verdict else None,
        "difference_low": verdict.low if verdict else None,
        "difference_high": verdict.high if verdict else None,
        "p": verdict.p if verdict else None,
    }


def _words(known: Known, strategy: str) -> str | None:
    if not isinstance(known.get(strategy), StrategyStatistics):  # a control
        return None
    if strategy == BASELINE:
        return "the baseline"
    verdict = _verdict(known, strategy)
    if verdict is None and strategy.startswith(f"{BASELINE}-"):
        return "the baseline, trained on"
    if verdict is not None:
        return verdict.words
    found = known[strategy]
    lacks = BASELINE in known and isinstance(found, StrategyStatistics) and found.reference is None
    return "no baseline was trained for as many epochs" if lacks else "no baseline to compare with"


_VERDICT = ("p_not_worse", "not_worse", "margin", "patients", "patients_needed", "of_training")


def _verdict_rows(strategies: Sequence[str], known: Known, without: Mapping[str, str]) -> list[Row]:
    rows = []
    judged = _of_strategies(known)
    for strategy in strategies if known else ():
        found, verdict = judged.get(strategy), _verdict(known, strategy)
        row: Row = {"strategy": strategy, "trial": found.trial if found else None}
        row |= {"seeds": len(found.seeds) if found else None}
        row |= {"epochs": found.epochs if found else None, "reference": found.reference if found else None}
        row |= {"outcome": str(verdict.outcome) if verdict else None, **_difference(verdict)}
        row |= {name: getattr(verdict, name, None) for name in _VERDICT}
        missing = f"no model ({without[strategy]})" if strategy in without else NOT_EVALUATED
        rows.append({**row, "words": _words(known, strategy) or missing})
    return rows


def _notes(statistics: Statistics | None, known: Known, text_word: str) -> tuple[str, ...]:
    """How to read the figures of tables I and II and the verdicts, a line each."""
    if statistics is None:
        return ()
    strategies = _of_strategies(known)
    notes = []
    if strategies:
        notes.append(
            f"[low, high]: {100 * statistics.level:g} % intervals over {statistics.patients:,} test patients, "
            f"{statistics.examples:,} {text_word}s."
        )
        notes += _seed_notes(strategies)
    if any(strategy.verdict for strategy in strategies.values()):
        notes.append(
            f"Verdicts: macro F1 against the baseline, p corrected over the strategies, margin {statistics.margin:g}."
        )
        notes += _longer_notes(strategies)
    return (*notes, *([f"Note: {statistics.undefined_note}."] if statistics.undefined_note else []))


def _longer_notes(strategies: Mapping[str, StrategyStatistics]) -> list[str]:
    """Which strategies are compared with a baseline that was trained further than the best one."""
    longer = sorted({s.reference for s in strategies.values() if s.reference not in (None, BASELINE)})  # type: ignore[type-var]
    compared = {row: [name for name, s in strategies.items() if s.reference == row] for row in longer}
    return [
        f"{row}: the baseline, trained further; of those trained for at least as many epochs the best, and so what is "
        f"compared with {', '.join(names)}."
        for row, names in compared.items()
    ]


def _seed_notes(strategies: Mapping[str, StrategyStatistics]) -> list[str]:
    """Which figures are means over several trainings, and which are of one."""
    spread = [
        f"{name} {short(f1.point)} ± {short(f1.deviation)} ({len(strategy.seeds)} seeds)"
        for name, strategy in strategies.items()
        if (f1 := strategy.macro_f1).point is not None and f1.deviation is not None
    ]
    once = [name for name, strategy in strategies.items() if len(strategy.seeds) == 1]
    notes = [f"Means over n seeds ± standard deviation over them, F1: {', '.join(spread)}."] * bool(spread)
    if once:
        which = ", ".join(once) if spread else "each strategy"
        notes.append(f"1 seed of {which}: its interval tells what other patients would change, not another training.")
    return notes


def _cost_columns(costs: Costs, name: str, reference: str | None) -> Row:
    """Measured costs on the CPU, and on the GPU where there was one; a speed-up is against the best baseline."""
    columns: Row = {}
    for prefix, measured in (("", costs.cpu), ("gpu_", costs.gpu)):
        if measured is not None:
            of_model, of_baseline = measured.get(name), measured.get(reference or "")
            faster = of_baseline.latency_median / of_model.latency_median if of_model and of_baseline else None
            columns[f"{prefix}speed_up"] = faster
            figures = ("latency_median", "latency_p95", "throughput", *(() if prefix else ("peak_memory_bytes",)))
            columns |= {f"{prefix}{figure}": getattr(of_model, figure, None) for figure in figures}
    return columns


def _trial_row(run: Run, trial: TrialRecord, tested: Row | None, costs: Row) -> Row:
    final = trial.deployed
    return {
        "rank": None,
        "strategy": trial.strategy,
        **_prefixed(VALIDATION, final.validation),
        **(tested or _prefixed(TEST, None)),
        **{name: getattr(final, name) for name in _SIZES},
        **costs,
        "pareto": False,
        "epochs": epochs_in_all(run.trials, trial),
        "best_epoch": final.epoch,
        "training_seconds": round(final.seconds, 2),
        "trial": trial.name,
        "checkpoint": f"{TRIALS}/{trial.name}/{DEPLOYED}",
        **{f"hp_{name}": value for name, value in trial.hyperparameters.items()},
    }


def _control_row(name: str, figures: Evaluation) -> Row:
    return {
        "rank": None,
        "strategy": name,
        **_prefixed(VALIDATION, figures.validation),
        **_prefixed(TEST, figures.test),
    }


def _prefixed(split: str, metrics: Scores | None) -> Row:
    return {f"{split}_{name}": _score(metrics, name) if metrics else NOT_EVALUATED for name in METRICS}


def _score(metrics: Scores, name: str) -> Cell:
    value: float | None = getattr(metrics, name)
    return NOT_DEFINED if value is None else value


def _why_none(run: Run, strategy: str) -> str:
    skipped = skipped_strategies(read_events(run.folder))
    if strategy in skipped:
        return skipped[strategy]
    trials = [trial for trial in run.trials.values() if trial.strategy == strategy and trial.of_search]
    failures = [trial for trial in trials if trial.state == "failed"]
    if trials and len(failures) == len(trials):
        reasons = "; ".join(dict.fromkeys(str(trial.reason) for trial in failures))
        return f"all {len(trials)} trials failed: {reasons}"
    return "no trial has finished yet"


def write_leaderboard(run: Run, leaderboard: Leaderboard) -> None:
    """Write each table as CSV, JSON, Markdown and LaTeX under the run's ``results/``."""
    notes = scheme_notes(leaderboard.best)
    for name, table in leaderboard.tables().items():
        shown = _gaps_as_none(table)
        files = {
            "csv": csv_text(shown),
            "json": json.dumps(shown.to_dict("records"), indent=2, allow_nan=False),
            "md": markdown(shown)
            + "".join(f"\n{n}\n" for n in (notes if name == "leaderboard" else leaderboard.notes)),
            "tex": latex(_compact(name, shown)),
        }
        for ending, content in files.items():
            run.folder.write(f"{RESULTS}/{name}.{ending}", content.encode())


def _gaps_as_none(table: pd.DataFrame) -> pd.DataFrame:
    return table.astype(object).where(table.notna(), None)


def _compact(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """A written table with the columns that fit a page: figures together with their intervals."""
    if name == "leaderboard":
        return _best_shown(table).replace({"●": "yes"})
    rows = table.to_dict("records")
    return pd.DataFrame(
        {_TITLES.get(column, column): [_with_ends(row, column) for row in rows] for column in _COMPACT[name]}
    )


def _with_ends(row: Mapping[Any, Any], name: str) -> str:
    """A figure with its interval, as far as they are defined: ``.882 [.841, .917]``."""
    point, low = row[name], row.get(f"{name}_low")
    if not isinstance(point, float) or f"{name}_low" not in row:
        return cell_text(point)
    return short(point) if low is None else f"{short(point)} [{short(low)}, {short(row[f'{name}_high'])}]"


_COMPACT: Mapping[str, Sequence[str]] = {
    "table1": ("strategy", *METRICS),
    "table2": ("symptom", "strategy", *METRICS[1:]),
    "verdicts": ("strategy", "difference", "p", "outcome"),
}
_TITLES = {"f1": "F1", "auroc": "AUROC"}
_SHOWN = {
    "rank": "rank",
    "trial": "trial",
    "scheme": "scheme",
    "validation_f1": "val F1",
    "test_f1": "test F1",
    "epochs": "epochs",
    "bytes": "MB",
    "latency_median": "ms",
    "speed_up": "speed-up",
    "gpu_latency_median": "GPU ms",
    "gpu_speed_up": "GPU speed-up",
    "pareto": "Pareto",
}
"""Columns that fit a terminal; all of them are in the files."""


def scheme_notes(best: pd.DataFrame) -> list[str]:
    """What the rows' schemes bring and what they do not, a sentence for each scheme that needs one."""
    rows = best[["strategy", "scheme"]].dropna() if "scheme" in best else pd.DataFrame(columns=["strategy", "scheme"])
    found = {scheme: scheme_note(strategy, scheme) for strategy, scheme in rows.itertuples(index=False)}
    return [f"{scheme}: {note}" for scheme, note in sorted(found.items()) if note]


def print_leaderboard(leaderboard: Leaderboard, console: Console) -> None:
    """Print the leaderboard with its searched parameters, and the paper's two tables."""
    if leaderboard.best.empty:
        console.print("Nothing has been evaluated yet.")
    else:
        _print_best(leaderboard.best, console)
    if not leaderboard.table1.empty:
        _print_table1(leaderboard, console)
        _print_by_symptom(leaderboard.table2, console)
    for row in leaderboard.verdicts.to_dict("records"):
        if row["trial"] and row["strategy"] != BASELINE:
            console.print(f"{row['strategy']}: {row['words']}", markup=False, highlight=False, soft_wrap=True)
    for strategy, reason in leaderboard.without.items():
        console.print(f"{strategy}: no model ({reason})", markup=False, highlight=False, soft_wrap=True)


def _print_best(best: pd.DataFrame, console: Console) -> None:
    table = _table("Best configurations, by the deployed model's validation macro F1")
    shown = _best_shown(best)
    for name in shown:
        table.add_column(str(name), justify="left" if name in ("trial", "scheme") else "right", no_wrap=True)
    for cells in shown.itertuples(index=False):
        table.add_row(*map(str, cells))
    console.print(table)
    console.print(
        "MB: weights on disk. ms: one text, one thread. speed-up: against the best baseline.\n"
        "epochs: of training in all, with those of the models that it started from.\n"
        "Pareto: no other row is both better (val F1) and smaller.",
        highlight=False,
    )
    for note in scheme_notes(best):
        console.print(note, highlight=False)
    if "latency_median" in best and best["latency_median"].isna().all():
        console.print("Costs have not been measured yet: `symptune evaluate` does that.", highlight=False)
    console.print()
    searched = [name for name in best.columns if str(name).startswith("hp_")]
    for row in best[best["rank"].notna()].to_dict("records"):
        chosen = ", ".join(f"{str(n)[3:]}={cell_text(row[n])}" for n in searched if pd.notna(row[n]))
        console.print(f"  {row['trial']}: {chosen}", markup=False, highlight=False, soft_wrap=True)


def _best_shown(best: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard's columns that fit a terminal or a page, as text."""
    shown = best.assign(trial=best["trial"].fillna(best["strategy"])) if "trial" in best else best
    columns = [name for name in _SHOWN if name in best.columns]
    rows = _gaps_as_none(shown[columns]).to_dict("records")
    return pd.DataFrame([{_SHOWN[str(name)]: _shown(str(name), value) for name, value in row.items()} for row in rows])


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1), title_style="bold")


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name == "pareto":
        return "●" if value else ""
    if name.endswith("speed_up"):
        return f"{value:.2f} ×"
    if name.endswith("latency_median"):
        return f"{value * 1e3:.2f}"
    return f"{value / 1e6:.1f}" if name in ("bytes", "parameters") else cell_text(value)


def _print_plain(frame: pd.DataFrame, title: str, console: Console) -> None:
    table = _table(title)
    for name in frame.columns:
        table.add_column(str(name), justify="left" if name == "strategy" else "right", no_wrap=True)
    for row in frame.itertuples(index=False):
        table.add_row(*map(cell_text, row))
    console.print(table)


def _print_table1(leaderboard: Leaderboard, console: Console) -> None:
    """Accuracy, F1 and AUROC with their intervals, which fit a terminal; without intervals, all figures."""
    title = "Test set, macro averages (the paper's Table I)"
    with_intervals = "f1_low" in leaderboard.table1
    shown = _compact("table1", _gaps_as_none(leaderboard.table1)).drop(
        columns=["precision", "recall"] if with_intervals else []
    )
    _print_plain(shown if with_intervals else leaderboard.table1, title, console)
    for note in leaderboard.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def _print_by_symptom(table2: pd.DataFrame, console: Console) -> None:
    """F1 of each symptom, a column each, with half of its interval where that fits; the rest is in the files."""
    symptoms = table2["symptom"].unique()
    fits = (
        "f1_low" in table2
        and sum(max(len(symptom), len(".882 ± .041")) + 3 for symptom in symptoms) + 20 <= console.width
    )
    rows = _gaps_as_none(table2).to_dict("records")
    shown = table2.assign(f1=[_with_half(row) for row in rows]) if fits else table2
    wide = shown.pivot_table(index="strategy", columns="symptom", values="f1", sort=False, aggfunc="first")
    title = f"Test F1 by symptom{', ± half of its interval' if fits else ''} (all of Table II is in the files)"
    _print_plain(wide.reset_index().astype(object), title, console)


def _with_half(row: Mapping[Any, Any]) -> str:
    point, low, high = row["f1"], row["f1_low"], row["f1_high"]
    if not isinstance(point, float):
        return cell_text(point)
    return short(point) if low is None else f"{short(point)} ± {short((high - low) / 2)}"
