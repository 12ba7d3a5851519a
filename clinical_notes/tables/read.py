"""The one way in: rows of tables of notes in any format, with the same columns and types."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from clinical_notes.tables.columns import DEFAULT, ID, ROLES, Choose, Found, NoteColumns, find, other_name
from clinical_notes.tables.delimited import read_delimited
from clinical_notes.tables.errors import TableError
from clinical_notes.tables.excel import read_excel
from clinical_notes.tables.formats import READ, opened
from clinical_notes.tables.json_lines import read_json_lines
from clinical_notes.tables.parquet import read_parquet
from clinical_notes.tables.tally import Tally
from clinical_notes.tables.text_files import read_text_files
from clinical_notes.tables.values import PatientIds, is_missing, marks, texts
from clinical_notes.units import GROUP
from run_folder.errors import InputError, Problem
from run_folder.names import LABEL

Paths = str | Path | Sequence[str | Path]
"""One table, or several that hold the notes together: files, or folders of tables or of .txt files."""

_FORMAT = re.compile(r"\.((csv|tsv|psv|jsonl|ndjson|xlsx)(\.(gz|bz2|xz|zst|lz4|zip))?|parquet|txt)$")
_NOTE = ".txt"
_ENDING = re.compile(r"\.[a-z0-9]{1,8}$")
_PARTITION = re.compile(r"(\w+)=(.*)")
_MEANINGS = {"text": "all texts", "patient": "all patients", "category": "all categories", "error": "all marks"}
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def paths_of(paths: Paths) -> list[Path]:
    return [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]


def files_of(paths: Paths) -> list[Path]:
    """All files that hold the notes, in the order in which they are read. Raises: InputError: there is none."""
    return [file for path in paths_of(paths) for file in _found_in(path, "notes", Tally())[0]]


def read_rows(
    paths: Paths,
    *,
    columns: NoteColumns,
    chunk_rows: int = 20_000,
    setting: str = "notes",
    tally: Tally | None = None,
) -> Iterator[pd.DataFrame]:
    """All rows of tables of notes: frames of note, text, patient, category, error, and groups.

    ``note`` numbers the data rows through all tables from 0. ``error`` is a boolean, the others are texts.

    Args:
        setting: the setting that names the files, for errors.
        tally: where columns and rows are counted.

    Raises:
        InputError: at the first chunk or later, where a table cannot be read on.
    """
    counted = tally if tally is not None else Tally()
    given = paths_of(paths)
    patients = PatientIds()
    places = list(map(os.path.realpath, given))
    for path, place in zip(given, places, strict=True):
        if places.count(place) > 1:
            raise InputError(Problem(setting, f"{path} is given twice", "give each table once"))
    rows, seen = 0, set[str]()
    for path in given:
        before, identified = rows, columns.patient is None
        for part, read in _parts(path, columns, chunk_rows, setting, counted):
            start = rows
            if os.path.realpath(part) in seen:
                raise InputError(Problem(setting, f"{part} is given twice", "give each table once"))
            seen.add(os.path.realpath(part))
            try:
                for table in read:
                    frame = _frame(table, columns, counted.columns[str(part)], rows - start, patients, str(part))
                    frame.insert(0, "note", np.arange(rows, rows + len(frame), dtype=np.int64))
                    rows += len(frame)
                    has_patients = "patient" in counted.columns[str(part)].names
                    identified = identified or not has_patients or bool((frame["patient"] != "").any())
                    yield frame
            except TableError as error:
                raise InputError(Problem(error.setting or setting, f"{part}{error}", error.fix)) from None
        if rows == before:
            raise InputError(Problem(setting, f"{path} has a header and no rows", "give a table with notes"))
        if not identified:
            message = f"{path}: no row has anything in {_patients_of(path, counted)}, the column of patients"
            fix = "name another column, or give none: each note then counts as one patient"
            raise InputError(Problem("patient_column", message, fix))


def read_sheet(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and all rows of a small table that is not delimited text, as texts. Raises: TableError."""
    header: list[str] = []

    def choose(names: Sequence[str]) -> Found:
        header.extend(dict.fromkeys(names))
        return Found({name: name for name in header})

    rows: list[list[str]] = []
    for table in _tables(path, path, DEFAULT, choose, 1_000, Tally()):
        columns = [texts(table.column(name), name, len(rows)).to_pylist() for name in header]
        rows += map(list, zip(*columns, strict=True))
    return header, rows


def _parts(
    path: Path, columns: NoteColumns, chunk_rows: int, setting: str, tally: Tally
) -> Iterator[tuple[Path, Iterator[pa.Table]]]:
    """The files that a path means, each with its tables."""
    files, are_notes = _found_in(path, setting, tally)
    if are_notes:
        yield path, read_text_files(path, files, _choose(path, columns, tally), chunk_rows)
        return
    for file in files:
        yield file, _tables(file, path, columns, _choose(file, columns, tally), chunk_rows, tally)


def _found_in(path: Path, setting: str, tally: Tally) -> tuple[list[Path], bool]:
    """The files that a path means, and whether each is a note. Raises: InputError: there is none."""
    try:
        if path.is_dir():
            return _files_of(path, tally)
        if path.is_file():
            return [path], False
    except TableError as error:
        raise InputError(Problem(setting, f"{path}{error}", error.fix)) from None
    except OSError as error:
        raise InputError(Problem(setting, f"{path} cannot be read ({type(error).__name__})")) from None
    raise InputError(Problem(setting, f"{path} is not a file", "give a table or a folder of notes"))


