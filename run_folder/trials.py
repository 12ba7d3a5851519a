"""The trials of a run, as its ledger tells them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

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
        repeats: the trial whose configuration it trains again with another seed; it is no part of the search then.
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
    of_the_search = (t for t in trials if t.state == "finished" and t.repeats is None)
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
