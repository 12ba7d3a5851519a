"""The best baseline trained in further cycles: until it has settled, and once more as what others are compared with."""

from collections.abc import Iterator

from run_folder.events import Suggested
from run_folder.ledger import Ledger
from run_folder.names import TRIALS
from run_folder.trials import TrialRecord, best_trials
from search_spaces import objectives_of
from tune_jobs.searching.study import seed_of

LEAST_F1_GAIN = 0.005
"""A cycle gains where validation macro F1 rises by this much …"""
LEAST_LOSS_GAIN = 0.02
"""… or does not fall, and the validation loss falls by this share."""


def gains(before: TrialRecord, after: TrialRecord) -> bool:
    """Whether the deployed model of a cycle is better than the one that it started from, on validation.

    Raises:
        AssertionError: either has no deployed model.
    """
    if after.score - before.score >= LEAST_F1_GAIN:
        return True
    old, new = before.deployed.validation_loss, after.deployed.validation_loss
    return old is not None and new is not None and after.score >= before.score and new <= old * (1 - LEAST_LOSS_GAIN)


class Cycles:
    """Deals the further cycles of the best baseline.

    A cycle trains the model of the one before for as many epochs again, with the same configuration and its learning
    rate warmed up again. Cycles follow one another until one gains nothing, at most ``most`` that gain; the last that
    gained is the teacher. The cycle after the teacher's is trained in any case: a compressed model that started from
    the teacher is compared with a baseline that was trained for as long.

    Args:
        strategy: whose best trial is trained.
        run_seed: the run's seed, from which those of the cycles are drawn.
        retry_failed: run failed cycles again, under the same name.
    """

    def __init__(self, ledger: Ledger, strategy: str, run_seed: int, most: int, *, retry_failed: bool) -> None:
        self._ledger, self._strategy, self._run_seed, self._most = ledger, strategy, run_seed, most
        failed = {t.name for t in ledger.trials.values() if t.trains_on and not t.repeats and t.state == "failed"}
        self.to_retry: set[str] = failed if retry_failed else set()
        """Names of failed cycles that are to run again."""

    @property
    def settled(self) -> TrialRecord | None:
        """The baseline that has settled; None while its last cycle has not ended, or where there is no baseline."""
        reached = None
        for before, cycle in self._steps():
            reached = before
            if cycle is None or cycle.state == "running" or cycle.name in self.to_retry:
                return None
            if cycle.state != "finished" or not gains(before, cycle):
                return before
            reached = cycle
        return reached

    def missing(self) -> TrialRecord | None:
        """The model that the next cycle is to start from; None where none is to be trained now."""
        for before, cycle in self._steps(control=True):
            if cycle is None or cycle.name in self.to_retry:
                return before
            if cycle.state != "finished" or not gains(before, cycle) or before.name == self._ledger.teacher:
                return None
        return None

    def next(self) -> TrialRecord | None:
        """The next cycle, dealt; None where none is to be trained now."""
        before = self.missing()
        if before is None:
            return None
        number = _cycle_of(before) + 1
        name = f"{before.name.partition(_CYCLE)[0]}{_CYCLE}{number}"
        self.to_retry.discard(name)
        self._ledger.append(
            Suggested(
                trial=name,
                strategy=before.strategy,
                number=before.number,
                seed=seed_of(self._run_seed, before.strategy, before.number, "cycle", number),
                hyperparameters=dict(before.hyperparameters),
                distributions=dict(before.distributions),
                teacher=f"{TRIALS}/{before.name}",
                trains_on=before.name,
            )
        )
        return self._ledger.trials[name]

    def _steps(self, *, control: bool = False) -> Iterator[tuple[TrialRecord, TrialRecord | None]]:
        """Each model of the chain with the cycle that starts from it, as far as it was dealt.

        Args:
            control: with the cycle after the last that may become the teacher.
        """
        if not self._most:
            return
        current = self._start()
        for _ in range(self._most + control):
            if current is None or current.state != "finished":
                return
            cycle = self._ledger.trials.get(f"{current.name.partition(_CYCLE)[0]}{_CYCLE}{_cycle_of(current) + 1}")
            yield current, cycle
            current = cycle

    def _start(self) -> TrialRecord | None:
        """The best baseline of the search, or the one whose cycles have begun: a better one may have come since."""
        begun = [t for t in self._ledger.trials.values() if t.trains_on and not t.repeats]
        if begun:
            return self._ledger.trials[begun[0].name.partition(_CYCLE)[0]]
        return next(iter(best_trials(self._ledger.of(self._strategy), 1, objectives_of(self._strategy))), None)


_CYCLE = "-cycle"


def _cycle_of(trial: TrialRecord) -> int:
    """The search's own training is cycle 1."""
    return int(trial.name.partition(_CYCLE)[2] or 1)
