"""Where Optuna keeps the studies, which are made from the ledger: a journal file in the run's folder, or a database."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from run_folder.errors import InputError, Problem, first_line
from run_folder.folder import Folder
from run_folder.names import RUN_FILE

JOURNAL = "studies.journal"

DATABASE_ERRORS = (SQLAlchemyError, StorageInternalError)
"""Exceptions that Optuna raises where its database is gone, locked or full."""


@dataclass(frozen=True)
class StudyStorage:
    """An Optuna storage, and what precedes a strategy's name in the names of its studies there."""

    storage: BaseStorage
    prefix: str = ""

    def forget(self, study: str) -> None:
        """Delete a study that an earlier process left: it is rebuilt from the ledger."""
        try:
            optuna.delete_study(study_name=self.prefix + study, storage=self.storage)
        except KeyError:
            return


@contextmanager
def study_storage(folder: Folder, url: str | None) -> Iterator[StudyStorage]:
    """The storage of a run's studies.

    Args:
        url: of a database, as SQLAlchemy takes it; None for the journal file.

    Raises:
        InputError: the database cannot be opened.
    """
    if url is not None:
        with _database(url) as database:
            yield StudyStorage(database, f"{study_prefix(folder)}/")
        return
    with _journal_path(folder) as path:
        yield StudyStorage(journal(path))


def study_prefix(folder: Folder) -> str:
    """The run's name, and what tells it from another run of that name on the same database."""
    return f"{folder.name}-{hashlib.sha256(folder.read(RUN_FILE)).hexdigest()[:8]}"


def database_problems(url: str | None) -> list[Problem]:
    """Why the studies could not be kept there, if so."""
    try:
        if url is not None:
            with _database(url):
                pass
    except InputError as error:
        return list(error.problems)
    return []


def database_reason(error: BaseException) -> str:
    """One line for a database that failed; never its statements or password."""
    root = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
    return f"the study database failed ({first_line(getattr(root, 'orig', None) or root)})"


def shown_url(url: str) -> str:
    """A database's URL as it may be printed: without a password. Raises: ArgumentError: it is none."""
    return make_url(url).set(query={}).render_as_string(hide_password=True)  # a query may hold one too


@contextmanager
def _database(url: str) -> Iterator[RDBStorage]:
    """The storage in a database; its connections are closed after the block."""
    database = _opened(url)
    try:
        yield database
    finally:
        database.engine.dispose()


def _opened(url: str) -> RDBStorage:
    fix = "give one such as postgresql://USER@HOST/DATABASE or sqlite:///FILE, or omit it"
    try:
        shown, parsed = shown_url(url), make_url(url)
    except ArgumentError:
        raise InputError(Problem("optuna_storage", "not a database URL", fix)) from None
    # psycopg gives bytes for text where a database has no encoding (SQL_ASCII)
    os.environ.setdefault("PGCLIENTENCODING", "utf8")
    try:
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})  # a server's restart closes the connections
    except ImportError as error:
        install = "pip install -c constraints.txt -e '.[postgres]'"
        how = install if parsed.get_backend_name() == "postgresql" else "install it with pip"
        raise InputError(Problem("optuna_storage", f"{shown} needs a driver ({error})", how)) from error
    except Exception as error:  # Optuna wraps some errors of SQLAlchemy and its drivers, and not others
        message = f"{shown} cannot be opened ({database_reason(error)})"
        raise InputError(Problem("optuna_storage", message, fix)) from error


class _UnflushedJournal(JournalFileBackend):
    """A journal of one writer; it may be lost with the power, since each start writes it again from the ledger."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with self._path.open("a") as stream:
            stream.write(lines)


def journal(path: Path) -> JournalStorage:
    """A new journal file; an old one at this path is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    Path(f"{path}.lock").unlink(missing_ok=True)
    return JournalStorage(_UnflushedJournal(path))


@contextmanager
def _journal_path(folder: Folder) -> Iterator[Path]:
    """In the run's folder, or, for remote storage, a local file that is put there after.

    A search that is stopped leaves no copy there: the next one writes the journal again from the ledger.
    """
    if folder.is_local:
        yield Path(folder.uri) / JOURNAL
        return
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / JOURNAL
        yield path
        folder.write(JOURNAL, path.read_bytes())
