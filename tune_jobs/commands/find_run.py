"""Which run a command is about."""

import argparse
import os
import shlex
from dataclasses import replace
from pathlib import Path

from run_folder.errors import InputError, Problem, quoted
from run_folder.folder import Folder, refusing
from run_folder.ledger import Ledger
from run_folder.ledger_end import EventsMissingError
from run_folder.lock import only_process
from run_folder.names import RUN_FILE
from run_folder.run import Run, open_run

_LONGEST_NAME = 100
"""Bytes of a run's name: file systems take 255, and some of a run's files have longer names."""


def is_plain_name(name: str) -> bool:
    """Whether a name can be a folder's and nothing else."""
    short = 0 < len(os.fsencode(name)) <= _LONGEST_NAME
    return short and name[0] not in ".-" and all(c.isalnum() or c in "._-" for c in name)


def name_problems(name: str | None) -> list[Problem]:
    """Why a new run cannot be called this."""
    if name is None or is_plain_name(name):
        return []
    message = f"{quoted(name)} is not a plain folder name"
    return [Problem("name", message, f"give at most {_LONGEST_NAME} letters, digits, '.', '_' and '-'")]


def storage_of(options: argparse.Namespace) -> Folder:
    """Where the runs are. Raises: InputError: it cannot be opened, or does not answer."""
    return _answering("storage", options.storage)


def _answering(field: str, uri: str) -> Folder:
    try:
        folder = Folder(uri)
    except InputError as error:
        raise _of_field(error, field) from None
    with refusing(field):
        folder.answers()
    return folder


def opened(options: argparse.Namespace) -> Run:
    """The run named on the command line: under the storage, or a folder by itself."""
    return _opened(storage_of(options), options.run, "run")


def continue_without_lost_events(options: argparse.Namespace) -> None:
    """Note what is left of the run's ledger as all that there was. Raises: InputError: as ``opened``."""
    folder = _find(storage_of(options), options.run, "run")
    with refusing("run"):
        try:
            open_run(folder)
        except EventsMissingError:
            with only_process(folder):
                Ledger(folder, whole=False).note_end()


def earlier_run(storage: Folder, name: str) -> Run:
    """The run to start from, named as in other commands. Raises: InputError."""
    try:
        return _opened(storage, name, "warm_start")
    except InputError as error:
        raise _of_field(error, "warm_start") from None


def _of_field(error: InputError, field: str) -> InputError:
    """The error with this field for the problems that name none."""
    return InputError(*(replace(problem, field=problem.field or field) for problem in error.problems))


def _opened(storage: Folder, name: str, field: str) -> Run:
    folder = _find(storage, name, field)
    with refusing(field):
        try:
            return open_run(folder)
        except EventsMissingError as error:
            again = resume_line(folder, folder.uri.removesuffix(f"/{folder.name}"))
            raise InputError(f"{error}, or continue without them with `{again} --force`") from None


def _find(storage: Folder, name: str, field: str) -> Folder:
    """The folder of a run, by its name under the storage or by itself. Raises: InputError."""
    with refusing(field):
        if is_plain_name(name) and storage.exists(f"{name}/{RUN_FILE}"):
            return storage.child(name)
        folder = _answering(field, name)
        if folder.exists(RUN_FILE):
            return folder
        known = [found for found in storage.names() if storage.exists(f"{found}/{RUN_FILE}")]
    there = f"runs there: {', '.join(known)}" if known else "there are none"
    raise InputError(Problem(field, f"no run {quoted(name)} in {storage} ({there})", "give a run's name or its folder"))


def resume_line(folder: Folder, storage: str, command: str = "resume") -> str:
    """The command that continues a run, ready to be pasted into a shell."""
    where = [] if Folder(storage).uri == Folder("runs").uri else ["--storage", storage]
    return shlex.join(["symptune", command, folder.name, *where])


def writable_storage(options: argparse.Namespace) -> Folder:
    """Where a new run will be. Raises: InputError: as ``storage_of``, or a local one that cannot be written."""
    folder = storage_of(options)
    if not folder.is_local:
        return folder
    there = Path(folder.uri)
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise InputError(Problem("storage", f"{there} is not a folder that can be written", "name another"))
    return folder
