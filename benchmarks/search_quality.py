"""Epochs until a search has found what is best known, on recorded learning curves: ours, random, stock Ray Tune.

    python -m benchmarks.search_quality --workers 2 --json search_quality.json
    python -m benchmarks.search_quality --workers 2 --sweep

Every search runs in virtual time with two workers, on the curves that ``benchmarks.record_curves`` wrote; a
configuration gets the curve of the nearest recorded one that this search has not had. A search ends with the first
deployed model whose validation macro F1 is within ``--tolerance`` of the best recorded one of its strategy.
"""

import argparse
import contextlib
import functools
import gzip
import heapq
import itertools
import json
import logging
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from ray.tune.result import TRAINING_ITERATION
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch
from rich.console import Console
from rich.table import Table
from scipy.stats import bootstrap
from sklearn.ensemble import RandomForestRegressor
from sklearn.feature_extraction import DictVectorizer

from analysis.evaluation.costs import machine
from benchmarks.record_curves import RECORDING
from benchmarks.simulated_cluster import (
    MemoryFolder,
    RecordedCurves,
    SimulatedCluster,
    deployed_result,
    distance,
    epoch_result,
)
from run_folder.events import TeacherChosen
from run_folder.ledger import Ledger
from run_folder.results import EpochResult
from run_folder.settings import SearchSettings
from run_folder.trials import TrialRecord
from search_spaces import objectives_of
from search_spaces.overrides import narrowed_space
from trainables.references import BASELINE
from tune_jobs.preparing.warm_start import best_configurations
from tune_jobs.searching.asha import StrategyASHA
from tune_jobs.searching.plan import SearchPlan
from tune_jobs.searching.search import Search
from tune_jobs.searching.study import StrategyStudy
from tune_jobs.searching.study_storage import StudyStorage

TOLERANCE = 0.005
"""Macro F1 below the best recorded that counts as found, unless another is asked for."""
WIDTH = 384
"""Hidden size of the recorded encoder, all-MiniLM-L6-v2."""
SLOTS = 2
"""Number of trials that run at once, in virtual time."""
REACH = {"random": 1 / 3, "stock": 1.0}
"""Aim: largest ratio of our mean epochs to the other side's."""


@dataclass(frozen=True)
class Recorded:
    """A recording as searches see it."""

    curves: RecordedCurves
    epochs: int
    space: Mapping[str, Mapping[str, Any]]
    trials: Mapping[str, Sequence[TrialRecord]]
    """Finished trials, by strategy."""
    made_of: Mapping[str, Any]
    """The header of the recording."""

    @functools.cached_property
    def weights(self) -> Mapping[str, Mapping[str, float]]:
        """Importances of each strategy's hyperparameters."""
        return {strategy: importances(self.curves, strategy) for strategy in self.trials}

    def scores(self, strategy: str) -> list[float]:
        """Validation macro F1 of the strategy's deployed models."""
        return [trial.score for trial in self.trials[strategy]]


@functools.cache
def read_recording(path: Path) -> Recorded:
    """Read a file that ``benchmarks.record_curves`` packed."""
    header = json.loads(gzip.decompress(path.read_bytes()))
    trials: dict[str, list[TrialRecord]] = {}
    for line in header.pop("trials"):
        if line["state"] == "finished":
            trials.setdefault(line["strategy"], []).append(_trial(line))
    curves = RecordedCurves(itertools.chain.from_iterable(trials.values()))
    return Recorded(curves, header["epochs"], header["space"], trials, header)


def _trial(line: Mapping[str, Any]) -> TrialRecord:
    """With made-up figures for what was not recorded; ``final`` has the seconds of set-up and deployment."""
    fields = {name: line[name] for name in ("name", "strategy", "number", "seed", "hyperparameters", "distributions")}
    epochs = tuple(epoch_result(number, **epoch) for number, epoch in enumerate(line["epochs"], 1))
    final = deployed_result(line["final"]["validation"]["f1"], line["final"]["bytes"], sum(line["seconds"].values()))
    return TrialRecord(**fields, state="finished", epochs=epochs, final=final)


