"""The events of a run's ledger: their types, read and checked, and added up to trials."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from run_folder.errors import InputError
from run_folder.folder import Folder
from run_folder.ledger_end import LedgerEnd, changed_event, check_end, digest, read_end
from run_folder.names import LEDGER, TRIALS
from run_folder.records import from_plain, to_plain
from run_folder.results import DeployedResult, EpochResult
from run_folder.trials import TrialRecord

_TRIAL_NAME = re.compile(r"(?P<of_search>[a-z][a-z0-9_]*-[0-9]{4,})(-cycle[0-9]+)?(-seed[0-9]+)?")


@dataclass(frozen=True, kw_only=True)
class Suggested:
    """A trial was dealt; see ``TrialRecord`` for what its fields mean."""

    trial: str
    strategy: str
    number: int
    seed: int
    hyperparameters: Mapping[str, Any]
    distributions: Mapping[str, str]
    teacher: str | None
    retry_of: str | None = None
    continues: str | None = None
    until: int | None = None
    repeats: str | None = None
    trains_on: str | None = None
    patience: int | None = None


@dataclass(frozen=True)
class EpochEnded:
    """A trial finished an epoch."""

    trial: str
    result: EpochResult


@dataclass(frozen=True)
class Finished:
    """A trial deployed its model."""

    trial: str
    final: DeployedResult


@dataclass(frozen=True)
class Stopped:
    """The scheduler stopped a trial early."""

    trial: str


@dataclass(frozen=True)
class Failed:
    """A trial ended without a model."""

    trial: str
    reason: str


@dataclass(frozen=True)
class Warned:
    """A trial warned of something, and continued."""

    trial: str
    message: str


@dataclass(frozen=True)
class TeacherChosen:
    """The trial that the run's compressed models start from."""

    trial: str


@dataclass(frozen=True)
class Skipped:
    """A strategy cannot run."""

    strategy: str
    reason: str


@dataclass(frozen=True)
class Unskipped:
    """A strategy that was skipped can run after all."""

    strategy: str


@dataclass(frozen=True)
class Extended:
    """The search got a larger budget: this many trials per strategy."""

    trials: int


TrialEvent = Suggested | EpochEnded | Finished | Stopped | Failed | Warned | TeacherChosen
Event = TrialEvent | Skipped | Unskipped | Extended

_TYPES: Mapping[str, type[Event]] = {
    "suggested": Suggested,
    "epoch": EpochEnded,
    "finished": Finished,
    "stopped": Stopped,
    "failed": Failed,
    "warning": Warned,
    "teacher": TeacherChosen,
    "skipped": Skipped,
    "unskipped": Unskipped,
    "extended": Extended,
}
"""Type of an event by its kind, as the files name it."""
_KINDS = {event_type: kind for kind, event_type in _TYPES.items()}


def event_file(number: int, event: Event) -> str:
    """Path of an event in the run's folder."""
    return f"{LEDGER}/{number:08d}-{_KINDS[type(event)]}.json"


def event_line(event: Event) -> str:
    """The event in one line for a log, without a failure's reason, which may quote an error's message."""
    kind = _KINDS[type(event)]
    match event:
        case Suggested():
            return f"{event.trial} {kind}, seed {event.seed}"
        case EpochEnded():
            return f"{event.trial} {kind} {event.result.epoch}, macro F1 {event.result.f1:.4f}"
        case Finished():
            return f"{event.trial} {kind}, macro F1 {event.final.validation.f1:.4f}, {event.final.bytes:,} bytes"
        case Warned():
            return f"{event.trial} {kind}: {event.message}"
        case Skipped() | Unskipped():
            return f"{event.strategy} {kind}"
        case Extended():
            return f"{kind} to {event.trials} trials per strategy"
        case _:
            return f"{event.trial} {kind}"


def event_json(event: Event, previous: str | None = None) -> bytes:
    """What the file of an event holds.

    Args:
        previous: SHA-256 of the file of the event before; empty where there is none.

    Raises: ValueError: a number in it is not finite.
    """
    chained = {} if previous is None else {"previous": previous}
    return json.dumps({"event": _KINDS[type(event)], **to_plain(event), **chained}, allow_nan=False).encode()


def read_events(folder: Folder, start: int = 0) -> list[Event]:
    """The ledger's events in order, from number ``start`` on; files that are still being written are left out.

    Raises:
        InputError: an event is damaged, changed or missing, or names a trial that could not be one.
    """
    return read_chain(folder, start).events


@dataclass(frozen=True)
class Chain:
    """What was read of a ledger.

    Attributes:
        last: SHA-256 of the last event's file; empty where there is none.
        end: as it was noted.
    """

    events: list[Event]
    last: str
    end: LedgerEnd | None


