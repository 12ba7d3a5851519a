"""The search of a whole run, without Ray: which trial comes next, and what its reports mean."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass

from run_folder.events import EpochEnded, Failed, Finished, Stopped, Warned
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from run_folder.results import DeployedResult, EpochResult, Report, StorageFailed, TrialFailed
from run_folder.trials import TrialRecord
from trainables.references import BASELINE
from tune_jobs.searching.dealer import Dealer
from tune_jobs.searching.discard_files import TrialFiles
from tune_jobs.searching.halt import Halt
from tune_jobs.searching.plan import SearchPlan
from tune_jobs.searching.study import StrategyStudy
from tune_jobs.searching.teacher import baselines_ended, choose_teacher, unskip_all

HALF_BATCHES = "out of memory; continues in half batches, whose gradients are added up"

OUT_OF_MEMORY = "out of memory, with half batches too"

MOST_LOSSES = 3
"""Times that a trial's process may die between two results, in one search."""


@dataclass(frozen=True)
class Suggestion:
    """A trial to run: a new one, or one that continues.

    Attributes:
        record: what the ledger knows of it; its epochs are not reported again.
        parts: each batch is computed in this many parts, where a whole one took too much memory.
    """

    record: TrialRecord
    parts: int = 1


class Search:
    """Deals trials and records their reports, so that ledger, studies and files stay in step.

    Args:
        stopped: trials that the scheduler stopped; where the process died before that was recorded, it is now.
        discarding: drops files that nothing needs any more, while the search continues; None: they are dropped at once.
        on_change: called after every event, with the trial it is about.
        on_warning: called with every warning of a trial.
    """

    def __init__(
        self,
        folder: Folder,
        ledger: Ledger,
        studies: Mapping[str, StrategyStudy],
        plan: SearchPlan,
        *,
        stopped: Iterable[str] = (),
        discarding: Executor | None = None,
        on_change: Callable[[TrialRecord], None] = lambda record: None,
        on_warning: Callable[[TrialRecord, str], None] = lambda record, message: None,
    ) -> None:
        self.ledger, self._studies, self._plan = ledger, studies, plan
        self._on_change, self._on_warning = on_change, on_warning
        for strategy, study in studies.items():
            for record in ledger.of(strategy):
                study.restore(record)
        self._halt = Halt()
        self._files = TrialFiles(folder, ledger, studies, plan.keep, self._halt, discarding)
        self._dealer = Dealer(folder, ledger, studies, plan)
        self._losses: Counter[tuple[str, int]] = Counter()
        self._in_half_batches: set[str] = set()
        if BASELINE in studies:
            if not self._baselines_ended():
                unskip_all(ledger)
            self._choose_teacher()
        for name in stopped:
            self.stop(name)
        cycles = self._dealer.cycles.to_retry if self._dealer.cycles is not None else set()
        self._files.discard_leftovers(self._dealer.continued(), self._dealer.repetitions.to_retry | cycles)
        self._dealer.take_up_interrupted()
        with self._halt.on_storage_errors():
            ledger.note_end()  # the process before may have been killed before it did

    @property
    def halted(self) -> str | None:
        """Why the storage takes nothing more, once it doesn't; no event is recorded from then on."""
        return self._halt.reason

    def halting_on_storage_errors(self) -> AbstractContextManager[None]:
        """What the storage refuses in the block halts the search."""
        return self._halt.on_storage_errors()

    @property
    def done(self) -> bool:
        """Whether no trial is running and none is left to suggest."""
        return self._dealer.done

    def suggest(self) -> Suggestion | None:
        """The next trial, or None while there is nothing to start."""
        record = self._dealer.next()
        if record is None:
            return None
        self._on_change(record)
        return Suggestion(record, parts=2 if record.name in self._in_half_batches else 1)

    def report(self, name: str, report: Report) -> None:
        """Record what a trial reports."""
        record = self.ledger.trials[name]
        if isinstance(report.result, StorageFailed):
            self._halt.because(report.result.reason)
        if not self._is_open(record):
            return
        if report.warnings:
            self._warn(record, "; ".join(dict.fromkeys(report.warnings)))
        match report.result:
            case TrialFailed(reason):
                self._fail(record, reason)
            case DeployedResult() as final:
                self.ledger.append(Finished(name, final))
                if study := self._study_of(record):
                    study.finished(record.number, final)
                self._ended(name)
            case EpochResult(epoch=epoch) as result if epoch == len(record.epochs) + 1:
                self.ledger.append(EpochEnded(name, result))  # a restarted worker repeats what is known
                if study := self._study_of(record):
                    study.report(record.number, epoch, result.f1)
        self._on_change(self.ledger.trials[name])

    def stop(self, name: str) -> None:
        """Record that the scheduler stopped a trial."""
        record = self.ledger.trials[name]
        if not self._is_open(record):
            return
        self.ledger.append(Stopped(name))
        if study := self._study_of(record):
            study.stopped(record.number)
        self._ended(name)
        self._on_change(self.ledger.trials[name])

    def lost(self, name: str, *, out_of_memory: bool = False) -> None:
        """Record that a trial lost its process: it is dealt again, and fails only where that does not help.

        Args:
            out_of_memory: the process was killed since memory ran low; the trial continues in half batches, once.
        """
        record = self.ledger.trials[name]
        if not self._is_open(record):
            return
        if out_of_memory and name in self._in_half_batches:
            self._fail(record, OUT_OF_MEMORY)
            self._on_change(self.ledger.trials[name])
            return
        if out_of_memory:
            self._in_half_batches.add(name)
            self._warn(record, HALF_BATCHES)
        self._losses[name, len(record.epochs)] += 1
        if self._losses[name, len(record.epochs)] < MOST_LOSSES:
            self._dealer.take_back(record)
        else:
            self._fail(
                record,
                f"its process died {MOST_LOSSES} times before it got to a result (a crash, or the memory ran out)",
            )
            self._on_change(self.ledger.trials[name])

    def _is_open(self, record: TrialRecord) -> bool:
        return record.state == "running" and self.halted is None

    def _warn(self, record: TrialRecord, message: str) -> None:
        self.ledger.append(Warned(record.name, message))
        self._on_warning(record, message)

    def _fail(self, record: TrialRecord, reason: str) -> None:
        self.ledger.append(Failed(record.name, reason))
        if study := self._study_of(record):
            study.failed(record.number, reason)
        self._ended(record.name)

    def _study_of(self, record: TrialRecord) -> StrategyStudy | None:
        """The study that hears of a trial; of repetitions and cycles none does."""
        return self._studies[record.strategy] if record.of_search else None

    def _ended(self, name: str) -> None:
        self._dealer.active.discard(name)
        if self.ledger.trials[name].strategy == BASELINE:
            self._choose_teacher()
        self._files.trial_ended(name, self._dealer.continued())

    def _choose_teacher(self) -> None:
        if self._baselines_ended():
            choose_teacher(self.ledger, self._studies, self._dealer.cycles)

    def _baselines_ended(self) -> bool:
        return baselines_ended(self.ledger, self._plan.trials, self._dealer.retries)