def importances(curves: RecordedCurves, strategy: str) -> dict[str, float]:
    """How much each hyperparameter of the strategy matters for the deployed model's macro F1.

    They are the importances of a random forest and sum to 1. With equal weights, most of a distance would come from
    hyperparameters that change nothing, and a configuration would get the curve of one that learns differently.
    ``search_insight`` gives no importance to parameters that only some branches of a space have, such as learning
    rates.
    """
    places, trials = zip(*curves._recorded[strategy], strict=True)
    features = DictVectorizer(sparse=False)
    forest = RandomForestRegressor(300, min_samples_leaf=3, random_state=0)
    forest.fit(features.fit_transform(places), [trial.score for trial in trials])
    found = dict.fromkeys((name for place in places for name in place), 0.0)
    for feature, importance in zip(features.get_feature_names_out(), forest.feature_importances_, strict=True):
        found[feature.partition("=")[0]] += float(importance)  # a category is "name=value"
    return found if any(found.values()) else dict.fromkeys(found, 1.0)  # too few trials to tell


class EachOnce(RecordedCurves):
    """A recording of which one search gets each curve once: the nearest of those it has not had.

    Parameters count by their importance.

    A suggestion that falls to a curve again would tell nothing new. With 200 points in seven and more dimensions a
    sampler that looks around its best trial never gets out of that trial's neighbourhood, and repeats it for ever.
    """

    def __init__(self, recorded: RecordedCurves, weights: Mapping[str, Mapping[str, float]]) -> None:
        self._scales, self._weights = recorded._scales, weights
        self._recorded = {strategy: list(trials) for strategy, trials in recorded._recorded.items()}

    def nearest(self, strategy: str, hyperparameters: Mapping[str, Any]) -> TrialRecord:
        """Raises ValueError: none is left."""
        left, place = self._recorded[strategy], self._point(strategy, hyperparameters)
        weights = self._weights[strategy]
        chosen = min(range(len(left)), key=lambda i: distance(place, left[i][0], weights))
        return left.pop(chosen)[1]


class FoundError(Exception):
    """The search is over: it has found what is best known."""


@dataclass
class Meter:
    """What a search has spent.

    Attributes:
        bar: validation macro F1 that ends it.
        epochs: trained by all trials, stopped ones too; a model deployed without training counts as one.
        seconds: of the processor, as recorded, for these epochs and for finished trials' set-up and deployment.
    """

    bar: float
    epochs: int = 0
    seconds: float = 0.0
    trials: int = 0
    found: bool = False

    def epoch(self, result: EpochResult) -> None:
        self.epochs += 1
        self.seconds += result.seconds

    def deployed(self, curve: TrialRecord) -> None:
        self.trials += 1
        self.epochs += 0 if curve.epochs else 1
        self.seconds += curve.deployed.seconds
        self.found = curve.score >= self.bar
        if self.found:
            raise FoundError

    def heard(self, record: TrialRecord) -> None:
        """An event of our search."""
        if record.state == "finished":
            self.deployed(record)
        elif record.state == "running" and record.epochs:
            self.epoch(record.epochs[-1])


@dataclass(frozen=True)
class Tactics:
    """How our search suggests and stops trials; the defaults are the program's."""

    reduction_factor: int = SearchSettings.reduction_factor
    scheduler: Mapping[str, int] = field(default_factory=dict)
    """Other options of ``StrategyASHA``."""
    study: Mapping[str, int | None] = field(default_factory=lambda: {"width": WIDTH})
    """Options of ``StrategyStudy``."""
    earlier: Path | None = None
    """A recording of other notes, whose best configurations come first, as ``launch --warm-start`` has it."""


def ours(recorded: Recorded, strategy: str, seed: int, meter: Meter, tactics: Tactics) -> None:
    """The strategy's part of a search as ``launch`` runs it."""
    folder = MemoryFolder()
    ledger = Ledger(folder)
    if strategy != BASELINE:
        ledger.append(TeacherChosen(f"{BASELINE}-0000"))
    overrides = recorded.space.get(strategy, {})
    earlier = read_recording(tactics.earlier).trials.get(strategy) if tactics.earlier else None
    warm = best_configurations(earlier, overrides) if earlier else ()
    study = StrategyStudy(strategy, StudyStorage(InMemoryStorage()), seed, overrides, warm=warm, **tactics.study)
    scheduler = StrategyASHA([strategy], recorded.epochs, tactics.reduction_factor, **tactics.scheduler)
    trials = len(recorded.trials[strategy])
    search = Search(folder, ledger, {strategy: study}, SearchPlan(trials, seed), on_change=meter.heard)
    SimulatedCluster(folder, search, scheduler, recorded.curves, recorded.epochs, SLOTS).run()


