"""The JSON files under a run's ``results/``, read into the types of those who write them."""

from typing import TypeVar

from run_folder.records import from_json
from run_folder.run import Run

_Record = TypeVar("_Record")


def read_result(run: Run, path: str, of: type[_Record]) -> _Record | None:
    """The record in a file of the run, or None where there is no such file.

    Raises:
        InputError: the file is damaged, or a field is missing or has another type.
    """
    if not run.folder.exists(path):
        return None
    return from_json(run.folder.read(path), of, f"{run.folder}: {path}")
