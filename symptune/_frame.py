"""A DataFrame of notes as the plain table that its file holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from run_folder.errors import InputError, Problem

if TYPE_CHECKING:
    import pandas as pd

_ROLES = ("text", "patient", "category", "error")


def as_table(frame: pd.DataFrame, options: Mapping[str, Any]) -> pd.DataFrame:
    """The frame with those of its index's levels that say something of the notes as columns, and bytes as text.

    Args:
        options: those of ``search``, which may name columns.

    Raises:
        InputError: columns of several levels, bytes that are not UTF-8, or patients whose identifiers lost digits.
    """
    if frame.columns.nlevels > 1:
        message = f"the DataFrame has columns of {frame.columns.nlevels} levels"
        raise InputError(Problem("notes", message, "give columns of one level"))
    from clinical_notes.tables.columns import is_usual

    named = {options.get(f"{role}_column") for role in _ROLES} | set(_listed(options.get("group_by")))
    levels = [
        name
        for name in frame.index.names
        if isinstance(name, str)
        and name not in frame.columns
        and (name in named or any(is_usual(name, role) for role in _ROLES))
    ]
    frame = frame.reset_index(levels) if levels else frame
    _check_patients(frame, options)
    for place, dtype in enumerate(frame.dtypes):
        if dtype.kind == "O":
            frame = _with_texts(frame, place)
    return frame


def _check_patients(frame: pd.DataFrame, options: Mapping[str, Any]) -> None:
    """Raises: InputError: identifiers are in short floating-point numbers, as which CSV does not show them.

    What else is wrong with the columns is told when they are read.
    """
    import pyarrow as pa

    from clinical_notes.tables.columns import DEFAULT, NoteColumns, find
    from clinical_notes.tables.errors import TableError
    from clinical_notes.tables.values import check_exact

    header = [str(name) for name in frame.columns]
    asked = NoteColumns(
        text=options.get("text_column", DEFAULT.text), patient=options.get("patient_column", DEFAULT.patient)
    )
    try:
        place = header.index(find(header, asked).names["patient"])
    except (TableError, KeyError):
        return
    dtype = frame.dtypes.iloc[place]
    if dtype.kind == "f" and dtype.itemsize < 8:
        try:
            check_exact(pa.array(frame.iloc[:, place], from_pandas=True), 0)
        except TableError as error:
            raise InputError(Problem(error.setting, f"the DataFrame{error}", error.fix)) from None


def _listed(names: Any) -> list[str]:
    return [names] if isinstance(names, str) else list(names or ())


def _with_texts(frame: pd.DataFrame, place: int) -> pd.DataFrame:
    values = frame.iloc[:, place].tolist()
    if not any(isinstance(value, bytes) for value in values):
        return frame
    for row, value in enumerate(values, 1):
        if isinstance(value, bytes):
            try:
                values[row - 1] = value.decode()
            except UnicodeDecodeError as error:
                message = f"the DataFrame: data row {row}: byte 0x{value[error.start]:02x} is not UTF-8"
                raise InputError(Problem("notes", message, "decode the texts first")) from None
    frame = frame.copy()
    frame.isetitem(place, values)
    return frame
