"""The leaderboard of best configurations, and the paper's Tables I and II."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from analysis.controls import CONTROLS
from analysis.cost import COST_FIGURES, read_costs
from analysis.evaluate import TEST, test_figures
from analysis.run import (
    DEPLOYED,
    RESULTS,
    TRIALS,
    Objective,
    Run,
    TrialRecord,
    pareto_front,
    read_events,
    skipped_strategies,
)
from analysis.tables import cell_text, csv_text, markdown

METRICS = ("accuracy", "precision", "recall", "f1", "auroc")
SIZE_AND_QUALITY: tuple[Objective, ...] = (("f1", "maximize"), ("bytes", "minimize"))
"""Rows that no other surpasses in both are the leaderboard's Pareto front."""
NOT_DEFINED = "not defined"
NOT_EVALUATED = "not evaluated"

_SIZES = ("scheme", "parameters", "nonzero_parameters", "bytes", "macs", "runtime")


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
    costs = read_costs(run)
    reference = best["baseline"][0].name if best.get("baseline") else None
    figures = {trial.name: test_figures(run, trial.name) for trials in best.values() for trial in trials}
    figures |= {name: test_figures(run, name) for name in CONTROLS}
    trials = sorted((t for trials in best.values() for t in trials), key=lambda t: (-t.score, t.strategy, t.number))
    front = pareto_front(
        [[trial.figure(metric) for metric, _ in SIZE_AND_QUALITY] for trial in trials], SIZE_AND_QUALITY
    )
    rows = [
        _trial_row(rank, trial, figures[trial.name], on_front, _cost_columns(costs, trial.name, reference))
        for rank, (trial, on_front) in enumerate(zip(trials, front, strict=True), start=1)
    ]
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


def _cost_columns(costs: Mapping[str, Any], name: str, reference: str | None) -> dict[str, Any]:
    """Measured costs, on the CPU and where there was a GPU on that; a speed-up is against the best baseline."""
    columns: dict[str, Any] = {}
    for device, prefix in (("cpu", ""), ("gpu", "gpu_")):
        if device in costs:
            of_model, of_baseline = costs[device].get(name), costs[device].get(reference)
            faster = of_baseline["latency_median"] / of_model["latency_median"] if of_model and of_baseline else None
            columns[f"{prefix}speed_up"] = faster
            columns |= {f"{prefix}{figure}": of_model[figure] if of_model else None for figure in COST_FIGURES[device]}
    return columns


def _trial_row(
    rank: int, trial: TrialRecord, figures: Mapping[str, Any] | None, on_front: bool, costs: Mapping[str, Any]
) -> dict[str, Any]:
    final = trial.final
    return {
        "rank": rank,
        "strategy": trial.strategy,
        **_prefixed("validation", final["validation"]),
        **_prefixed("test", figures[TEST] if figures else None),
        **{name: final.get(name) for name in _SIZES},
        **costs,
        "pareto": on_front,
        "best_epoch": final["epoch"],
        "training_seconds": round(final["seconds"], 2),
        "trial": trial.name,
        "checkpoint": f"{TRIALS}/{trial.name}/{DEPLOYED}",
        **{f"hp_{name}": value for name, value in trial.hyperparameters.items()},
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
    skipped = skipped_strategies(read_events(run.folder))
    if strategy in skipped:
        return skipped[strategy]
    trials = [trial for trial in run.trials.values() if trial.strategy == strategy and trial.repeats is None]
    failures = [trial for trial in trials if trial.state == "failed"]
    if trials and len(failures) == len(trials):
        reasons = "; ".join(dict.fromkeys(str(trial.reason) for trial in failures))
        return f"all {len(trials)} trials failed: {reasons}"
    return "no trial has finished yet"


def write_leaderboard(run: Run, leaderboard: Leaderboard) -> None:
    """Write each table as CSV, JSON and Markdown under the run's ``results/``."""
    schemes = set(leaderboard.best.get("scheme", pd.Series(dtype=object)).dropna())
    notes = "".join(f"\n{scheme}: {note}\n" for scheme, note in SCHEME_NOTES.items() if scheme in schemes)
    for name, table in leaderboard.tables().items():
        shown = table.astype(object).where(table.notna(), None)
        files = {
            "csv": csv_text(shown),
            "json": json.dumps(shown.to_dict("records"), indent=2, allow_nan=False),
            "md": markdown(shown) + (notes if name == "leaderboard" else ""),
        }
        for ending, content in files.items():
            run.folder.write(f"{RESULTS}/{name}.{ending}", content.encode())


_SHOWN = {
    "rank": "rank",
    "trial": "trial",
    "scheme": "scheme",
    "validation_f1": "val F1",
    "test_f1": "test F1",
    "bytes": "MB",
    "latency_median": "ms",
    "speed_up": "speed-up",
    "gpu_latency_median": "GPU ms",
    "gpu_speed_up": "GPU speed-up",
    "pareto": "Pareto",
}
"""Columns that fit a terminal; all of them are in the files."""


SCHEME_NOTES = {
    "lora": "saves memory in training; merged, the model is as large as the baseline.",
    "svd": "layers of low rank: the deployed model is smaller.",
    "unstructured": "its zeros cost no disk, but a CPU's dense kernels run no faster for them.",
}
"""What a row's scheme buys, and what it does not."""


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
    table = _table("Best configurations, by the deployed model's validation macro F1")
    columns = [name for name in _SHOWN if name in best.columns]
    for name in columns:
        table.add_column(_SHOWN[name], justify="left" if name in ("trial", "scheme") else "right", no_wrap=True)
    shown = best.assign(trial=best["trial"].fillna(best["strategy"])) if "trial" in best else best
    for row in shown[columns].astype(object).where(shown[columns].notna(), None).to_dict("records"):
        table.add_row(*(_shown(str(name), value) for name, value in row.items()))
    console.print(table)
    console.print(
        "MB: weights on disk. ms: one text, one thread. speed-up: against the best baseline.\n"
        "Pareto: no other row is both better (val F1) and smaller.",
        highlight=False,
    )
    for scheme in dict.fromkeys(best.get("scheme", pd.Series(dtype=object)).dropna()):
        if scheme in SCHEME_NOTES:
            console.print(f"{scheme}: {SCHEME_NOTES[scheme]}", highlight=False)
    console.print()
    searched = [name for name in best.columns if str(name).startswith("hp_")]
    for row in best[best["rank"].notna()].to_dict("records"):
        chosen = ", ".join(f"{str(n)[3:]}={cell_text(row[n])}" for n in searched if pd.notna(row[n]))
        console.print(f"  {row['trial']}: {chosen}", markup=False, highlight=False, soft_wrap=True)


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


def _print_by_symptom(table2: pd.DataFrame, console: Console) -> None:
    """F1 of each symptom, a column each; the other figures are in the files."""
    wide = table2.pivot_table(index="strategy", columns="symptom", values="f1", sort=False, aggfunc="first")
    wide = wide.reset_index().astype(object)
    _print_plain(wide, "Test F1 by symptom (all of the paper's Table II is in the files)", console)
