"""One process at a time on a run."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clinical_notes.errors import InputError
from clinical_notes.storage import Folder

LOCK_FILE = "lock"


@contextmanager
def only_process(folder: Folder) -> Iterator[None]:
    """Hold the run's lock, which the operating system takes back from a process that dies.

    A run behind a URI is not locked: object stores have no locks.

    Raises:
        InputError: another process holds it.
    """
    if not folder.is_local:
        yield
        return
    with (Path(folder.uri) / LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"RUN: another process is working on {folder.name}; wait for it, or stop it first"
            ) from None
        yield
