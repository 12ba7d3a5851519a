"""Tables in Excel's .xlsx."""

import zipfile
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from clinical_notes.tables.columns import Choose, is_header, longest_name
from clinical_notes.tables.errors import TableError
from clinical_notes.tables.tally import Tally


def read_excel(path: Path, choose: Choose, chunk_rows: int, tally: Tally) -> Iterator[pa.Table]:
    """The rows of the only sheet that has any, below the header; one that comes again is dropped.

    Raises:
        TableError: openpyxl is not installed, the file is damaged, or it has more than one sheet with rows.
    """
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError:
        message = " is an Excel file, and openpyxl, which reads it, is not installed"
        raise TableError(message, "install symptune[excel], or save it as .csv") from None
    try:
        with path.open("rb") as file:  # openpyxl refuses paths by their ending
            book = load_workbook(file, read_only=True, data_only=True)
            for sheet in book.worksheets:
                sheet.reset_dimensions()  # programs write ranges that are too small
            rows = _only_sheet([sheet.iter_rows(values_only=True) for sheet in book.worksheets])
            header = [str(cell if cell is not None else "") for cell in next(rows)]
            places = {role: header.index(name) for role, name in choose(header).read.items()}
            rows = _without_headers(rows, header, tally)
            while chunk := list(islice(rows, chunk_rows)):
                yield pa.table(
                    {
                        role: pa.array([_text(row, place) for row in chunk], pa.large_string())
                        for role, place in places.items()
                    }
                )
    except (InvalidFileException, zipfile.BadZipFile, KeyError, OSError, SyntaxError, ValueError) as error:
        raise TableError(f" is not a readable Excel file ({type(error).__name__})", "save it again") from None


def _only_sheet(sheets: list[Iterator[Sequence[Any]]]) -> Iterator[Sequence[Any]]:
    """Rows with anything in them of the one sheet that has such rows."""
    filled = [(row for row in rows if any(cell is not None for cell in row)) for rows in sheets]
    starts = [(first, rows) for rows in filled if (first := next(rows, None)) is not None]
    if len(starts) != 1:
        if not starts:
            raise TableError(" is empty", "give a table with a header and notes")
        raise TableError(f" has {len(starts)} sheets with rows", "save the one with the notes as a file of its own")
    first, rows = starts[0]
    yield first
    yield from rows


def _without_headers(rows: Iterator[Sequence[Any]], header: Sequence[str], tally: Tally) -> Iterator[Sequence[Any]]:
    longest, number = longest_name(header), 0
    for row in rows:
        fields = [cell or "" for cell in row]
        if all(isinstance(field, str) and len(field) <= longest for field in fields):
            fields += [""] * (len(header) - len(fields))
            if is_header(fields[: len(header)], header, number) and not any(fields[len(header) :]):
                tally.headers += 1
                continue
        number += 1
        yield row


def _text(row: Sequence[Any], place: int) -> str | None:
    cell = row[place] if place < len(row) else None
    if cell is None:
        return None
    return cell.isoformat() if isinstance(cell, date | datetime | time) else str(cell)