def read_chain(folder: Folder, start: int = 0, *, whole: bool = True) -> Chain:
    """As ``read_events``, with what the next event needs.

    Args:
        whole: whether all events that were noted must be there.
    """
    end = read_end(folder)  # first: a search that is running adds events, then notes the end
    names = [name for name in folder.names(LEDGER) if name.endswith(".json") and not name.startswith(".")]
    events: list[Event] = []
    hashes: list[str] = []
    for number, name in enumerate(names[start:], start):
        if not name.startswith(f"{number:08d}-"):
            raise InputError(f"{folder}: event {number} of its {LEDGER}/ is missing; restore it from a copy of the run")
        data = folder.read(f"{LEDGER}/{name}")
        event, previous = _parsed(data, name, f"{folder}: {LEDGER}/{name}")
        if previous is not None and (number == 0 or hashes) and previous != (hashes[-1] if hashes else ""):
            raise changed_event(folder, names[number - 1] if number else name)
        events.append(event)
        hashes.append(digest(data))
    if end is not None and whole:
        place = end.events - 1 - start
        check_end(folder, end, names, hashes[place] if 0 <= place < len(hashes) else None)
    return Chain(events, hashes[-1] if hashes else "", end)


def _parsed(data: bytes, name: str, where: str) -> tuple[Event, str | None]:
    """An event, and the SHA-256 of the file before; None where an older version wrote it."""
    try:
        values = json.loads(data)
        kind = name[9 : -len(".json")]
        if values["event"] != kind:
            raise ValueError
        event_type = _TYPES[kind]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{where} is damaged; restore it from a copy of the run") from None
    event: Event = from_plain(values, event_type, where)
    if not _names_are_sound(event):
        raise InputError(f"{where} is damaged; restore it from a copy of the run")
    return event, values.get("previous")


def _names_are_sound(event: Event) -> bool:
    """Whether an event's trials have names such as a search gives: they become paths, also of what is deleted."""
    names = [] if isinstance(event, Skipped | Unskipped | Extended) else [event.trial]
    if isinstance(event, Suggested):
        others = (event.retry_of, event.continues, event.repeats, event.trains_on)
        names += [name for name in others if name is not None]
        if event.teacher is not None:
            parent, _, teacher = event.teacher.partition("/")
            names.append(teacher if parent == TRIALS else parent)
        of_search = _TRIAL_NAME.fullmatch(event.trial)
        if of_search is None or of_search["of_search"] != f"{event.strategy}-{event.number:04d}":
            return False
    return all(_TRIAL_NAME.fullmatch(name) for name in names)


def apply_event(trials: dict[str, TrialRecord], event: Event) -> None:
    """Add one event to the trials; events that are not about a trial's course change nothing.

    Raises:
        InputError: the event is about a trial that none before it suggested.
    """
    match event:
        case Suggested():
            inherited = _known(trials, event.continues).epochs if event.continues else ()
            trials[event.trial] = TrialRecord(
                name=event.trial,
                strategy=event.strategy,
                number=event.number,
                seed=event.seed,
                hyperparameters=event.hyperparameters,
                distributions=event.distributions,
                teacher=event.teacher,
                epochs=inherited,
                retry_of=event.retry_of,
                continues=event.continues,
                until=event.until,
                repeats=event.repeats,
                trains_on=event.trains_on,
                patience=event.patience or 0,
            )
        case EpochEnded():
            trial = _known(trials, event.trial)
            trials[event.trial] = replace(trial, epochs=(*trial.epochs, event.result))
        case Finished():
            trials[event.trial] = replace(_known(trials, event.trial), state="finished", final=event.final)
        case Stopped():
            trials[event.trial] = replace(_known(trials, event.trial), state="stopped")
        case Failed():
            trials[event.trial] = replace(_known(trials, event.trial), state="failed", reason=event.reason)


def _known(trials: Mapping[str, TrialRecord], name: str) -> TrialRecord:
    if name not in trials:
        raise InputError(
            f"the ledger tells of trial {name} before it was suggested: an event is missing; restore it from a copy of "
            "the run"
        )
    return trials[name]


def trials_of(events: Iterable[Event]) -> dict[str, TrialRecord]:
    """The trials that a ledger's events add up to, by name, in the order of suggestion."""
    trials: dict[str, TrialRecord] = {}
    for event in events:
        apply_event(trials, event)
    return trials


def teacher_of(events: Iterable[Event]) -> str | None:
    """The trial that the run's compressed models start from, as last chosen."""
    return next((event.trial for event in reversed(list(events)) if isinstance(event, TeacherChosen)), None)


def apply_skip(skipped: dict[str, str], event: Event) -> None:
    """Add one event to the strategies that cannot run, with the reason; other events change nothing."""
    if isinstance(event, Skipped):
        skipped[event.strategy] = event.reason
    elif isinstance(event, Unskipped):
        skipped.pop(event.strategy, None)


def skipped_strategies(events: Iterable[Event]) -> dict[str, str]:
    """Strategies that cannot run, with the reason."""
    skipped: dict[str, str] = {}
    for event in events:
        apply_skip(skipped, event)
    return skipped
