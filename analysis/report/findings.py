"""All that a report is made of: the run, its leaderboard and what the analyses wrote."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.evaluation.costs import read_costs
from analysis.evaluation.evaluate import test_figures
from analysis.evaluation.leaderboard import Leaderboard, build_leaderboard
from analysis.evaluation.predictions import TEST
from run_folder.events import Event, Extended, Skipped, Unskipped, event_file, read_events
from run_folder.names import RESULTS
from run_folder.run import Run
from run_folder.trials import TrialRecord

STATISTICS, ROBUSTNESS, INSIGHT, PAPER = "statistics.json", "robustness.json", "insight.json", "paper.json"

NOT_EVALUATED = "Nothing has been evaluated on the test set yet: `symptune evaluate` does that."

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Findings:
    """What is known of a run.

    Attributes:
        board: rows of all trials that left a model.
        tests: figures on the test set of each trial and control that was evaluated.
        records: by trial, the ledger's last file about it.
        files: names of what stands in ``results/``, where the page will be.
        statistics, robustness, insight, paper: what the analyses wrote, or None.
    """

    run: Run
    board: Leaderboard
    costs: Record
    tests: Mapping[str, Record]
    records: Mapping[str, str]
    files: frozenset[str]
    statistics: Record | None
    robustness: Record | None
    insight: Record | None
    paper: Record | None

    def sources(self, *names: str) -> list[tuple[str, str]]:
        """Words and addresses, relative to the page, of the files among these that there are."""
        return [(f"{RESULTS}/{name}", name) for name in names if name in self.files]

    def best(self, strategy: str) -> TrialRecord | None:
        """The trial that stands for a strategy: the best by validation."""
        return next(iter(self.run.best(strategy, 1)), None) if strategy in self.run.strategies else None

    def verdict(self, strategy: str) -> Record | None:
        """On the strategy's best trial; none where that has not been evaluated yet."""
        judged: Record = (self.statistics or {}).get("strategies", {}).get(strategy, {})
        best = self.best(strategy)
        return judged.get("verdict") if best is not None and judged.get("trial") == best.name else None

    def test_score(self, name: str, metric: str = "f1") -> Record | None:
        """A macro figure of a model on the test set: ``point``, and ``low`` and ``high`` where they are known."""
        model = (self.statistics or {}).get("models", {}).get(name)
        if model:
            return dict(model["figures"]["overall"][metric])
        if name in self.tests and self.tests[name][TEST][metric] is not None:
            return {"point": self.tests[name][TEST][metric], "low": None, "high": None}
        return None

    def latency(self, name: str) -> float | None:
        """Seconds of one text on one thread."""
        found = self.costs["cpu"].get(name)
        return found["latency_median"] if found else None


def read_findings(run: Run) -> Findings:
    """Read what there is. Raises: InputError: a file of the run is damaged."""
    names = [name.removesuffix(".json") for name in run.folder.names(f"{RESULTS}/trials")]
    found = {name: test_figures(run, name) for name in names}
    return Findings(
        run=run,
        board=build_leaderboard(run, max(1, len(run.trials))),
        costs=read_costs(run),
        tests={name: figures for name, figures in found.items() if figures},
        records=_records(read_events(run.folder)),
        files=frozenset(run.folder.names(RESULTS)),
        **{name.removesuffix(".json"): _read(run, name) for name in (STATISTICS, ROBUSTNESS, INSIGHT, PAPER)},
    )


def _read(run: Run, name: str) -> Record | None:
    path = f"{RESULTS}/{name}"
    return json.loads(run.folder.read(path)) if run.folder.exists(path) else None


def _records(events: list[Event]) -> dict[str, str]:
    return {
        event.trial: event_file(number, event)
        for number, event in enumerate(events)
        if not isinstance(event, Skipped | Unskipped | Extended)
    }


def lacking(file: str, what: str) -> str:
    return f"{what} not been worked out for this run (there is no results/{file}): `symptune evaluate` does that."


def figures_file(row: Record) -> str | None:
    """Where the figures of a row's model stand, relative to the page."""
    return f"trials/{row['model']}.json" if row.get("model") else None


def scored(name: str, score: Record | None) -> dict[str, Any]:
    score = score or {"point": None, "low": None, "high": None}
    return {name: score["point"], f"{name}_low": score["low"], f"{name}_high": score["high"]}
