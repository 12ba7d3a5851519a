"""The trials of a run, as its ledger tells them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from run_folder.names import TRIALS
from run_folder.results import DeployedResult, EpochResult

State = Literal["running", "stopped", "failed", "finished"]
Objective = tuple[str, str]
"""A figure of the deployed model and its direction, ``maximize`` or ``minimize``."""


@dataclass(frozen=True)
class TrialRecord:
    """What the ledger says of one trial.

    Attributes:
        name: ``<strategy>-<number>``, also its folder under ``trials/``.
        epochs: one result per finished epoch, in order.
        final: the deployed model, once finished.
        reason: why it failed.
        retry_of: the failed trial whose configuration and seed it runs again.
        continues: the finished trial that it trains on, from its last epoch.
        until: epochs that it trains, where that is not the run's setting.
        repeats: the trial whose configuration it trains again with another seed.
        trains_on: the trial whose deployed model it trains further, in one more cycle of the same configuration.
        patience: see ``trainables.base.TrainSettings``.
    """

    name: str
    strategy: str
    number: int
    seed: int
    hyperparameters: Mapping[str, Any]
    distributions: Mapping[str, str]
    teacher: str | None = None
    state: State = "running"
    epochs: tuple[EpochResult, ...] = ()
    final: DeployedResult | None = None
    reason: str | None = None
    retry_of: str | None = None
    continues: str | None = None
    until: int | None = None
    repeats: str | None = None
    trains_on: str | None = None
    patience: int = 0

    @property
    def of_search(self) -> bool:
        """Whether the search suggested it: repetitions and further cycles are no part of it."""
        return self.repeats is None and self.trains_on is None

    @property
    def score(self) -> float:
        """Validation macro F1 of the deployed model."""
        return self.deployed.validation.f1

    @property
    def deployed(self) -> DeployedResult:
        """The deployed model of a finished trial."""
        assert self.final is not None, f"{self.name} is {self.state}"
        return self.final

    def figure(self, metric: str) -> float:
        """A figure of the deployed model: a validation metric, or ``bytes``, ``macs``, …"""
        return self.deployed.figure(metric)

    @property
    def best_f1(self) -> float | None:
        """Best validation macro F1 so far, of the deployed model where there is one."""
        if self.state == "finished":
            return self.score
        return max((epoch.f1 for epoch in self.epochs), default=None)


def best_trials(trials: Iterable[TrialRecord], top: int, objectives: Sequence[Objective]) -> list[TrialRecord]:
    """Finished trials of the search worth keeping, best validation macro F1 first; ties go to the earlier trial.

    Args:
        top: how many, where macro F1 is the only objective; where there are several, all of the Pareto front.
    """
    of_the_search = (t for t in trials if t.state == "finished" and t.of_search)
    finished = sorted(of_the_search, key=lambda t: (-t.score, t.number))
    if len(objectives) == 1:
        return finished[:top]
    front = pareto_front([[t.figure(metric) for metric, _ in objectives] for t in finished], objectives)
    return [trial for trial, on_front in zip(finished, front, strict=True) if on_front]


def pareto_front(points: Sequence[Sequence[float]], objectives: Sequence[Objective]) -> list[bool]:
    """Whether each point (one value per objective) is surpassed by no other; of equal points the first is on it."""
    if not points:
        return []
    signs = np.array([-1.0 if direction == "maximize" else 1.0 for _, direction in objectives])
    losses = np.asarray(points) * signs
    as_good = (losses[:, None] <= losses[None]).all(-1)  # row i is nowhere worse than column j
    better = as_good & (losses[:, None] < losses[None]).any(-1)
    twin_before = np.triu(as_good & as_good.T, 1)
    return [not lost for lost in (better | twin_before).any(0)]


def repetitions_of(trials: Mapping[str, TrialRecord], name: str) -> list[TrialRecord]:
    """The finished trials that train a trial's configuration with other seeds, in order."""
    return [trial for trial in trials.values() if trial.repeats == name and trial.state == "finished"]


def training_chain(trials: Mapping[str, TrialRecord], trial: TrialRecord) -> list[TrialRecord]:
    """A trial and all whose models it was made from, the first one first."""
    chain = [trial]
    while (teacher := trials.get(teacher_name(chain[0]) or "")) is not None and teacher not in chain:
        chain.insert(0, teacher)
    return chain


def teacher_name(trial: TrialRecord) -> str | None:
    """The trial whose model a trial starts from, or learns from."""
    return None if trial.teacher is None else trial.teacher.removeprefix(f"{TRIALS}/")


def best_of_strategy(
    trials: Mapping[str, TrialRecord], strategy: str, top: int, objectives: Sequence[Objective], teacher: str | None
) -> list[TrialRecord]:
    """As ``best_trials``; the trial whose further cycles made the teacher is there as the teacher.

    Args:
        teacher: the trial that compressed models start from, once chosen.
    """
    mine = [trial for trial in trials.values() if trial.strategy == strategy]
    last = trials.get(teacher or "")
    if last is None or last.trains_on is None or last.strategy != strategy:
        return best_trials(mine, top, objectives)
    first = training_chain(trials, last)[0]
    others = [trial for trial in best_trials(mine, len(mine), objectives) if trial.name != first.name]
    return sorted([last, *others], key=lambda trial: (-trial.score, trial.number))[:top]
