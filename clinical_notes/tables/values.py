"""Arrow columns of any type as texts, as marks, and as identifiers of patients."""

import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from clinical_notes.tables.errors import NotUtf8Error, TableError

_TRUE = frozenset({"true", "t", "yes", "y", "1", "1.0"})
_FALSE = frozenset({"false", "f", "no", "n", "0", "0.0", "", "none", "null", "nan", "na", "n/a", "<na>"})
_NO_PATIENT = frozenset({"", "nan", "NaN", "NA", "<NA>", "NaT", ".", "-", "--", "?"})
_NO_PATIENT_IN_ANY_CASE = frozenset({"n/a", "#n/a", "#null!", "null", "<null>", "none", "\\n", "unknown"})
"""Marks of a missing identifier: of pandas, R, Excel, SAS, MySQL and PostgreSQL, and of people."""
_INVISIBLE = "\ufeff\u200b\u200e\u200f\0"
_NUMBER = re.compile(r"([+-]?)(\d+)(?:\.(\d*))?(?:[eE]([+-]?\d{1,3}))?", re.ASCII)
_GROUPED = re.compile(r"\d{1,3}(?:[.,'_]\d{3})+", re.ASCII)
_ALONE = re.compile(r"note-\d+", re.ASCII)
"""How the patient of a note without one is called, which no identifier may be."""
_EXACT = {"halffloat": 2**11, "float": 2**24, "double": 2**53}
"""Whole numbers below these are exact in Arrow's types of floating-point numbers; another is rounded to this one."""
_LONGEST_NUMBER = 60
_DECODE = "decode the column before it is written, such as with .str.decode('latin-1')"
_SHORTENED_FROM = 10**11
"""From here on, spreadsheets write numbers as 1.23457E+11, and lose their last digits."""


def texts(column: pa.Array, name: str, first_row: int) -> pa.Array:
    """Large strings, "" for nulls; whole numbers without a point, whatever their type.

    Args:
        name: the column's, for errors.
        first_row: data rows of the table before these.

    Raises:
        TableError: bytes that are not UTF-8, or values that are no text.
    """
    column = plain(column)
    if is_text(column.type):
        return _decoded(column, first_row).fill_null("")
    if pa.types.is_nested(column.type):
        raise TableError(f": the column {name} holds {column.type}", "give a column of plain texts")
    return _by_value(column, _text_of, pa.large_string(), first_row).fill_null("")


def marks(column: pa.Array, name: str, first_row: int) -> pa.Array:
    """Booleans: whether a row is marked, by a boolean, a number or a word.

    Raises:
        TableError: another mark.
    """

    def mark(text: str) -> bool:
        word = text.strip().lower()
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
        raise BadValueError(f"{name} holds a mark that is neither true nor false", "write 1 or 0")

    return _by_value(texts(column, name, first_row), mark, pa.bool_(), first_row)


class PatientIds:
    """One text for each patient, however the identifier is written, through all chunks and files of a table.

    7, 7.0, "7", " 7 " and "7.0" are one patient. Spellings that may be of one or of two, such as "007" and "7", are
    refused.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, str]] = {}

    def of(self, column: pa.Array, name: str, first_row: int, table: str) -> pa.Array:
        """Large strings; "" where there is no patient.

        Args:
            table: the path, to name the row of a spelling that comes again in another way.

        Raises:
            TableError: spellings that may be of one patient or of two, or values that identify nobody.
        """
        column = plain(column)
        _check_type(column, name)
        if pa.types.is_floating(column.type):
            check_exact(column, first_row)
        read = _by_value(texts(column, name, first_row), canonical, pa.large_string(), first_row)
        distinct = read.dictionary_encode()
        for code, text in enumerate(distinct.dictionary.to_pylist()):
            if text:
                self._check(text, distinct.indices, code, first_row, table)
        return read

    def _check(self, text: str, codes: pa.Array, code: int, first_row: int, table: str) -> None:
        row = first_row + 1 + pc.index(codes, code).as_py()
        for key in _loose(text):
            known, where = self._seen.setdefault(key, (text, f"data row {row} of {table}"))
            if known != text:
                message = (
                    f": data row {row}: its patient may be that of {where} or not: the identifiers differ only in "
                    "leading zeros, case, blanks, quotes or the way in which a number is written"
                )
                raise TableError(message, "write each patient's in one way", setting="patient_column")


def canonical(text: str) -> str:
    """The one way in which an identifier is written; "" for none.

    A number that passed through a floating-point column loses its ".0", and an exponent as programs write it.

    Raises:
        BadValueError: a number that lost its last digits.
    """
    text = text.strip().strip(_INVISIBLE).strip()
    if is_missing(text):
        return ""
    if text.casefold() in ("true", "false"):
        raise BadValueError("its patient is a truth value", "name the column of patients", "patient_column")
    if _ALONE.fullmatch(text):
        return f"patient {text}"
    number = _NUMBER.fullmatch(text) if len(text) <= _LONGEST_NUMBER else None
    if number is None:
        return text
    sign, whole, fraction, exponent = number.groups()
    if exponent is None:
        if fraction is None or fraction.strip("0") or (len(fraction) == 3 and len(whole) <= 3):
            return text  # 1.10 is not 1.1 everywhere, nor 10.000 always 10
        if int(whole) >= _EXACT["double"]:
            raise _lost_digits()
        return f"-{whole}" if sign == "-" and whole != "0" else whole
    if fraction is None and not exponent.startswith("+"):
        return text  # 1E4 may be a name
    value = Decimal(text)
    if value != value.to_integral_value():
        return text
    if abs(value) >= _EXACT["double"] or (abs(value) >= _SHORTENED_FROM and int(exponent) > len(fraction or "")):
        raise _lost_digits()
    return str(int(value))


def is_missing(text: str) -> bool:
    """Whether a text is empty or a mark of a missing value."""
    text = text.strip().strip(_INVISIBLE).strip()
    return text in _NO_PATIENT or text.casefold() in _NO_PATIENT_IN_ANY_CASE


def _lost_digits() -> "BadValueError":
    message = "its patient's identifier passed through floating-point numbers and lost its last digits"
    return BadValueError(message, "export the identifiers as text or as whole numbers", "patient_column")


def _loose(text: str) -> set[str]:
    """Two identifiers that may be one patient's share one of these."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = "".join(_ascii_digit(c) for c in text if unicodedata.category(c) != "Cf" and not c.isspace())
    text = text.strip("'\"=#")
    keys = {_as_number(text)}
    if _GROUPED.fullmatch(text):  # 1,234 is 1234 to some and 1.234 to others
        keys.add(re.sub(r"\D", "", text))
    return keys


