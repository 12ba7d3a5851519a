"""Everything that a report shows: the run, its leaderboard and what the analyses wrote."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.evaluation.costs import Costs, read_costs
from analysis.evaluation.evaluate import Evaluation, read_evaluation
from analysis.evaluation.front import Fronts, read_fronts
from analysis.evaluation.gold import Gold, read_gold_results
from analysis.evaluation.leaderboard import Leaderboard, build_leaderboard
from analysis.evaluation.robustness import Robustness, read_robustness
from analysis.evaluation.run_statistics import Interval, Statistics, StrategyStatistics, read_statistics
from analysis.evaluation.search_insight import Insight, read_insight
from analysis.paper.claims import PaperComparison, read_paper
from analysis.statistics.resampling import OVERALL
from analysis.statistics.verdict import Verdict
from analysis.text_tables import Row
from run_folder.events import Event, Extended, Skipped, Unskipped, event_file, read_events
from run_folder.names import RESULTS
from run_folder.run import Run
from run_folder.trials import TrialRecord

NOT_EVALUATED = "Nothing has been evaluated on the test set yet: `symptune evaluate` does that."


@dataclass(frozen=True)
class Findings:
    """A run's results, as far as they have been computed.

    Attributes:
        board: rows of all trials that left a model.
        tests: figures on the test set of each trial and control that was evaluated.
        records: by trial, the ledger's last file about it.
        files: names in ``results/``, where the page will be.
        statistics, robustness, insight, paper, gold, fronts: what the analyses wrote, or None.
    """

    run: Run
    board: Leaderboard
    costs: Costs
    tests: Mapping[str, Evaluation]
    records: Mapping[str, str]
    files: frozenset[str]
    statistics: Statistics | None
    robustness: Robustness | None
    insight: Insight | None
    paper: PaperComparison | None
    gold: Gold | None
    fronts: Fronts | None

    def sources(self, *paths: str) -> list[tuple[str, str]]:
        """Those of these files in ``results/`` that exist: path in the run's folder, and address for the page."""
        names = {path: path.removeprefix(f"{RESULTS}/") for path in paths}
        return [(path, name) for path, name in names.items() if name in self.files]

    def best(self, strategy: str) -> TrialRecord | None:
        """The strategy's best trial by validation."""
        return next(iter(self.run.best(strategy, 1)), None) if strategy in self.run.strategies else None

    def of_strategy(self, strategy: str) -> StrategyStatistics | None:
        """The strategy's statistics, where there are any."""
        return self.statistics.strategies.get(strategy) if self.statistics else None

    def verdict(self, strategy: str) -> Verdict | None:
        """The verdict on the strategy's best trial; None where that has not been evaluated yet."""
        judged, best = self.of_strategy(strategy), self.best(strategy)
        return judged.verdict if judged and best and judged.trial == best.name else None

    def test_score(self, name: str) -> Interval | None:
        """A model's macro F1 on the test set, with its interval where that is known."""
        model = self.statistics.models.get(name) if self.statistics else None
        if model:
            return model.figures[OVERALL]["f1"]
        return Interval(point=self.tests[name].test.f1, low=None, high=None) if name in self.tests else None

    def latency(self, name: str) -> float | None:
        """Seconds of one text on one thread."""
        found = self.costs.cpu.get(name)
        return found.latency_median if found else None


def read_findings(run: Run) -> Findings:
    """Read what there is. Raises: InputError: a file of the run is damaged."""
    names = [name.removesuffix(".json") for name in run.folder.names(f"{RESULTS}/trials")]
    return Findings(
        run=run,
        board=build_leaderboard(run, max(1, len(run.trials))),
        costs=read_costs(run),
        tests={name: figures for name in names if (figures := read_evaluation(run, name))},
        records=_records(read_events(run.folder)),
        files=frozenset(run.folder.names(RESULTS)),
        statistics=read_statistics(run),
        robustness=read_robustness(run),
        insight=read_insight(run),
        paper=read_paper(run),
        gold=read_gold_results(run),
        fronts=read_fronts(run),
    )


def _records(events: list[Event]) -> dict[str, str]:
    return {
        event.trial: event_file(number, event)
        for number, event in enumerate(events)
        if not isinstance(event, Skipped | Unskipped | Extended)
    }


def lacking(path: str, what: str) -> str:
    """A line that says which of the run's files is missing, and which command writes it."""
    return f"{what} not been worked out for this run (there is no {path}): `symptune evaluate` does that."


def trial_file(name: str) -> str:
    """The file that holds a model's figures, relative to the page."""
    return f"trials/{name}.json"


def figures_file(row: Mapping[str, Any]) -> str | None:
    """The file that holds the figures of a row's model, relative to the page."""
    return trial_file(row["model"]) if row.get("model") else None


def scored(name: str, score: Interval | None) -> Row:
    """The columns of a figure and its interval."""
    return {
        name: score.point if score else None,
        f"{name}_low": score.low if score else None,
        f"{name}_high": score.high if score else None,
    }
