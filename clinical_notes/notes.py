"""Read a NOTEEVENTS table in chunks."""

import csv
import gzip
import re
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clinical_notes.units import GROUP
from run_folder.errors import InputError, Problem


class _TableError(Exception):
    """What is wrong with a table; the message follows its path.

    Args:
        setting: the setting at fault, where it is not the one that names the file.
    """

    def __init__(self, message: str, fix: str = "", *, setting: str | None = None) -> None:
        super().__init__(message)
        self.fix, self.setting = fix, setting


@dataclass(frozen=True)
class NoteColumns:
    """Names of the columns that are read; only the text, and what is to be grouped by, is required."""

    text: str = "TEXT"
    patient: str = "SUBJECT_ID"
    category: str = "CATEGORY"
    error: str = "ISERROR"
    groups: tuple[str, ...] = ()


_DEFAULT = NoteColumns()
LONGEST_VALUE, MOST_VALUES = 60, 50
"""Limits on a column to group by: characters of a value, and different values. More may be texts or people."""
_ROLES = ("text", "patient", "category", "error")
_COLUMN_NAME = re.compile(r"[A-Za-z_]\w{0,30}")
_SURROGATE = re.compile("[\udc80-\udcff]")
_LONGEST_FIELD = 2**31 - 1
_NO_GROUPS = {
    "text": "holds the notes' texts",
    "patient": "tells patients apart",
    "category": "is always grouped by",
    "error": "is the same for all notes that are read",
}


def read_notes(
    path: str | Path,
    *,
    columns: NoteColumns = _DEFAULT,
    sample: float = 1.0,
    seed: int = 0,
    categories: Sequence[str] = (),
    chunk_rows: int = 20_000,
) -> Iterator[pd.DataFrame]:
    """Frames of note (0-based data row), patient, category, text and groups, without rows marked as errors.

    The groups are columns ``group_<name>``, as many as ``columns`` names.

    Args:
        path: MIMIC-III's NOTEEVENTS as .csv, .csv.gz or .parquet, or any table with a text column.
        sample: fraction of rows drawn by ``seed``, whatever the chunks' size.
        categories: note types to keep, compared without case and outer blanks; none keeps all.

    Raises:
        InputError: at the first chunk or later, where the file cannot be read on.
    """
    path = Path(path)
    if not 0 < sample <= 1:
        raise InputError(Problem("sample", f"must be in (0, 1], got {sample}"))
    wanted = {category.strip().lower() for category in categories}
    seen: set[str] = set()
    draw = np.random.default_rng(seed)
    kept = 0
    groups: dict[str, set[str]] = {f"{GROUP}{name}": set() for name in columns.groups}
    for frame in read_rows(path, columns=columns, chunk_rows=chunk_rows):
        chosen = draw.random(len(frame)) < sample
        seen.update(frame["category"].str.strip().unique())
        if wanted:
            chosen &= frame["category"].str.strip().str.lower().isin(wanted).to_numpy()
        chosen &= ~frame["error"].str.strip().isin(["1", "1.0"]).to_numpy()
        chosen &= (frame["text"].str.strip() != "").to_numpy()
        result = frame.loc[chosen, ["note", "patient", "category", "text", *groups]].copy()
        alone = result["patient"].str.strip() == ""  # a note without a patient is its own patient
        result.loc[alone, "patient"] = "note-" + result.loc[alone, "note"].astype(str)
        kept += len(result)
        for name, values in groups.items():
            result[name] = result[name].str.strip()
            values.update(result[name].unique())
            _check_groups(name.removeprefix(GROUP), values)
        if len(result):
            yield result
    if wanted and not wanted & {category.lower() for category in seen}:
        message = f"none of the notes is of type {', '.join(categories)}; {path} has {_listed(seen)}"
        raise InputError(Problem("category", message))
    if not kept:
        message = f"no note of {path} is left after sample, category and ISERROR"
        raise InputError(Problem("notes", message, "keep more of them"))


