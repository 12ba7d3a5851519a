"""One process at a time on a run."""

import contextlib
import fcntl
import glob
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from run_folder.errors import InputError, Problem
from run_folder.folder import Folder, refusing, remove_empty
from run_folder.lease import leased

LOCK_FILE = "lock"


@contextmanager
def only_process(folder: Folder) -> Iterator[None]:
    """Hold the run's lock, which the operating system takes back from a process that dies.

    Object stores have no locks: a run behind a URI is leased (see ``lease``). A run's new folder is its owner's alone.

    Raises:
        InputError: another process holds it, or it cannot be written or locked.
    """
    if not folder.is_local:
        with leased(folder):
            yield
        return
    path = Path(folder.uri) / LOCK_FILE
    made = [parent for parent in path.parents if not parent.exists()]
    with refusing("run"):
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(exist_ok=True, mode=0o700)
        file = path.open("w")
    with file:
        with refusing("run"):
            _lock(file, folder)
        try:
            yield
        finally:
            if made and os.listdir(path.parent) == [LOCK_FILE]:  # nothing came of it
                path.unlink()
                remove_empty(made)


def _lock(file: IO[str], folder: Folder) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            Problem("run", f"another process is working on {folder.name}", "wait for it, or stop it first")
        ) from None


def staged_next_to(target: Path) -> Path:
    """A new name for a file or folder on its way to ``target``; what killed processes left of others is deleted."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.????????.tmp"):
        with contextlib.suppress(OSError), held(left):
            left.unlink() if left.is_file() else shutil.rmtree(left)
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file or folder while it is being written, so that no other process deletes it as left by a killed one."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
