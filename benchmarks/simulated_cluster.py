"""A cluster in virtual time: recorded learning curves replayed through the real searcher, scheduler and ledger."""

import heapq
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from optuna.distributions import CategoricalDistribution, json_to_distribution
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from run_folder.folder import Folder
from run_folder.results import DeployedResult, EpochResult, Metrics, Report
from run_folder.trials import TrialRecord
from trainables import trainable_class
from trainables.parts.training.teaching import LOGITS_FILE
from tune_jobs.searching.asha import StrategyASHA
from tune_jobs.searching.ray_adapters import LedgerCallback, RaySearcher, record_of
from tune_jobs.searching.search import Search
from tune_jobs.searching.trial_actor import ray_result

SECONDS_TO_DEPLOY = 1.0

Point = Mapping[str, float | str]
"""A configuration: numbers scaled to [0, 1], and categories."""


def epoch_result(epoch: int, f1: float, seconds: float = 0.5, *, selectable: bool = True) -> EpochResult:
    """An epoch of which only this is known; the other figures are made up."""
    return EpochResult(
        epoch=epoch, f1=f1, accuracy=0.5, precision=0.5, recall=0.5, auroc=0.5, train_loss=0.5, selectable=selectable,
        seconds=seconds,
    )  # fmt: skip


def deployed_result(f1: float, size: int = 1000, seconds: float = 0.0) -> DeployedResult:
    """A deployed model of ``size`` bytes of which only this is known; the other figures are made up."""
    validation = Metrics(f1=f1, accuracy=0.5, precision=0.5, recall=0.5, auroc=0.5, per_symptom={})
    return DeployedResult(
        validation=validation, runtime="torch", parameters=1, nonzero_parameters=1, macs=1, macs_length=8, bytes=size,
        precision="float32", epoch=1, seconds=seconds,
    )  # fmt: skip


class RecordedCurves:
    """The learning curves of finished trials; a configuration that none of them had gets the nearest one's.

    Nearest: least sum of differences, each parameter scaled to [0, 1] over its range (over its logarithm where the
    space is logarithmic); a different category, or a parameter that only one of the two has, counts 1.
    """

    def __init__(self, recorded: Iterable[TrialRecord]) -> None:
        self._recorded: dict[str, list[tuple[Point, TrialRecord]]] = {}
        self._scales: dict[tuple[str, str], Any] = {}
        self._known: dict[tuple[str, frozenset[tuple[str, Any]]], TrialRecord] = {}
        for trial in recorded:
            if trial.state == "finished":
                for name, text in trial.distributions.items():
                    self._scales.setdefault((trial.strategy, name), json_to_distribution(text))
                place = self._point(trial.strategy, trial.hyperparameters)
                self._recorded.setdefault(trial.strategy, []).append((place, trial))

    def _point(self, strategy: str, hyperparameters: Mapping[str, Any]) -> Point:
        place: dict[str, float | str] = {}
        for name, value in hyperparameters.items():
            scale = self._scales.get((strategy, name))
            if scale is None or isinstance(scale, CategoricalDistribution):
                place[name] = repr(value)
            elif scale.high > scale.low:
                low, high, x = (math.log(v) if scale.log else v for v in (scale.low, scale.high, value))
                place[name] = (x - low) / (high - low)
        return place

    def nearest(self, strategy: str, hyperparameters: Mapping[str, Any]) -> TrialRecord:
        """The recorded trial whose configuration is nearest. Raises KeyError: no trial of the strategy."""
        key = strategy, frozenset(hyperparameters.items())
        if key not in self._known:
            place = self._point(strategy, hyperparameters)
            _, self._known[key] = min(self._recorded[strategy], key=lambda recorded: distance(place, recorded[0]))
        return self._known[key]


def distance(one: Point, other: Point, weights: Mapping[str, float] | None = None) -> float:
    """The distance of two configurations, as ``RecordedCurves`` measures it.

    Args:
        weights: of the parameters, others count nothing; without weights each counts 1.
    """
    total = 0.0
    for name in one.keys() | other.keys():
        a, b = one.get(name), other.get(name)
        apart = abs(a - b) if isinstance(a, float) and isinstance(b, float) else float(a != b)
        total += apart * (1.0 if weights is None else weights.get(name, 0.0))
    return total


