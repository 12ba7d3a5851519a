"""One process at a time on a run."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from run_folder.errors import InputError, Problem
from run_folder.folder import Folder, refusing

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
    path = Path(folder.uri) / LOCK_FILE
    made = [parent for parent in path.parents if not parent.exists()]
    with refusing("run"):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    with file:
        with refusing("run"):
            _lock(file, folder)
        try:
            yield
        finally:
            if made and os.listdir(path.parent) == [LOCK_FILE]:  # nothing came of it
                path.unlink()
                _remove_empty(made)


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove these folders, innermost first, up to one that something else is in."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _lock(file: IO[str], folder: Folder) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            Problem("run", f"another process is working on {folder.name}", "wait for it, or stop it first")
        ) from None
