"""How far a ledger had come: what shows that its last events, or all of them, are gone."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from run_folder.errors import InputError
from run_folder.folder import Folder
from run_folder.names import LEDGER, RUN_FILE
from run_folder.records import from_json

END_FILE = "ledger.json"


class EventsMissingError(InputError):
    """A ledger has lost its last events; the others are sound."""


@dataclass(frozen=True, kw_only=True)
class LedgerEnd:
    """What ``ledger.json`` holds, next to the ledger; written after the event that it counts, so it may lag behind.

    Attributes:
        events: how many there were.
        last: SHA-256 of the last one's file; empty where there was none.
        run: SHA-256 of ``run.json``; empty where there was none.
    """

    events: int
    last: str
    run: str


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def read_end(folder: Folder) -> LedgerEnd | None:
    """The ledger's end as it was last noted; None where an older version wrote the run. Raises: InputError: damaged."""
    if not folder.exists(END_FILE):
        return None
    return from_json(folder.read(END_FILE), LedgerEnd, f"{folder}: {END_FILE}")


def write_end(folder: Folder, end: LedgerEnd) -> None:
    """Note the ledger's end; its last event must be on the storage."""
    folder.write(END_FILE, json.dumps(vars(end)).encode())


def run_digest(folder: Folder) -> str:
    """SHA-256 of ``run.json``; empty where there is none."""
    return digest(folder.read(RUN_FILE)) if folder.exists(RUN_FILE) else ""


def check_end(folder: Folder, end: LedgerEnd, names: Sequence[str], last: str | None) -> None:
    """Check a ledger against its end.

    Args:
        names: of all its files, listed after ``end`` was read: events may have been added since, but none is removed.
        last: SHA-256 of the file with the number ``end.events - 1``; None where it was not read.

    Raises:
        EventsMissingError: the last ones are gone.
        InputError: that file was changed.
    """
    gone = end.events - len(names)
    if gone > 0:
        which = "all of the" if not names else "the last of the" if gone == 1 else f"the last {gone} of the"
        raise EventsMissingError(
            f"{folder}: {LEDGER}/ lacks {which} {end.events} events that it had; restore them from a copy of the run"
        )
    if last is not None and last != end.last:
        raise changed_event(folder, names[end.events - 1])


def changed_event(folder: Folder, name: str) -> InputError:
    """The error for an event that is not as it was written."""
    return InputError(
        f"{folder}: {LEDGER}/{name} was changed after it was written, or is of another run; "
        "restore it from a copy of the run"
    )
