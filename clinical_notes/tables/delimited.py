"""Tables in text with a delimiter, read strictly."""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain

import pyarrow as pa

from clinical_notes.tables.columns import (
    ROLES,
    Choose,
    NoteColumns,
    has_text,
    is_header,
    is_usual,
    longest_name,
    squashed,
)
from clinical_notes.tables.errors import NotUtf8Error, TableError
from clinical_notes.tables.formats import DAMAGED, Opened
from clinical_notes.tables.tally import Tally

DELIMITERS = ",;\t|"
_SURROGATE = re.compile("[\udc80-\udcff]")
_LONGEST_FIELD = 2**31 - 1
_NO_MARKS = f"{DELIMITERS}_-.\r\n"
_LONGEST_NAME = 40
"""Characters of a column's name, where other texts may stand as well."""
_HINT = re.compile(r"sep=(.)\s*")
"""Excel's own line before the header."""


def read_delimited(
    file: Opened, columns: NoteColumns, choose: Choose, chunk_rows: int, tally: Tally
) -> Iterator[pa.Table]:
    """Strict: a row with more or fewer fields than the header, or a stray quote, is an error and never other data.

    A header that comes again is dropped: the table was put together from parts.

    Raises:
        TableError: the message names the row.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    row = 0
    try:
        lines = file.text()
        first = next(filter(str.strip, lines), "")
        hint = _HINT.fullmatch(first)
        if hint:
            first = next(filter(str.strip, lines), "")
        delimiter = hint[1] if hint else delimiter_of(first, columns)
        rows = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
        header = _header(rows)
        if not has_text(header, columns) and (odd := _odd_delimiter(first)):
            raise TableError(f" has {odd!r} between its columns", "write commas, semicolons, tabs or bars there")
        names = choose(header).read
        places = [header.index(name) for name in names.values()]
        text, longest = header.index(names["text"]), longest_name(header)
        chunk: list[list[str]] = []
        for fields in rows:
            if not fields:  # an empty line
                continue
            if len(fields) == len(header) and len(fields[text]) <= longest and is_header(fields, header, row):
                tally.headers += 1
                continue
            row += 1
            chunk.append(_checked(fields, places, len(header), row))
            if len(chunk) == chunk_rows:
                yield _table(chunk, list(names))
                chunk = []
        if chunk:
            yield _table(chunk, list(names))
    except csv.Error as error:
        reason = "a quote that opens there is never closed" if "unexpected end" in str(error) else "broken quoting"
        raise TableError(f": data row {row + 1}: {reason}; quote texts and double the quotes inside") from None
    except UnicodeError:  # of UTF-16 alone: other bytes come through as surrogates
        raise TableError(f": data row {row + 1}: damaged {file.encoding.upper()}", "write it again as UTF-8") from None
    except DAMAGED:
        raise file.failure(row) from None


def delimiter_of(line: str, columns: NoteColumns) -> str:
    """The delimiter by which a header names the texts' column and the most others."""

    def fields(delimiter: str) -> list[str]:
        try:
            return next(csv.reader([line], delimiter=delimiter), [])
        except csv.Error:
            return []

    found = {delimiter: fields(delimiter) for delimiter in DELIMITERS}
    return max(DELIMITERS, key=lambda delimiter: (has_text(found[delimiter], columns), len(found[delimiter])))


def _odd_delimiter(line: str) -> str | None:
    """What else stands between the names of a header, if it is one: two usual names among a few short ones."""
    for mark in dict.fromkeys(line):
        names = [squashed(name) for name in line.split(mark)] if not mark.isalnum() and mark not in _NO_MARKS else []
        usual = [name for name in names if any(is_usual(name, role) for role in ROLES)]
        if len(usual) > 1 and max(map(len, names)) <= _LONGEST_NAME:
            return mark
    return None


def _header(rows: Iterator[list[str]]) -> list[str]:
    header = next(rows, [])
    if not any(header):
        raise TableError(" is empty", "give a table with a header and notes")
    for name in header:
        if bad := _SURROGATE.search(name):
            raise NotUtf8Error(": its first row", ord(bad[0]) - 0xDC00)
    return header


def _checked(fields: list[str], places: Sequence[int], width: int, row: int) -> list[str]:
    """The fields that are read."""
    if len(fields) != width:
        raise TableError(
            f": data row {row} has {len(fields)} fields, the header {width}; "
            "quote texts that hold commas and double the quotes inside"
        )
    taken = [fields[place] for place in places]
    bad = next(filter(None, map(_SURROGATE.search, taken)), None)
    if bad is not None:
        raise NotUtf8Error(f": data row {row}", ord(bad[0]) - 0xDC00)
    return taken


def _table(rows: list[list[str]], roles: list[str]) -> pa.Table:
    columns = [pa.array(column, pa.large_string()) for column in zip(*rows, strict=True)]
    return pa.Table.from_arrays(columns, names=roles)