@dataclass
class PlainTrial:
    """As far as Ray's schedulers look at it."""

    trial_id: str
    curve: TrialRecord
    done: int = 0

    @property
    def seconds(self) -> float:
        epochs = self.curve.epochs
        return epochs[self.done].seconds if self.done < len(epochs) else self.curve.deployed.seconds


def plain_tune(recorded: Recorded, strategy: str, meter: Meter, sampler: BaseSampler, scheduler: FIFOScheduler) -> None:
    """Ray Tune's OptunaSearch and a scheduler of Ray's, called as ``TuneController`` calls them."""
    space = narrowed_space(strategy, recorded.space.get(strategy, {}))
    searcher = OptunaSearch(space, metric="f1", mode="max", sampler=sampler)
    ids, ties, now = itertools.count(), itertools.count(), 0.0
    running: list[tuple[float, int, PlainTrial]] = []
    left = len(recorded.trials[strategy])
    while left or running:
        while left and len(running) < SLOTS:
            left -= 1
            trial_id = f"{next(ids):08d}"
            trial = PlainTrial(trial_id, recorded.curves.nearest(strategy, searcher.suggest(trial_id)))
            scheduler.on_trial_add(None, trial)
            heapq.heappush(running, (now + trial.seconds, next(ties), trial))
        now, _, trial = heapq.heappop(running)
        if trial.done == len(trial.curve.epochs):
            meter.deployed(trial.curve)
            result = {"f1": trial.curve.score, "epoch": trial.done, TRAINING_ITERATION: trial.done + 1, "done": True}
            decision = TrialScheduler.STOP
        else:
            epoch = trial.curve.epochs[trial.done]
            trial.done += 1
            meter.epoch(epoch)
            result = {"f1": epoch.f1, "epoch": trial.done, TRAINING_ITERATION: trial.done}
            decision = scheduler.on_trial_result(None, trial, result)
        if decision == TrialScheduler.STOP:
            scheduler.on_trial_complete(None, trial, result)
            searcher.on_trial_complete(trial.trial_id, result)
        else:
            searcher.on_trial_result(trial.trial_id, result)
            heapq.heappush(running, (now + trial.seconds, next(ties), trial))


def random_search(recorded: Recorded, strategy: str, seed: int, meter: Meter) -> None:
    """Without stopping."""
    plain_tune(recorded, strategy, meter, RandomSampler(seed=seed), FIFOScheduler())


def stock(recorded: Recorded, strategy: str, seed: int, meter: Meter, **options: int) -> None:
    """OptunaSearch's own sampler, and ASHA with its own grace (1) and reduction (4) unless options say otherwise."""
    last = recorded.epochs + 1  # else the model of the last epoch would never be deployed
    scheduler = ASHAScheduler(time_attr="epoch", metric="f1", mode="max", max_t=last, **options)
    plain_tune(recorded, strategy, meter, TPESampler(seed=seed), scheduler)


Side = Callable[[Recorded, str, int, Meter], None]


@dataclass(frozen=True)
class Job:
    """One search."""

    path: Path
    side: str
    strategy: str
    seed: int
    tolerance: float = TOLERANCE
    tactics: Tactics = field(default_factory=Tactics)


def search(job: Job) -> dict[str, Any]:
    """Run one search to its end: what it spent, and whether it found the best known.

    Where it did not, having had every curve, it counts as if it had trained all of them to their ends.
    """
    for name in ("optuna", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)
    recorded = read_recording(job.path)
    recorded = replace(recorded, curves=EachOnce(recorded.curves, recorded.weights))
    meter = Meter(max(recorded.scores(job.strategy)) - job.tolerance)
    sides: dict[str, Side] = {
        "ours": functools.partial(ours, tactics=job.tactics),
        "random": random_search,
        "stock": stock,
    }
    begun = time.process_time()
    with contextlib.suppress(FoundError):
        sides[job.side](recorded, job.strategy, job.seed, meter)
    if not meter.found:
        meter = everything(recorded.trials[job.strategy])
    spent = {name: getattr(meter, name) for name in ("epochs", "seconds", "trials", "found")}
    return {**spent, "processor": time.process_time() - begun}


def everything(trials: Sequence[TrialRecord]) -> Meter:
    """What it takes to train and deploy them all."""
    whole = Meter(math.inf)
    for trial in trials:
        for epoch in trial.epochs:
            whole.epoch(epoch)
        whole.deployed(trial)
    return whole


