"""Records: small JSON files that are read into dataclasses and checked against their types."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from run_folder.errors import InputError

_Record = TypeVar("_Record")


def to_plain(record: Any) -> Any:
    """A record as JSON takes it: dataclasses as objects, tuples as lists.

    A field whose default is None is left out where it is None: it does not apply.
    """
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        values = {field: getattr(record, field.name) for field in dataclasses.fields(record)}
        return {
            field.name: to_plain(value)
            for field, value in values.items()
            if not (value is None and field.default is None)
        }
    if isinstance(record, Mapping):
        return {name: to_plain(value) for name, value in record.items()}
    if isinstance(record, list | tuple):
        return [to_plain(value) for value in record]
    return record


def to_json(record: Any, indent: int | None = None) -> bytes:
    """A record as a JSON file. Raises: ValueError: a number in it is not finite."""
    return json.dumps(to_plain(record), indent=indent, allow_nan=False).encode()


def from_plain(values: Any, of: type[_Record], where: str) -> _Record:
    """Read what ``to_plain`` gave; fields that the type does not have are passed over.

    Args:
        of: the record's type.
        where: the file, or the place in it, for the error.

    Raises:
        InputError: a field is missing or has another type.
    """
    try:
        return msgspec.convert(values, of)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: {error}; restore it from a copy of the run") from None


def from_json(data: bytes, of: type[_Record], where: str) -> _Record:
    """Read what ``to_json`` wrote. Raises: InputError: it is no JSON, or as ``from_plain``."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        raise InputError(f"{where}: is not JSON; restore it from a copy of the run") from None
    return from_plain(values, of, where)
