"""The run's teacher: the best baseline, and which trials have to wait for it."""

from collections.abc import Collection, Iterable

from run_folder.events import Skipped, TeacherChosen, Unskipped
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from run_folder.names import TRIALS
from run_folder.trials import TrialRecord
from trainables import trainable_class
from trainables.parts.training.teaching import LOGITS_FILE
from trainables.references import BASELINE
from tune_jobs.searching.cycles import Cycles


def baselines_ended(ledger: Ledger, budget: int, retries: Iterable[TrialRecord]) -> bool:
    """Whether all baselines of the budget have ended, and none is to run again."""
    if ledger.asked(BASELINE) < budget or any(trial.strategy == BASELINE for trial in retries):
        return False
    return all(trial.state != "running" for trial in ledger.of(BASELINE))


def choose_teacher(ledger: Ledger, strategies: Iterable[str], cycles: Cycles | None) -> None:
    """Make the best baseline the teacher, once it has settled; where there is none, skip what needs one.

    Args:
        cycles: of the best baseline; None where it is trained no further.
    """
    if ledger.teacher is not None:
        return
    finished = [trial for trial in ledger.of(BASELINE) if trial.state == "finished"]
    if finished:
        best = max(finished, key=lambda trial: (trial.score, -trial.number)) if cycles is None else cycles.settled
        if best is not None:
            ledger.append(TeacherChosen(best.name))
        return
    for strategy in strategies:
        if trainable_class(strategy).needs_teacher and strategy not in ledger.skipped:
            ledger.append(Skipped(strategy, "no teacher: every baseline trial failed"))


def unskip_all(ledger: Ledger) -> None:
    """Strategies that were skipped may run after all: further baselines are to come."""
    for strategy in list(ledger.skipped):
        ledger.append(Unskipped(strategy))


class Readiness:
    """Which strategies can start a trial now: a teacher, and its logits, may have to be made first."""

    def __init__(self, folder: Folder, ledger: Ledger) -> None:
        self._folder, self._ledger = folder, ledger
        self._logits_seen = False

    def of(self, strategy: str, active: Collection[str]) -> bool:
        """Whether a trial can start.

        Args:
            active: names of the trials that are running. One of them may be computing the teacher's logits; no other
                need do that again.
        """
        cls = trainable_class(strategy)
        if cls.needs_teacher and self._ledger.teacher is None:
            return False
        return not cls.reads_teacher_logits or self._logits_exist() or not self._is_computed(active)

    def _logits_exist(self) -> bool:
        if not self._logits_seen:
            self._logits_seen = self._folder.exists(f"{TRIALS}/{self._ledger.teacher}/{LOGITS_FILE}")
        return self._logits_seen

    def _is_computed(self, active: Collection[str]) -> bool:
        return any(trainable_class(self._ledger.trials[name].strategy).reads_teacher_logits for name in active)