def run_all(jobs: Sequence[Job], workers: int) -> Iterator[dict[str, Any]]:
    """What each search spent, in the jobs' order."""
    if workers == 1:
        yield from map(search, jobs)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(search, jobs)


Samples = Sequence[NDArray[np.float64]]


def ratio(ours_and_others: Samples) -> dict[str, float]:
    """Geometric mean over pairs of samples (ours, other, ours, other, …) of the ratio of means, with its interval."""

    def statistic(*samples: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        means = np.log([sample.mean(axis=axis) for sample in samples])
        found: NDArray[np.float64] = np.exp((means[::2] - means[1::2]).mean(axis=0))
        return found

    estimate = float(statistic(*ours_and_others))
    if all(np.ptp(sample) == 0 for sample in ours_and_others):
        return {"ratio": estimate, "low": estimate, "high": estimate}
    interval = bootstrap(
        ours_and_others, statistic, vectorized=True, method="percentile", n_resamples=5000, rng=0
    ).confidence_interval
    return {"ratio": estimate, "low": float(interval.low), "high": float(interval.high)}


def counted(strategies: Sequence[str]) -> list[str]:
    """Those that the overall ratios are of: a search for several objectives does not seek the best F1."""
    return [strategy for strategy in strategies if len(objectives_of(strategy)) == 1]


def compare(
    path: Path, strategies: Sequence[str], seeds: Sequence[int], workers: int, tolerance: float, tactics: Tactics
) -> dict[str, Any]:
    """All sides on all strategies: what each search spent, and the ratios of ours to the others."""
    sides = ("ours", *REACH)
    each = itertools.product(strategies, sides, seeds)
    jobs = [Job(path, side, strategy, seed, tolerance, tactics) for strategy, side, seed in each]
    searches: dict[str, dict[str, list[dict[str, Any]]]] = {s: {side: [] for side in sides} for s in strategies}
    for job, spent in zip(jobs, run_all(jobs, workers), strict=True):
        searches[job.strategy][job.side].append(spent)

    def pair(strategy: str, other: str, unit: str) -> Samples:
        return [np.array([s[unit] for s in searches[strategy][side]], float) for side in ("ours", other)]

    of = {name: [name] for name in strategies} | {"overall": counted(strategies)}
    ratios = {
        unit: {
            name: {other: ratio([x for s in group for x in pair(s, other, unit)]) for other in REACH}
            for name, group in of.items()
            if group
        }
        for unit in ("epochs", "seconds")
    }
    return {"searches": searches, "ratios": ratios}


def comparison_table(recorded: Recorded, found: Mapping[str, Any], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("strategy")
    for column in ("as good", *("epochs: " + side for side in ("ours", *REACH)), *(f"ours ÷ {o}" for o in REACH)):
        table.add_column(column, justify="right")
    for other in REACH:
        table.add_column(f"seconds ÷ {other}", justify="right")
    for name, by_other in found["ratios"]["epochs"].items():
        row = [name, "", "", "", ""]
        if name in found["searches"]:
            scores = recorded.scores(name)
            good = sum(score >= max(scores) - found["tolerance"] for score in scores)
            row = [name, f"{good} of {len(scores)}", *(spent_in(found["searches"][name][s]) for s in ("ours", *REACH))]
        table.add_row(
            *row,
            *(shown(by_other[other]) for other in REACH),
            *(shown(found["ratios"]["seconds"][name][other]) for other in REACH),
        )
    table.add_row("reach", *[""] * 4, *(f"≤ {most:.2f}" for most in REACH.values()), "", "")
    return table


def spent_in(searches: Sequence[Mapping[str, Any]]) -> str:
    """Mean and median, and how many did not find it."""
    epochs = [spent["epochs"] for spent in searches]
    missed = sum(not spent["found"] for spent in searches)
    return f"{np.mean(epochs):.0f} ({np.median(epochs):.0f})" + (f", {missed} not" if missed else "")


def shown(figures: Mapping[str, float]) -> str:
    return f"{figures['ratio']:.2f} [{figures['low']:.2f}, {figures['high']:.2f}]"


def sweep(
    path: Path,
    strategies: Sequence[str],
    seeds: Sequence[int],
    workers: int,
    tolerance: float,
    grid: Sequence[Tactics],
) -> list[dict[str, Any]]:
    """Our searches with each of the grid's tactics: geometric mean over strategies of the mean epochs, best first."""
    each = itertools.product(grid, strategies, seeds)
    jobs = [Job(path, "ours", strategy, seed, tolerance, tactics) for tactics, strategy, seed in each]
    spent = iter(run_all(jobs, workers))
    rows = []
    for tactics in grid:
        by_strategy = {strategy: [next(spent) for _ in seeds] for strategy in strategies}
        means = {s: float(np.mean([one["epochs"] for one in found])) for s, found in by_strategy.items()}
        seconds = [float(np.mean([one["seconds"] for one in found])) for found in by_strategy.values()]
        missed = sum(not one["found"] for found in by_strategy.values() for one in found)
        rows.append({
            "reduction_factor": tactics.reduction_factor,
            **tactics.scheduler,
            **tactics.study,
            "epochs": float(np.exp(np.mean(np.log(list(means.values()))))),
            "seconds": float(np.exp(np.mean(np.log(seconds)))),
            "missed": missed,
            "by_strategy": means,
        })  # fmt: skip
    return sorted(rows, key=lambda row: row["epochs"])


def sweep_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    names = [name for name in rows[0] if name != "by_strategy"]
    for column in (*names, *rows[0]["by_strategy"]):
        table.add_column(column.replace("_", " "), justify="right")
    for row in rows:
        figures = [*(row[name] for name in names), *row["by_strategy"].values()]
        table.add_row(*(f"{figure:.0f}" if isinstance(figure, float) else str(figure) for figure in figures))
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recording", type=Path, default=RECORDING, help="(default: the one next to this file)")
    parser.add_argument("--strategies", nargs="+", help="(default: all recorded)")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument(
        "--first-seed", type=int, default=0, help="(default 0) compare what a sweep chose on seeds that it did not use"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="macro F1 below the best (default 0.005)")
    parser.add_argument(
        "--warm-start", type=Path, help="a recording of other notes: its best configurations come first"
    )
    parser.add_argument("--sweep", action="store_true", help="compare tactics of ours instead of sides")
    parser.add_argument("--grace", type=int, nargs="+", default=[1, 2, 3], help="of the sweep")
    parser.add_argument("--reduction", type=int, nargs="+", default=[0, 2, 3, 4], help="of the sweep; 0 stops none")
    parser.add_argument("--startup", type=int, nargs="+", default=[1, 4], help="of the sweep")
    parser.add_argument("--random-trials", type=int, nargs="+", default=[5], help="of the sweep")
    parser.add_argument("--multivariate", type=int, nargs="+", choices=(0, 1), default=[0], help="of the sweep")
    parser.add_argument(
        "--paper-first", type=int, nargs="+", choices=(0, 1), default=[0], help="of the sweep: as for a wide encoder"
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    recorded, begun = read_recording(options.recording), time.perf_counter()
    strategies = options.strategies or list(recorded.trials)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    common = (seeds, options.workers, options.tolerance)
    record: dict[str, Any] = {
        "machine": machine(), "recording": recorded.made_of, "tolerance": options.tolerance, "seeds": list(seeds),
    }  # fmt: skip
    widths = {0: WIDTH, 1: None}
    of_these = f"{options.seeds} seeds" + (", ours warm-started" if options.warm_start else "")
    if options.warm_start:
        record["earlier"] = read_recording(options.warm_start).made_of
    if options.sweep:
        grid = [
            Tactics(
                reduction,
                {"grace_period": grace, "startup": startup},
                {"random_trials": random_trials, "multivariate": multivariate, "width": widths[paper_first]},
                options.warm_start,
            )
            for reduction in options.reduction
            for grace in (options.grace if reduction else options.grace[:1])
            for startup in (options.startup if reduction else options.startup[:1])
            for random_trials in options.random_trials
            for multivariate in options.multivariate
            for paper_first in options.paper_first
        ]
        record["sweep"] = sweep(options.recording, counted(strategies), *common, grid)
        table = sweep_table(record["sweep"], f"Mean epochs of ours, {of_these}")
    else:
        record |= compare(options.recording, strategies, *common, Tactics(earlier=options.warm_start))
        table = comparison_table(
            recorded,
            record,
            f"Epochs until within {options.tolerance:g} of the best: mean (median) of {of_these}",
        )
    record["wall"] = time.perf_counter() - begun
    console = Console(width=170)
    console.print(table)
    console.print(f"{record['wall']:.0f} s with {options.workers} processes")
    if options.json:
        options.json.write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
