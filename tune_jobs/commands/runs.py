"""Which run a command is about."""

import argparse
import os
import shlex
from pathlib import Path

from analysis.run import RUN_FILE, Run, open_run
from clinical_notes.errors import InputError
from clinical_notes.storage import Folder


def is_plain_name(name: str) -> bool:
    """Whether a name can be a folder's and nothing else."""
    return bool(name) and name[0] not in ".-" and all(c.isalnum() or c in "._-" for c in name)


def opened(options: argparse.Namespace) -> Run:
    """The run named on the command line: under the storage, or a folder by itself."""
    storage = Folder(options.storage)
    if is_plain_name(options.run) and storage.exists(f"{options.run}/{RUN_FILE}"):
        return open_run(storage.child(options.run))
    folder = Folder(options.run)
    if not folder.exists(RUN_FILE):
        known = [name for name in storage.names() if storage.exists(f"{name}/{RUN_FILE}")]
        there = f"runs there: {', '.join(known)}" if known else "there are none"
        raise InputError(f"RUN: no run {options.run!r} in {storage} ({there}); give a run's name or its folder")
    return open_run(folder)


def resume_line(folder: Folder, storage: str) -> str:
    """The command that continues a run, ready to be pasted into a shell."""
    where = [] if Folder(storage).uri == Folder("runs").uri else ["--storage", storage]
    return shlex.join(["symptune", "resume", folder.name, *where])


def check_storage(storage: str) -> None:
    """Raises: InputError: a local storage that cannot be written."""
    folder = Folder(storage)
    if not folder.is_local:
        return
    there = Path(folder.uri)
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError(f"--storage: {there} is not a folder that can be written; name another")
