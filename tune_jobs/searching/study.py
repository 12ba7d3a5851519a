"""One Optuna study per strategy: asks for configurations, and is told how trials ended."""

import hashlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from run_folder.results import DeployedResult
from run_folder.trials import TrialRecord
from search_spaces import Configuration, objectives_of, paper_configuration
from search_spaces.overrides import narrowed_space, nearest
from search_spaces.width import overrides_for_width, suits_the_paper
from tune_jobs.searching.study_storage import StudyStorage

logging.getLogger("optuna").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

_RANDOM_TRIALS = 5


def seed_of(*parts: object) -> int:
    """A seed that depends on these parts alone."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4])


class StrategyStudy:
    """The study of one strategy, rebuilt from what the ledger knows.

    The sampler is seeded again for each trial from the run's seed and the trial's number, so that a suggestion
    depends on the study's history and not on how long a process has lived.

    Args:
        random_trials: that end before TPE suggests, the paper's configuration counted and warm ones not.
        multivariate: TPE looks at combinations of values instead of each value by itself.
        warm: configurations to be tried first, in this order, moved into the space.
        width: the encoder's hidden size, on which learning rates depend, and whether the paper's configuration is tried
            before all others; None: it is, and rates are those of small encoders.
        at_most: bytes of a deployed model; larger ones count as infeasible, and TPE looks elsewhere.
    """

    def __init__(
        self,
        strategy: str,
        storage: StudyStorage,
        seed: int,
        overrides: Mapping[str, Any],
        random_trials: int = _RANDOM_TRIALS,
        multivariate: bool = False,
        warm: Sequence[Mapping[str, Any]] = (),
        width: int | None = None,
        at_most: int | None = None,
    ) -> None:
        self.strategy, self._seed = strategy, seed
        self._multivariate, self._at_most = multivariate, at_most
        overrides = overrides_for_width(strategy, overrides, width)
        self._space = narrowed_space(strategy, overrides)
        paper = [nearest(strategy, paper_configuration(strategy), overrides)] if suits_the_paper(width) else []
        moved = [nearest(strategy, configuration, overrides) for configuration in warm]  # the width narrows further
        others = [each for i, each in enumerate(moved) if each not in [*paper, *moved[:i]]]
        self._before_tpe = random_trials + len(others)  # all good, those tell TPE nothing of what is bad
        self._first = [*paper, *others]
        self._new = 0
        """Trials asked for; those that run another's configuration again are none."""
        self._objectives = objectives_of(strategy)
        storage.forget(strategy)
        self._study = optuna.create_study(
            study_name=storage.prefix + strategy,
            storage=storage.storage,
            directions=[direction for _, direction in self._objectives],
            sampler=self._sampler(0),
        )
        self._study.set_metric_names([metric for metric, _ in self._objectives])
        self._running: dict[int, optuna.Trial] = {}

    @property
    def next_number(self) -> int:
        return len(self._study.get_trials(deepcopy=False))

    def ask(self) -> tuple[int, Configuration, dict[str, str]]:
        """Number, hyperparameters and their distributions (Optuna's JSON) of a new trial."""
        number = self.next_number
        self._study.sampler = self._sampler(number)
        if self._new < len(self._first):
            self._study.enqueue_trial(dict(self._first[self._new]))
        self._new += 1
        trial = self._study.ask()
        hyperparameters = dict(self._space(trial))
        self._running[number] = trial
        distributions = {name: distribution_to_json(d) for name, d in trial.distributions.items()}
        return number, hyperparameters, distributions

    def _sampler(self, number: int) -> TPESampler:
        return TPESampler(
            seed=seed_of(self._seed, self.strategy, number),
            multivariate=self._multivariate,
            group=self._multivariate,  # the spaces are conditional
            constant_liar=True,  # others may be running
            n_startup_trials=self._before_tpe,
            constraints_func=None if self._at_most is None else _excess,
        )

    def restore(self, record: TrialRecord) -> None:
        """Put a trial of the ledger into the study; records must come in the order of their numbers."""
        assert record.number == self.next_number, f"{record.name} is out of order"
        self._new += record.retry_of is None and record.continues is None
        values = {} if self._has_several_objectives else {step.epoch: step.f1 for step in record.epochs}
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=dict(record.hyperparameters),
                distributions={name: json_to_distribution(d) for name, d in record.distributions.items()},
                intermediate_values=values,
                user_attrs={"trial": record.name},
            )
        )
        stored = self._study.get_trials(deepcopy=False)[record.number]
        self._running[record.number] = optuna.Trial(self._study, stored._trial_id)
        if record.state == "finished":
            self.finished(record.number, record.deployed)
        elif record.state == "stopped":
            self.stopped(record.number)
        elif record.state == "failed":
            self.failed(record.number, record.reason or "")

    @property
    def _has_several_objectives(self) -> bool:
        return len(self._objectives) > 1

    def report(self, number: int, epoch: int, f1: float) -> None:
        """Note an epoch's validation figure; Optuna takes none where there are several objectives."""
        if not self._has_several_objectives:
            self._running[number].report(f1, epoch)

    def finished(self, number: int, final: DeployedResult) -> None:
        """The deployed model's figures are the trial's values."""
        if self._at_most is not None:
            self._running[number].set_user_attr(_EXCESS, final.bytes / self._at_most - 1)
        self._study.tell(self._running.pop(number), [final.figure(metric) for metric, _ in self._objectives])

    def stopped(self, number: int) -> None:
        """Stopped early: PRUNED, with its last reported value (Optuna refuses another value)."""
        self._study.tell(self._running.pop(number), state=TrialState.PRUNED)

    def failed(self, number: int, reason: str) -> None:
        trial = self._running.pop(number)
        trial.set_user_attr("reason", reason)
        self._study.tell(trial, state=TrialState.FAIL)


_EXCESS = "excess"
"""Attribute of a trial: the share by which its model is larger than wished, at most 0 where it is not."""


def _excess(trial: FrozenTrial) -> tuple[float]:
    """Optuna's constraint: above 0 is infeasible. What was stopped early has no model, and counts as feasible."""
    return (trial.user_attrs.get(_EXCESS, 0.0),)
