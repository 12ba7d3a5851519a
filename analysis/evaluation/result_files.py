"""The JSON files under a run's ``results/``, read into the types of those who write them.

Each file holds a SHA-256 of its content, its place and its run, so that a damaged or misplaced one is known. It counts
as missing then: all results can be made again.
"""

import hashlib
import json
import warnings
from typing import Any, TypeVar

from run_folder.errors import DamagedFileWarning
from run_folder.names import RESULTS
from run_folder.records import from_plain, to_plain
from run_folder.run import Run

_Record = TypeVar("_Record")

SEAL = "content_sha256"
"""Key of the SHA-256; files of version 0.2 have none."""


def read_result(run: Run, path: str, of: type[_Record], made_by: str = "evaluate") -> _Record | None:
    """The record in a file of the run, or None where there is no such file, or a damaged one, of which it warns.

    Args:
        made_by: the command that makes the file again, for the warning.
    """
    if not run.folder.exists(path):
        return None
    try:
        values = json.loads(run.folder.read(path))
        seal = values.pop(SEAL, None)
        if seal_fits(run, path, seal, _canonical(values)):
            return from_plain(values, of, path)
    except (ValueError, TypeError, AttributeError, RecursionError, IsADirectoryError):  # InputError is a ValueError
        pass
    warn_of_damage(run, path, made_by)
    return None


def result_json(run: Run, path: str, record: Any, indent: int | None = 2) -> bytes:
    """What the file at ``path`` holds of a record. Raises: ValueError: a number in it is not finite."""
    values = to_plain(record)
    sealed = {**values, SEAL: seal_of(run, path, _canonical(values))}
    return json.dumps(sealed, indent=indent, allow_nan=False).encode()


def write_result(run: Run, path: str, record: Any, indent: int | None = 2) -> None:
    """Write a record that ``read_result`` reads."""
    run.folder.write(path, result_json(run, path, record, indent))


def seal_of(run: Run, path: str, content: bytes) -> str:
    """SHA-256 of a file's content, its place and its run."""
    return hashlib.sha256(b"\0".join((run.identity.encode(), path.encode(), content))).hexdigest()


def seal_fits(run: Run, path: str, seal: str | None, content: bytes) -> bool:
    """Whether a file's seal is that of its content. Files without one are of runs of version 0.2 alone."""
    return not run.manifest.ends_noted if seal is None else seal == seal_of(run, path, content)


def figures_path(name: str) -> str:
    """Where the figures of a trial or control are, once it has been evaluated."""
    return f"{RESULTS}/trials/{name}.json"


def warn_of_damage(run: Run, path: str, made_by: str = "evaluate") -> None:
    """Tell the user that a file is missing, or counts as missing."""
    what = "is damaged and counts as missing" if run.folder.exists(path) else "is missing"
    warnings.warn(
        f"{run.folder}: {path} {what}; `symptune {made_by} {run.folder.name}` makes it again",
        DamagedFileWarning,
        stacklevel=3,
    )


def _canonical(values: dict[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True).encode()
