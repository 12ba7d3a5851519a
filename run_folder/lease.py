"""One process at a time on a run behind a URI, where nothing can be locked: a file says which process has it.

No clock decides. The file of a process that was killed on this machine is taken over, since the system knows that it
has ended; of a process elsewhere that cannot be known, so the user is asked.
"""

import contextlib
import dataclasses
import os
import platform
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from run_folder.errors import InputError, Problem
from run_folder.folder import Folder, refusing
from run_folder.records import from_json, to_json

LEASE_FILE = "lease.json"
_SECONDS_TO_SETTLE = 1.0
"""After which two processes that wrote the file at the same time both see whose it is."""

_held: set[str] = set()
"""Leases that this process has."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lease:
    """What ``lease.json`` holds.

    Attributes:
        lease: a random name.
        process: its number on its host.
        started: when, in the clock ticks of its system.
        system: boot and process namespace, within which process numbers are unique; empty where there are none.
    """

    lease: str
    host: str
    process: int
    started: str
    system: str


@contextmanager
def leased(folder: Folder) -> Iterator[None]:
    """Have the run while the block runs. Raises: InputError: another process has it, or it cannot be written."""
    mine = _own_lease()
    with refusing("run"):
        _refuse_if_taken(folder)
        folder.write(LEASE_FILE, to_json(mine))
        time.sleep(_SECONDS_TO_SETTLE)
        if (found := _read(folder)) != mine:
            raise _taken(folder, found)
    _held.add(mine.lease)
    try:
        yield
    finally:
        _held.discard(mine.lease)
        with contextlib.suppress(OSError, InputError):  # a storage that failed; the next process sees that this ended
            if _read(folder) == mine:
                folder.delete_file(LEASE_FILE)


def _read(folder: Folder) -> Lease | None:
    if not folder.exists(LEASE_FILE):
        return None
    return from_json(folder.read(LEASE_FILE), Lease, f"{folder}: {LEASE_FILE}")


def _refuse_if_taken(folder: Folder) -> None:
    found = _read(folder)
    if found is not None and not _has_ended(found):
        raise _taken(folder, found)


def _taken(folder: Folder, by: Lease | None) -> InputError:
    who = f"process {by.process} on {by.host}" if by else "another process"
    return InputError(
        Problem(
            "run",
            f"{who} is working on {folder.name}, or was killed there",
            f"wait for it; if it was killed, delete {folder.child(LEASE_FILE)}",
        )
    )


def _has_ended(lease: Lease) -> bool:
    """Whether the process that had it has certainly ended, or is this one, which has it no more."""
    if not lease.system or lease.system != _system():
        return False
    if lease.process == os.getpid() and lease.started == _started(lease.process):
        return lease.lease not in _held
    return _started(lease.process) != lease.started


def _own_lease() -> Lease:
    process = os.getpid()
    return Lease(
        lease=uuid.uuid4().hex,
        host=platform.node(),
        process=process,
        started=_started(process),
        system=_system(),
    )


def _system() -> str:
    """This boot of the machine and this namespace of process numbers; empty where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(process: int) -> str:
    """When a process started, in ticks since the boot, which no clock moves; empty where there is none."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]  # a zombie has ended