def _ascii_digit(character: str) -> str:
    return str(unicodedata.decimal(character)) if character.isdecimal() else character


def _as_number(text: str) -> str:
    number = _NUMBER.fullmatch(re.sub(r",(0+)$", r".\1", text))
    if number and len(text) <= _LONGEST_NUMBER:
        value = Decimal(number[0])
        return str(int(value)) if value == value.to_integral_value() else str(value.normalize())
    return re.sub(r"(?<!\d)0+(?=\d)", "", text)


class BadValueError(Exception):
    """A value that cannot be read; the row is not known yet."""

    def __init__(self, message: str, fix: str, setting: str | None = None) -> None:
        super().__init__(message)
        self.fix, self.setting = fix, setting


def _by_value(column: pa.Array, read: Callable[[Any], Any], to: pa.DataType, first_row: int) -> pa.Array:
    """Each different value read once; null where it is null."""
    encoded = column.dictionary_encode()
    found = []
    for code, scalar in enumerate(encoded.dictionary):
        try:
            value = _python_value(scalar)
            found.append(None if value is None else read(value))
        except BadValueError as error:
            row = first_row + 1 + pc.index(encoded.indices, code).as_py()
            raise TableError(f": data row {row}: {error}", error.fix, setting=error.setting) from None
    return pa.array(found, to).take(encoded.indices)


def _python_value(scalar: pa.Scalar) -> Any:
    """Raises: BadValueError: a date of a year that Python does not know, or of an unknown time zone."""
    try:
        return scalar.as_py()
    except (OverflowError, ValueError):  # Arrow's own errors are ValueErrors
        raise BadValueError(f"a value of type {scalar.type} cannot be read", "write such values as texts") from None


def plain(column: pa.Array) -> pa.Array:
    """Without dictionaries and types of extensions."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    while True:
        if isinstance(column.type, pa.UuidType):
            column = pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())
        elif isinstance(column, pa.ExtensionArray):
            column = column.storage
        elif pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        elif pa.types.is_run_end_encoded(column.type):
            column = pc.run_end_decode(column)
        else:
            return column


def is_text(of: pa.DataType) -> bool:
    checks = (
        pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary,
        pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary,
    )  # fmt: skip
    return any(check(of) for check in checks)


def _decoded(column: pa.Array, first_row: int) -> pa.Array:
    """Bytes as texts; a column that says it holds text may hold other bytes too."""
    raw = column.cast(pa.large_binary())
    try:
        return raw.cast(pa.large_string())
    except pa.ArrowInvalid:
        for row, value in enumerate(raw.to_pylist(), first_row + 1):
            try:
                (value or b"").decode()
            except UnicodeDecodeError as error:
                raise NotUtf8Error(f": data row {row}", value[error.start], _DECODE) from None
        raise


def _text_of(value: Any) -> str | None:
    if isinstance(value, float):
        if value != value:
            return None
        return str(int(value)) if value.is_integer() and abs(value) <= _EXACT["double"] else str(value)
    if isinstance(value, Decimal):
        return str(int(value)) if value == value.to_integral_value() else str(value.normalize())
    return str(value)


def _check_type(column: pa.Array, name: str) -> None:
    kind = column.type
    allowed = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null, is_text)
    if not any(check(kind) for check in allowed):
        message = f": the column {name} holds {kind}, not identifiers of patients"
        raise TableError(message, "name the column that does", setting="patient_column")


def check_exact(column: pa.Array, first_row: int) -> None:
    """Raises: TableError: identifiers in floating-point numbers may have lost digits, by their size or as fractions."""
    values = column.cast(pa.float64())
    inexact = pc.greater_equal(pc.abs(values), _EXACT[str(column.type)])
    if column.type != pa.float64():  # 0.1 is another number there than elsewhere
        inexact = pc.or_(inexact, pc.and_not(pc.not_equal(values, pc.trunc(values)), pc.is_nan(values)))
    row = pc.index(inexact, True).as_py()
    if row >= 0:
        error = _lost_digits()
        raise TableError(f": data row {first_row + row + 1}: {error}", error.fix, setting=error.setting)