def _patients_of(path: Path, tally: Tally) -> str:
    """Name of the column of patients of a table, or of the first of a folder."""
    return next(found.names["patient"] for part, found in tally.columns.items() if Path(part).is_relative_to(path))


def _choose(path: Path, columns: NoteColumns, tally: Tally) -> Choose:
    def choose(header: Sequence[str]) -> Found:
        found = tally.columns[str(path)] = find(header, columns)
        return found

    return choose


def _tables(
    file: Path, given: Path, columns: NoteColumns, choose: Choose, chunk_rows: int, tally: Tally
) -> Iterator[pa.Table]:
    with opened(file) as content:
        if content.kind == "delimited":
            yield from read_delimited(content, columns, choose, chunk_rows, tally)
            return
    if content.kind == "parquet":
        yield from read_parquet(file, choose, chunk_rows, _partition(file, given), tally)
    elif content.kind == "excel":
        yield from read_excel(file, choose, chunk_rows, tally)
    else:
        yield from read_json_lines(file, choose, chunk_rows, tally)


def _files_of(folder: Path, tally: Tally) -> tuple[list[Path], bool]:
    """The files of a folder that hold notes, in order, and whether each is a note.

    Raises:
        TableError: it has none, files of several formats, or what cannot be read.
    """
    files = sorted(_files_below(folder))
    formats = {path: match[0] for path in files if (match := _FORMAT.search(path.name.lower()))}
    endings = Counter(formats.values())
    if len(endings) > 1:
        message = f" holds files of several formats ({_counted(endings)}), perhaps of the same notes"
        raise TableError(message, "give a folder with one format alone, or the files one by one")
    if not formats:
        found = Counter(match[0] if (match := _ENDING.search(path.name.lower())) else "other" for path in files)
        what = f"it has {_counted(found)}" if found else "it is empty"
        message = f" is a folder without tables or .txt files ({what})"
        raise TableError(message, f"give {READ}, or .txt files")
    dead = next((path for path in formats if not path.is_file()), None)
    if dead is not None:
        message = f" holds a link that leads nowhere, or what is no plain file ({dead.relative_to(folder)})"
        raise TableError(message, "restore or delete it")
    tally.other_files += len(files) - len(formats)
    return list(formats), _NOTE in endings


def _files_below(folder: Path) -> Iterator[Path]:
    """All but those that a program put next to the tables for itself, as Spark's _SUCCESS.

    Raises:
        TableError: a folder cannot be read, or a link leads out of this one.
    """

    def refuse(error: OSError) -> None:
        where = Path(error.filename).relative_to(folder)
        raise TableError(f"/{where} cannot be read ({error.strerror})") from None

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        links = sorted(path for name in folders if (path := Path(place, name)).is_symlink())
        if links:
            message = f" holds a link to another folder ({links[0].relative_to(folder)})"
            raise TableError(message, "put that folder's files here, or give it by itself and delete the link")
        yield from (Path(place, name) for name in names if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def _counted(endings: Counter[str]) -> str:
    return ", ".join(f"{count:,} {ending}" for ending, count in sorted(endings.items()))


def _partition(file: Path, given: Path) -> Mapping[str, str | None]:
    """Columns whose value the folders' names give, as in CATEGORY=Nursing/part-0.parquet."""
    found = {}
    for part in file.relative_to(given).parts[:-1] if file != given else ():
        if match := _PARTITION.fullmatch(part):
            found[match[1]] = None if match[2] == _NULL_PARTITION else unquote(match[2])
    return found


def _frame(
    table: pa.Table, columns: NoteColumns, found: Found, first_row: int, patients: PatientIds, path: str
) -> pd.DataFrame:
    """Columns text, patient, category, error, groups and labels, empty where the table has none."""
    read = partial(_column, table, found, first_row, patients, path)
    roles = (*ROLES, *(f"{GROUP}{name}" for name in columns.groups), *(f"{LABEL}{name}" for name in columns.labels))
    roles += (f"{ID}{columns.id}",) if columns.id else ()
    frame: pd.DataFrame = pa.table({role: read(role) for role in roles}).to_pandas()
    for role in found.others:
        blank = frame[role].str.strip() == "" if role != "error" else _blank(table.column(role), found.names[role])
        _check_others(table, found, role, np.flatnonzero(blank), first_row)
    return frame


def _blank(column: pa.Array, name: str) -> NDArray[np.bool_]:
    return np.array([not text.strip() for text in texts(column, name, 0).to_pylist()], bool)


def _check_others(table: pa.Table, found: Found, role: str, blank: NDArray[np.int64], first_row: int) -> None:
    """Raises: TableError: a row has nothing in the column that was taken for a role, but something in another."""
    for name in found.others[role] if len(blank) else ():
        column = table.column(other_name(role, name)).take(pa.array(blank))
        if pa.types.is_nested(column.type):
            continue
        for row, text in zip(blank, texts(column, name, first_row).to_pylist(), strict=True):
            if not is_missing(text):
                message = f": data row {first_row + row + 1} has nothing in {found.names[role]} and something in {name}"
                fix = f"put {_MEANINGS[role]} into one column, or rename the other"
                raise TableError(message, fix, setting=f"{role}_column" if role != "error" else None)


def _column(table: pa.Table, found: Found, first_row: int, patients: PatientIds, path: str, role: str) -> pa.Array:
    if role not in found.names:
        empty = pa.scalar(False) if role == "error" else pa.scalar("", pa.large_string())
        return pa.repeat(empty, len(table))
    column, name = table.column(role), found.names[role]
    if role == "patient":
        return patients.of(column, name, first_row, path)
    return (marks if role == "error" else texts)(column, name, first_row)
