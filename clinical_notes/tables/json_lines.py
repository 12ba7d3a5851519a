"""Tables as JSON lines: one object a line."""

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from clinical_notes.tables.columns import Choose, is_header
from clinical_notes.tables.errors import NotUtf8Error, TableError
from clinical_notes.tables.formats import DAMAGED, opened
from clinical_notes.tables.tally import Tally


def read_json_lines(path: Path, choose: Choose, chunk_rows: int, tally: Tally) -> Iterator[pa.Table]:
    """An object may lack columns, so that all are looked at once before for their names; a header again is dropped.

    Raises:
        TableError: the message names the row.
    """
    names = choose(list(dict.fromkeys(name for values in _objects(path) for name in values))).read
    objects = enumerate(_without_headers(path, tally), 1)
    while chunk := list(islice(objects, chunk_rows)):
        yield pa.table(
            {
                role: pa.array([_text(values.get(name), row) for row, values in chunk], pa.large_string())
                for role, name in names.items()
            }
        )


def _without_headers(path: Path, tally: Tally) -> Iterator[Mapping[str, Any]]:
    """Without a table's header that was taken for a row of it, so that its values are its names."""
    row = 0
    for values in _objects(path):
        if all(isinstance(value, str) for value in values.values()) and is_header(
            list(values.values()), list(values), row
        ):
            tally.headers += 1
            continue
        row += 1
        yield values


def _objects(path: Path) -> Iterator[Mapping[str, Any]]:
    row = 0
    with opened(path) as file:
        try:
            for line in file.text():
                if line.strip("\ufeff \t\r\n"):
                    row += 1
                    yield _object(line, row)
        except UnicodeError:
            raise TableError(f": data row {row + 1}: damaged {file.encoding.upper()}", "write it as UTF-8") from None
        except DAMAGED:
            raise file.failure(row) from None


def _object(line: str, row: int) -> Mapping[str, Any]:
    try:
        # Numbers stay as they are written: 7.0 is for the rule of identifiers to read.
        values = json.loads(
            line.lstrip("\ufeff"),
            object_pairs_hook=_once,
            parse_int=str,
            parse_float=str,
            parse_constant=lambda _: None,
        )
    except _TwiceError:
        raise TableError(f": data row {row} has a name twice", "rename one") from None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise TableError(f": data row {row} is not a JSON object", "write one object a line")
    return values


class _TwiceError(Exception):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise _TwiceError
    return values


def _text(value: Any, row: int) -> str | None:
    if value is None or isinstance(value, bool):
        return None if value is None else str(value)
    if not isinstance(value, str):
        raise TableError(f": data row {row} has a list or an object where a text belongs", "write plain values")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        code = ord(value[error.start])
        if 0xDC80 <= code <= 0xDCFF:
            raise NotUtf8Error(f": data row {row}", code - 0xDC00) from None
        raise TableError(f": data row {row} has half of a character", "write whole characters") from None
    return value
