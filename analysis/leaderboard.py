"""The leaderboard of best configurations, and the paper's Tables I and II."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from analysis.controls import CONTROLS
from analysis.evaluate import TEST, test_figures
from analysis.run import DEPLOYED, RESULTS, TRIALS, Run, TrialRecord, read_events

METRICS = ("accuracy", "precision", "recall", "f1", "auroc")
NOT_DEFINED = "not defined"
NOT_EVALUATED = "not evaluated"

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Leaderboard:
    """The tables of a run.

    Attributes:
        best: one row per evaluated trial, best validation macro F1 first, then the controls.
        table1: the paper's Table I: a row per strategy (its best trial) and control, test macro figures.
        table2: the paper's Table II: a row per symptom and strategy, one against the rest.
        without: strategies that have no row, with the reason.
    """

    best: pd.DataFrame
    table1: pd.DataFrame
    table2: pd.DataFrame
    without: Mapping[str, str]

    def tables(self) -> dict[str, pd.DataFrame]:
        """File name (without ending) to table."""
        return {"leaderboard": self.best, "table1": self.table1, "table2": self.table2}


def build_leaderboard(run: Run, top: int) -> Leaderboard:
    """Tables of the ``top`` best trials of each strategy and the controls; what is not evaluated says so.

    Ranks follow the deployed model's validation macro F1; the test figures decide nothing.
    """
    best = {strategy: run.best(strategy, top) for strategy in run.strategies}
    figures = {trial.name: test_figures(run, trial.name) for trials in best.values() for trial in trials}
    figures |= {name: test_figures(run, name) for name in CONTROLS}
    trials = sorted((t for trials in best.values() for t in trials), key=lambda t: (-t.score, t.strategy, t.number))
    rows = [_trial_row(rank, trial, figures[trial.name]) for rank, trial in enumerate(trials, start=1)]
    rows += [_control_row(name, figures[name]) for name in CONTROLS if figures[name]]
    first = {strategy: trials[0].name for strategy, trials in best.items() if trials}
    first |= {name: name for name in CONTROLS if figures[name]}
    evaluated = {strategy: figures[name] for strategy, name in first.items() if figures[name]}
    return Leaderboard(
        best=pd.DataFrame(rows, dtype=object),  # keeps integers beside gaps
        table1=pd.DataFrame([_table1_row(strategy, found[TEST]) for strategy, found in evaluated.items() if found]),
        table2=pd.DataFrame(
            [
                {"symptom": symptom, "strategy": strategy, **_scores(found[TEST]["per_symptom"][symptom], METRICS[1:])}
                for symptom in run.symptoms
                for strategy, found in evaluated.items()
                if found
            ]
        ),
        without={strategy: _why_none(run, strategy) for strategy, trials in best.items() if not trials},
    )


def _trial_row(rank: int, trial: TrialRecord, figures: Mapping[str, Any] | None) -> dict[str, Any]:
    final = trial.final
    return {
        "rank": rank,
        "strategy": trial.strategy,
        **_prefixed("validation", final["validation"]),
        **_prefixed("test", figures[TEST] if figures else None),
        **{name: final[name] for name in ("parameters", "nonzero_parameters", "bytes", "runtime")},
        "best_epoch": final["epoch"],
        "training_seconds": round(final["seconds"], 2),
        **{f"hp_{name}": value for name, value in trial.hyperparameters.items()},
        "trial": trial.name,
        "checkpoint": f"{TRIALS}/{trial.name}/{DEPLOYED}",
    }


def _control_row(name: str, figures: Mapping[str, Any] | None) -> dict[str, Any]:
    assert figures is not None
    return {
        "rank": None,
        "strategy": name,
        **_prefixed("validation", figures["validation"]),
        **_prefixed("test", figures[TEST]),
    }


def _prefixed(prefix: str, metrics: Mapping[str, Any] | None) -> dict[str, Any]:
    scores = _scores(metrics, METRICS) if metrics else dict.fromkeys(METRICS, NOT_EVALUATED)
    return {f"{prefix}_{name}": value for name, value in scores.items()}


def _scores(metrics: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: NOT_DEFINED if metrics[name] is None else metrics[name] for name in names}


def _table1_row(strategy: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {"strategy": strategy, **_scores(metrics, METRICS)}


def _why_none(run: Run, strategy: str) -> str:
    skipped = {e["strategy"]: e["reason"] for e in read_events(run.folder) if e["event"] == "skipped"}
    if strategy in skipped:
        return str(skipped[strategy])
    trials = [trial for trial in run.trials.values() if trial.strategy == strategy]
    failures = [trial for trial in trials if trial.state == "failed"]
    if trials and len(failures) == len(trials):
        reasons = "; ".join(dict.fromkeys(str(trial.reason) for trial in failures))
        return f"all {len(trials)} trials failed: {reasons}"
    return "no trial has finished yet"


def write_leaderboard(run: Run, leaderboard: Leaderboard) -> None:
    """Write each table as CSV, JSON and Markdown under the run's ``results/``."""
    for name, table in leaderboard.tables().items():
        shown = table.astype(object).where(table.notna(), None)
        files = {
            "csv": _csv(shown),
            "json": json.dumps(shown.to_dict("records"), indent=2, allow_nan=False),
            "md": _markdown(shown),
        }
        for ending, content in files.items():
            run.folder.write(f"{RESULTS}/{name}.{ending}", content.encode())


