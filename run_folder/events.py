"""The events of a run's ledger: read, checked and added up to trials."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from run_folder.errors import InputError
from run_folder.folder import Folder
from run_folder.names import LEDGER, TRIALS
from run_folder.trials import TrialRecord

_TRIAL_NAME = re.compile(r"[a-z][a-z0-9_]*-[0-9]{4,}(-seed[0-9]+)?")

Event = Mapping[str, Any]


def apply_event(trials: dict[str, TrialRecord], event: Event) -> None:
    """Fold one ledger event into the trials; events of other kinds pass."""
    kind = event["event"]
    if kind == "suggested":
        names = ("strategy", "number", "seed", "hyperparameters", "distributions", "teacher")
        fields = {name: event[name] for name in names}
        fields |= {name: event[name] for name in ("retry_of", "continues", "until", "repeats") if name in event}
        inherited = trials[fields["continues"]].epochs if fields.get("continues") else ()
        trials[event["trial"]] = TrialRecord(name=event["trial"], epochs=inherited, **fields)
    elif kind == "epoch":
        trial = trials[event["trial"]]
        trials[trial.name] = replace(trial, epochs=(*trial.epochs, event["result"]))
    elif kind == "finished":
        trials[event["trial"]] = replace(trials[event["trial"]], state="finished", final=event["final"])
    elif kind == "stopped":
        trials[event["trial"]] = replace(trials[event["trial"]], state="stopped")
    elif kind == "failed":
        trials[event["trial"]] = replace(trials[event["trial"]], state="failed", reason=event["reason"])


def read_events(folder: Folder, start: int = 0) -> list[Event]:
    """The ledger's events in order, from number ``start`` on; files still being written are passed over.

    Raises:
        InputError: an event is damaged or missing, or names a trial that could not be one.
    """
    names = [name for name in folder.names(LEDGER) if name.endswith(".json") and not name.startswith(".")]
    events = []
    for number, name in enumerate(names[start:], start):
        if not name.startswith(f"{number:08d}-"):
            raise InputError(f"{folder}: event {number} of its {LEDGER}/ is missing; restore it from a copy of the run")
        try:
            event = json.loads(folder.read(f"{LEDGER}/{name}"))
            if event["event"] != name[9 : -len(".json")] or not _names_are_sound(event):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{folder}: {LEDGER}/{name} is damaged; restore it from a copy of the run") from None
        events.append(event)
    return events


def _names_are_sound(event: Event) -> bool:
    """Whether an event's trials have names such as a search gives: they become paths, also of what is deleted."""
    names = [event[key] for key in ("trial", "retry_of", "continues", "repeats") if event.get(key) is not None]
    if event.get("teacher") is not None:
        parent, _, teacher = event["teacher"].partition("/")
        names += [teacher] if parent == TRIALS else [parent]
    if event["event"] == "suggested" and event["trial"].partition("-seed")[0] != (
        f"{event['strategy']}-{event['number']:04d}"
    ):
        return False
    return all(_TRIAL_NAME.fullmatch(name) for name in names)


def trials_of(events: Iterable[Event]) -> dict[str, TrialRecord]:
    trials: dict[str, TrialRecord] = {}
    for event in events:
        apply_event(trials, event)
    return trials


def apply_skip(skipped: dict[str, str], event: Event) -> None:
    """Fold one ledger event into the strategies that cannot run, with the reason; events of other kinds pass."""
    if event["event"] == "skipped":
        skipped[event["strategy"]] = event["reason"]
    elif event["event"] == "unskipped":
        skipped.pop(event["strategy"], None)


def skipped_strategies(events: Iterable[Event]) -> dict[str, str]:
    """Strategies that cannot run, with the reason."""
    skipped: dict[str, str] = {}
    for event in events:
        apply_skip(skipped, event)
    return skipped