@dataclass
class _Trial:
    """What Ray's controller would hold of a trial, as far as searcher, scheduler and callback look at it."""

    trial_id: str
    config: dict[str, Any]
    curve: TrialRecord
    epochs: int
    done: int = field(init=False)

    def __post_init__(self) -> None:
        self.done = len(record_of(self.config).epochs)

    def get_error(self) -> str:
        return "its node was lost"

    @property
    def seconds(self) -> float:
        """What the next result takes."""
        return self._epoch().seconds if self.done < self.epochs else SECONDS_TO_DEPLOY

    def _epoch(self) -> EpochResult:
        return self.curve.epochs[min(self.done, len(self.curve.epochs) - 1)]

    def step(self) -> dict[str, Any]:
        if self.done == self.epochs:
            return ray_result(Report(self.curve.deployed))
        result = replace(self._epoch(), epoch=self.done + 1)
        self.done += 1
        return ray_result(Report(result))


class SimulatedCluster:
    """Runs a search as Ray's controller would, but for the training.

    Args:
        epochs: of a full trial.
        workers: trials at a time.
        losses: seconds at which a worker is lost with its trial, and replaced at once.
    """

    def __init__(
        self,
        folder: Folder,
        search: Search,
        scheduler: StrategyASHA,
        curves: RecordedCurves,
        epochs: int,
        workers: int = 1,
        losses: Sequence[float] = (),
    ) -> None:
        self._folder, self._scheduler, self._curves = folder, scheduler, curves
        self._epochs, self._losses = epochs, sorted(losses, reverse=True)
        self._searcher, self._callback = RaySearcher(search, {}, lambda: workers), LedgerCallback(search)
        self._ids, self._ties = itertools.count(), itertools.count()
        self._running: list[tuple[float, int, _Trial]] = []
        self.now = 0.0
        self.trained = 0.0
        """Seconds that workers spent on results that arrived."""

    def run(self) -> None:
        """Until the search is done; ``now`` then says after how many seconds."""
        self._start_trials()
        while self._running:
            end, _, trial = heapq.heappop(self._running)
            if self._losses and self._losses[-1] < end:
                heapq.heappush(self._running, (end, next(self._ties), trial))
                self._lose_one(self._losses.pop())
            else:
                self.trained += trial.seconds
                self.now = end
                self._take(trial, trial.step())
            self._start_trials()

    def _start_trials(self) -> None:
        while True:
            trial_id = f"{next(self._ids):08d}"
            config = self._searcher.suggest(trial_id)
            if not isinstance(config, dict):
                assert config in (None, Searcher.FINISHED)
                return
            record = record_of(config)
            curve = self._curves.nearest(record.strategy, record.hyperparameters)
            epochs = (record.until or self._epochs) if curve.epochs else 0
            trial = _Trial(trial_id, config, curve, epochs)
            if trainable_class(record.strategy).reads_teacher_logits:
                self._folder.write(f"{record.teacher}/{LOGITS_FILE}", b"")
            self._scheduler.on_trial_add(None, trial)  # type: ignore[arg-type]
            self._push(trial)

    def _push(self, trial: _Trial) -> None:
        heapq.heappush(self._running, (self.now + trial.seconds, next(self._ties), trial))

    def _take(self, trial: _Trial, result: dict[str, Any]) -> None:
        """In the order of Ray's controller: scheduler, callback, then the searcher where the trial ends."""
        ended = result.get("done", False)
        decision = TrialScheduler.STOP if ended else self._scheduler.on_trial_result(None, trial, result)  # type: ignore[arg-type]
        self._callback.on_trial_result(0, [], trial, result)  # type: ignore[arg-type]
        if decision == TrialScheduler.STOP:
            self._searcher.on_trial_complete(trial.trial_id, result)
        else:
            self._push(trial)

    def _lose_one(self, when: float) -> None:
        """The worker whose trial has run longest since its last result; an idle one where none ran before."""
        self.now = when
        first = min(self._running, key=lambda entry: entry[0] - entry[2].seconds)
        if first[0] - first[2].seconds >= when:  # dealt again at this instant, so to another node
            return
        self._running.remove(first)
        heapq.heapify(self._running)
        self._searcher.on_trial_complete(first[2].trial_id, error=True)
        self._callback.on_trial_error(0, [], first[2])  # type: ignore[arg-type]


class MemoryFolder(Folder):
    """A run's folder in memory: a thousand searches leave the disk alone."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        super().__init__("memory")
        self.files = {} if files is None else files

    def exists(self, relative: str = "") -> bool:
        return relative in self.files or any(name.startswith(f"{relative}/") for name in self.files)

    def names(self, relative: str = "") -> list[str]:
        start = f"{relative}/" if relative else ""
        return sorted({name[len(start) :].partition("/")[0] for name in self.files if name.startswith(start)})

    def read(self, relative: str) -> bytes:
        return self.files[relative]

    def write(self, relative: str, data: bytes, *, private: bool = False) -> None:
        self.files[relative] = data

    def delete_folder(self, relative: str) -> None:
        for name in [name for name in self.files if name.startswith(f"{relative}/")]:
            del self.files[name]