def _csv(table: pd.DataFrame) -> str:
    buffer = io.StringIO()
    table.rename(columns=_defused).map(_defused).to_csv(buffer, index=False)
    return buffer.getvalue()


def _defused(value: Any) -> Any:
    """A text cell that a spreadsheet would run as a formula, made plain."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value


def _markdown(table: pd.DataFrame) -> str:
    lines = [list(table.columns), ["---"] * len(table.columns), *([*row] for row in table.itertuples(index=False))]
    cells = (" | ".join(_cell(value).replace("|", "\\|") for value in line) for line in lines)
    return "".join(f"| {row} |\n" for row in cells)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.2e}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


_SHOWN = {
    "rank": "rank",
    "strategy": "strategy",
    "validation_f1": "val F1",
    "test_accuracy": "test acc.",
    "test_f1": "test F1",
    "test_auroc": "test AUROC",
    "parameters": "M params",
    "bytes": "MB",
    "trial": "trial",
}


def print_leaderboard(leaderboard: Leaderboard, console: Console) -> None:
    """Print the leaderboard with its searched parameters, and the paper's two tables."""
    if leaderboard.best.empty:
        console.print("Nothing has been evaluated yet.")
    else:
        _print_best(leaderboard.best, console)
    if not leaderboard.table1.empty:
        _print_plain(leaderboard.table1, "Test set, macro averages (the paper's Table I)", console)
        _print_by_symptom(leaderboard.table2, console)
    for strategy, reason in leaderboard.without.items():
        console.print(f"{strategy}: no model ({reason})", markup=False, highlight=False, soft_wrap=True)


def _print_best(best: pd.DataFrame, console: Console) -> None:
    table = Table(title="Best configurations, by the deployed model's validation macro F1", title_justify="left")
    columns = [name for name in _SHOWN if name in best.columns]
    for name in columns:
        is_name = name in ("strategy", "trial")
        table.add_column(_SHOWN[name], justify="left" if is_name else "right", no_wrap=is_name)
    for row in best[columns].astype(object).where(best[columns].notna(), None).to_dict("records"):
        table.add_row(*(_shown(str(name), value) for name, value in row.items()))
    console.print(table)
    searched = [name for name in best.columns if str(name).startswith("hp_")]
    for row in best[best["rank"].notna()].to_dict("records"):
        chosen = ", ".join(f"{str(n)[3:]}={_cell(row[n])}" for n in searched if pd.notna(row[n]))
        console.print(f"  {row['trial']}: {chosen}", markup=False, highlight=False, soft_wrap=True)


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "–"
    return f"{value / 1e6:.1f}" if name in ("bytes", "parameters") else _cell(value)


def _print_plain(frame: pd.DataFrame, title: str, console: Console) -> None:
    table = Table(title=title, title_justify="left")
    for name in frame.columns:
        table.add_column(str(name), justify="left" if name == "strategy" else "right")
    for row in frame.itertuples(index=False):
        table.add_row(*map(_cell, row))
    console.print(table)


def _print_by_symptom(table2: pd.DataFrame, console: Console) -> None:
    """F1 of each symptom, a column each; the other figures are in the files."""
    wide = table2.pivot_table(index="strategy", columns="symptom", values="f1", sort=False, aggfunc="first")
    wide = wide.reset_index().astype(object)
    _print_plain(wide, "Test F1 by symptom (all of the paper's Table II is in the files)", console)
