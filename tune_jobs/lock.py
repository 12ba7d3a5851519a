"""One process at a time on a run."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from clinical_notes.errors import InputError
from clinical_notes.storage import Folder, refusing

LOCK_FILE = "lock"


@contextmanager
def only_process(folder: Folder) -> Iterator[None]:
    """Hold the run's lock, which the operating system takes back from a process that dies.

    A run behind a URI is not locked: object stores have no locks.

    Raises:
        InputError: another process holds it, or it cannot be written or locked.
    """
    if not folder.is_local:
        yield
        return
    with refusing("RUN"):
        file = (Path(folder.uri) / LOCK_FILE).open("w")
    with file:
        with refusing("RUN"):
            _lock(file, folder)
        yield


def _lock(file: IO[str], folder: Folder) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"RUN: another process is working on {folder.name}; wait for it, or stop it first") from None