def read_rows(
    path: str | Path, *, columns: NoteColumns = _DEFAULT, chunk_rows: int = 20_000, setting: str = "notes"
) -> Iterator[pd.DataFrame]:
    """All rows of a table of notes: frames of note (0-based data row), text, patient, category and error, as text.

    Args:
        setting: the setting that names the file, for errors.

    Raises:
        InputError: at the first chunk or later, where the file cannot be read on.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(Problem(setting, f"{path} is not a file", "give a NOTEEVENTS .csv, .csv.gz or .parquet"))
    table = _parquet if path.suffix == ".parquet" else _csv
    rows = 0
    try:
        for frame in table(path, columns, chunk_rows):
            frame.insert(0, "note", np.arange(rows, rows + len(frame), dtype=np.int64))
            rows += len(frame)
            yield frame
    except _TableError as error:
        raise InputError(Problem(error.setting or setting, f"{path}{error}", error.fix)) from None
    if not rows:
        raise InputError(Problem(setting, f"{path} has a header and no rows", "give a table with notes"))


def check_notes(path: str | Path, columns: NoteColumns = _DEFAULT) -> None:
    """Look at the first rows.

    Raises:
        InputError: no such file, no table, no text column, or no rows.
    """
    next(read_notes(path, columns=columns, chunk_rows=100), None)


def _check_groups(name: str, values: set[str]) -> None:
    reason = reason_for_no_groups(values)
    if reason:
        raise InputError(Problem("group_by", f"{name} has {reason}", "name a column of categories"))


def reason_for_no_groups(values: Collection[str]) -> str | None:
    """Why figures must not be shown by these values of a column (texts, or single people), or None."""
    if any(len(value) > LONGEST_VALUE for value in values):
        return f"values of more than {LONGEST_VALUE} characters"
    return f"more than {MOST_VALUES} different values" if len(values) > MOST_VALUES else None


def _listed(names: set[str]) -> str:
    """Types of notes, unless they may be texts."""
    ordered = sorted(name for name in names if name)
    if any(len(name) > LONGEST_VALUE for name in ordered):
        return f"{len(ordered)} others, too long to be types"
    return ", ".join(ordered[:12]) + (", …" if len(ordered) > 12 else "") if ordered else "no categories"


def _found(header: Sequence[str], columns: NoteColumns, path: Path) -> dict[str, str]:
    """Role to the file's own name of the column: exact, else without case."""
    loose = {name.strip().lower(): name for name in header}
    named = (*(getattr(columns, role) for role in _ROLES), *columns.groups)
    repeated = [name for name in named if header.count(name) > 1]
    if repeated:
        raise _TableError(f" has the column {repeated[0]} twice; rename one")
    found = {}
    for role in _ROLES:
        asked = getattr(columns, role)
        name = asked if asked in header else loose.get(asked.lower())
        if name is not None:
            found[role] = name
        elif role == "text" or asked != getattr(_DEFAULT, role):
            raise _TableError(
                f" has no column {asked} ({_shown(header)})", "name the column that it has", setting=f"{role}_column"
            )
    return found | _found_groups(header, loose, columns, found)


def _shown(header: Sequence[str]) -> str:
    names = [name for name in header[:12] if _COLUMN_NAME.fullmatch(name)]
    known = {getattr(_DEFAULT, role).lower() for role in _ROLES}
    if not {name.strip().lower() for name in header} & known and len(names) < len(header):
        names = []  # it may be a note
    return f"it has {', '.join(names)}" if names else "its first row is no header"


