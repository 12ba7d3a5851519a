"""The ledger: one small file per event, written at once, never changed. Everything else can be rebuilt from it.

Each event's file names the one before by its SHA-256, and ``ledger.json`` has the last one's, noted when a trial ends.
"""

import logging
from collections import Counter
from collections.abc import Mapping

from run_folder.events import (
    Event,
    Extended,
    Failed,
    Finished,
    Stopped,
    Suggested,
    TeacherChosen,
    Warned,
    apply_event,
    apply_skip,
    event_file,
    event_json,
    event_line,
    read_chain,
)
from run_folder.folder import Folder
from run_folder.ledger_end import LedgerEnd, digest, run_digest, write_end
from run_folder.trials import TrialRecord

_log = logging.getLogger(__name__)
_LEVELS: Mapping[type[Event], int] = {Failed: logging.ERROR, Warned: logging.WARNING}
"""Levels at which events are logged, where it is not INFO."""
_NOTED = (Finished, Stopped, Failed, Extended)
"""Events after which the ledger's end is noted: epochs that are lost are trained again, and found the same."""


class Ledger:
    """Appends events to a run's folder and holds the state that they add up to.

    Attributes:
        folder: the run's.
        trials: what the events say, by trial name, in the order of suggestion.
        teacher: the trial that the run's compressed models start from, once chosen.
        skipped: strategies that cannot run, with the reason.
        events: all of them, in order.
    """

    def __init__(self, folder: Folder, *, whole: bool = True) -> None:
        """Read the ledger.

        Args:
            whole: whether all events that were noted must be there; else it continues after those that are left.

        Raises:
            InputError: as ``read_events``.
        """
        self.folder = folder
        self.trials: dict[str, TrialRecord] = {}
        self.teacher: str | None = None
        self.skipped: dict[str, str] = {}
        self.events: list[Event] = []
        self._names: dict[str, list[str]] = {}
        self._asked: Counter[str] = Counter()
        chain = read_chain(folder, whole=whole)
        self._last, self._noted = chain.last, chain.end
        for event in chain.events:
            self._apply(event)

    def append(self, event: Event) -> None:
        """Record an event; when this returns it is on the storage."""
        data = event_json(event, self._last)
        self.folder.write(event_file(len(self.events), event), data)
        _log.log(_LEVELS.get(type(event), logging.INFO), "%s", event_line(event))
        self._last = digest(data)
        self._apply(event)
        if isinstance(event, _NOTED):
            self.note_end()

    def note_end(self) -> None:
        """Note how many events there are, so that one that is lost later is missed."""
        run = self._noted.run if self._noted else run_digest(self.folder)
        end = LedgerEnd(events=len(self.events), last=self._last, run=run)
        if end != self._noted:
            write_end(self.folder, end)
            self._noted = end

    def _apply(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, TeacherChosen):
            self.teacher = event.trial
        apply_skip(self.skipped, event)
        apply_event(self.trials, event)
        if isinstance(event, Suggested) and self.trials[event.trial].of_search:
            self._names.setdefault(event.strategy, []).append(event.trial)
            self._asked[event.strategy] += event.retry_of is None and event.continues is None

    def asked(self, strategy: str) -> int:
        """How many of the strategy's trials count as asked for: retries and those that continue another do not."""
        return self._asked[strategy]

    def to_retry(self) -> list[TrialRecord]:
        """Failed trials that no other has run again."""
        again = {trial.retry_of for trial in self.trials.values()}
        failed = [trial for trial in self.trials.values() if trial.state == "failed" and trial.of_search]
        return [trial for trial in failed if trial.name not in again]

    def of(self, strategy: str) -> list[TrialRecord]:
        """The trials of the strategy's search; repetitions and further cycles are none."""
        return [self.trials[name] for name in self._names.get(strategy, ())]
