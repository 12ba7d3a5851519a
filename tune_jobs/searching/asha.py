"""One asynchronous successive halving (ASHA) per strategy: a trial races its own kind alone."""

from collections import Counter
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from run_folder.events import EpochEnded, Event, Suggested
from search_spaces import objectives_of
from tune_jobs.searching.ray_adapters import record_of


class StrategyASHA(FIFOScheduler):
    """Holds one ASHA per strategy; results reach it under the trial's name in the run, not Ray's id.

    A strategy with several objectives has none: a trial that is weak by one may be the best by another.
    Repetitions with other seeds and further cycles race nobody.

    Args:
        epochs: of a full trial.
        reduction_factor: of ``n`` trials at a rung, ``n / reduction_factor`` continue; 0 stops none.
        grace_period: epochs before a trial can be stopped.
        startup: results that a rung holds before it stops anyone; two trials say little of each other.
        known: the ledger's events, whose results fill the rungs in the order in which they came.

    Attributes:
        stopped: trials of the ledger that it decided to stop, also where their process died before it was recorded.
    """

    def __init__(
        self,
        strategies: Iterable[str],
        epochs: int,
        reduction_factor: int,
        grace_period: int = 2,
        startup: int = 4,
        known: Iterable[Event] = (),
    ) -> None:
        super().__init__()
        self._epochs, self._startup = epochs, startup
        self._entered: Counter[tuple[str, int]] = Counter()
        self._races = {
            strategy: ASHAScheduler(
                time_attr="epoch",
                metric="f1",
                mode="max",
                max_t=epochs + 1,  # the last epoch is never stopped: its model is to be deployed
                grace_period=grace_period,
                reduction_factor=reduction_factor,
            )
            for strategy in strategies
            if reduction_factor and len(objectives_of(strategy)) == 1
        }
        self.stopped: list[str] = []
        self._replay(known)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True

    def _replay(self, events: Iterable[Event]) -> None:
        strategies: dict[str, str] = {}
        for event in events:
            if isinstance(event, Suggested) and event.repeats is None and event.trains_on is None:
                strategies[event.trial] = event.strategy
                self._enter(event.strategy, event.trial)
            elif isinstance(event, EpochEnded) and event.trial in strategies:
                decision = self.race(strategies[event.trial], event.trial, event.result.epoch, event.result.f1)
                if decision == TrialScheduler.STOP:
                    self.stopped.append(event.trial)

    def _enter(self, strategy: str, name: str) -> None:
        race = self._races.get(strategy)
        if race is not None and name not in race._trial_info:
            race.on_trial_add(None, SimpleNamespace(trial_id=name))  # type: ignore[arg-type]

    def race(self, strategy: str, name: str, epoch: int, f1: float) -> str:
        """Put an epoch's validation macro F1 into its rung and decide whether the trial continues."""
        race = self._races.get(strategy)
        if race is None or not 1 <= epoch < self._epochs:
            return str(TrialScheduler.CONTINUE)
        result = {"epoch": epoch, "f1": f1}
        decision = race.on_trial_result(None, SimpleNamespace(trial_id=name), result)  # type: ignore[arg-type]
        self._entered[strategy, epoch] += 1
        few = self._entered[strategy, epoch] < self._startup
        return str(TrialScheduler.CONTINUE if few else decision)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        record = record_of(trial.config)
        if record.of_search:
            self._enter(record.strategy, record.name)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        record = record_of(trial.config)
        if not record.of_search:
            return str(TrialScheduler.CONTINUE)
        return self.race(record.strategy, record.name, result["epoch"], result["f1"])

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Nothing: a deployed model's figure is no epoch of a race."""