def _found_groups(
    header: Sequence[str], loose: Mapping[str, str], columns: NoteColumns, found: Mapping[str, str]
) -> dict[str, str]:
    """``group_<name as asked>`` to the file's own name of the column."""
    groups = {}
    for asked in columns.groups:
        name = asked if asked in header else loose.get(asked.strip().lower())
        if name is None:
            message = f"the table of notes has no column {asked} ({_shown(header)})"
            raise InputError(Problem("group_by", message, "name one that it has"))
        for role, why in _NO_GROUPS.items():
            if name == found.get(role):
                raise InputError(Problem("group_by", f"{asked} {why}", "name another column"))
        groups[f"{GROUP}{asked}"] = name
    if len(set(groups.values())) < len(groups):
        raise InputError(Problem("group_by", f"{', '.join(columns.groups)} names a column twice", "name each once"))
    return groups


def _completed(frame: pd.DataFrame, found: dict[str, str]) -> pd.DataFrame:
    """Columns text, patient, category, error and groups, as text, empty where the file has none."""
    groups = [role for role in found if role.startswith(GROUP)]
    return pd.DataFrame(
        {
            role: frame[found[role]].fillna("").astype(str)
            if role in found
            else pd.Series("", index=frame.index, dtype=str)
            for role in (*_ROLES, *groups)
        }
    ).reset_index(drop=True)


def _chunk_of(rows: list[list[str]], roles: list[str]) -> pd.DataFrame:
    return _completed(pd.DataFrame(rows, columns=roles), {role: role for role in roles})


def _csv(path: Path, columns: NoteColumns, chunk_rows: int) -> Iterator[pd.DataFrame]:
    """Strict: a row with more or fewer fields than the header, or a stray quote, is an error and never other data."""
    csv.field_size_limit(_LONGEST_FIELD)
    row = 0
    try:
        # Undecodable bytes come through as surrogates, so that the row that holds them can be named.
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            rows = csv.reader(stream, strict=True)
            header = next(rows, None)
            if header is None:
                raise _TableError(" is empty; give a table with a header and notes")
            if any(_SURROGATE.search(name) or "\0" in name for name in header):
                raise _TableError(" is not a CSV table; give .csv, .csv.gz or .parquet")
            found = _found(header, columns, path)
            places = {role: header.index(name) for role, name in found.items()}
            chunk: list[list[str]] = []
            for fields in rows:
                if not fields:  # an empty line
                    continue
                row += 1
                if len(fields) != len(header):
                    raise _TableError(
                        f": data row {row} has {len(fields)} fields, the header {len(header)}; "
                        "quote texts that hold commas and double the quotes inside"
                    )
                chunk.append([fields[place] for place in places.values()])
                bad = next(filter(None, map(_SURROGATE.search, chunk[-1])), None)
                if bad is not None:
                    raise _TableError(
                        f": data row {row}: byte 0x{ord(bad[0]) - 0xDC00:02x} is not UTF-8; "
                        "re-encode the file, such as with: iconv -f latin1 -t utf-8"
                    )
                if len(chunk) == chunk_rows:
                    yield _chunk_of(chunk, list(places))
                    chunk = []
            if chunk:
                yield _chunk_of(chunk, list(places))
    except csv.Error as error:
        reason = "a quote that opens there is never closed" if "unexpected end" in str(error) else "broken quoting"
        raise _TableError(f": data row {row + 1}: {reason}; quote texts and double the quotes inside") from None
    except (gzip.BadGzipFile, zlib.error, EOFError):
        raise _TableError(f": damaged gzip after data row {row}; fetch or compress it again") from None
    except OSError as error:
        raise _TableError(f" cannot be read ({type(error).__name__})") from None


def _parquet(path: Path, columns: NoteColumns, chunk_rows: int) -> Iterator[pd.DataFrame]:
    try:
        with pq.ParquetFile(path) as file:
            found = _found(file.schema_arrow.names, columns, path)
            for batch in file.iter_batches(batch_size=chunk_rows, columns=list(found.values())):
                yield _completed(pa.Table.from_batches([batch]).to_pandas(), found)
    except (pa.ArrowInvalid, OSError) as error:
        raise _TableError(f" is not a readable Parquet file ({type(error).__name__})") from None
