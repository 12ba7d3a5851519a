"""The ledger: one small file per event, written at once, never changed. Everything else can be rebuilt from it."""

import json
from collections import Counter
from typing import Any

from run_folder.events import Event, apply_event, apply_skip, read_events
from run_folder.folder import Folder
from run_folder.names import LEDGER
from run_folder.trials import TrialRecord


class Ledger:
    """Appends events to a run's folder and holds the state that they add up to.

    Attributes:
        folder: the run's.
        trials: what the events say, by trial name, in the order of suggestion.
        teacher: the trial that the run's compressed models start from, once chosen.
        skipped: strategies that cannot run, with the reason.
        events: all of them, in order.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.trials: dict[str, TrialRecord] = {}
        self.teacher: str | None = None
        self.skipped: dict[str, str] = {}
        self.events: list[Event] = []
        self._names: dict[str, list[str]] = {}
        self._asked: Counter[str] = Counter()
        for event in read_events(folder):
            self._apply(event)

    def append(self, kind: str, **fields: Any) -> None:
        """Record an event; when this returns it is on the storage."""
        event = {"event": kind, **fields}
        name = f"{LEDGER}/{len(self.events):08d}-{kind}.json"
        self.folder.write(name, json.dumps(event, allow_nan=False).encode())
        self._apply(event)

    def _apply(self, event: Event) -> None:
        self.events.append(event)
        if event["event"] == "teacher":
            self.teacher = event["trial"]
        else:
            apply_skip(self.skipped, event)
            apply_event(self.trials, event)
        if event["event"] == "suggested" and not event.get("repeats"):
            self._names.setdefault(event["strategy"], []).append(event["trial"])
            self._asked[event["strategy"]] += not event.get("retry_of") and not event.get("continues")

    def asked(self, strategy: str) -> int:
        """How many of the strategy's trials count as asked for: retries and those that continue another do not."""
        return self._asked[strategy]

    def to_retry(self) -> list[TrialRecord]:
        """Failed trials that no other has run again."""
        again = {trial.retry_of for trial in self.trials.values()}
        failed = [trial for trial in self.trials.values() if trial.state == "failed" and trial.repeats is None]
        return [trial for trial in failed if trial.name not in again]

    def of(self, strategy: str) -> list[TrialRecord]:
        """The trials of the strategy's search; its repetitions with other seeds are none."""
        return [self.trials[name] for name in self._names.get(strategy, ())]
