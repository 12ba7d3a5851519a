"""What a field of a settings dataclass says of itself: help, limits, and its name outside the code."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from run_folder.errors import Problem

_METADATA = "option"


@dataclass(frozen=True)
class Option:
    """How a user sets a field.

    Attributes:
        help: what it is; the default is added from the field.
        metavar: the placeholder of the value in the help.
        name: the field's name in records and problems, where it is not the one in the code.
        default: the default in words, where the value alone would say too little.
        low, high: the smallest and the largest value allowed.
        above: the value must be larger than this.
        repeatable: the option is given once for each value.
    """

    help: str
    metavar: str | None = None
    name: str | None = None
    default: str | None = None
    low: float | None = None
    above: float | None = None
    high: float | None = None
    repeatable: bool = False

    def problem(self, value: float) -> str | None:
        """Why the value is out of range, if it is."""
        if (
            (self.low is None or value >= self.low)
            and (self.above is None or value > self.above)
            and (self.high is None or value <= self.high)
        ):
            return None
        return f"must be {self._range()}, got {value:g}"

    def _range(self) -> str:
        if self.high is not None:
            return f"in ({self.above:g}, {self.high:g}]" if self.low is None else f"from {self.low:g} to {self.high:g}"
        return f"more than {self.above:g}" if self.low is None else f"at least {self.low:g}"


def option(help: str, **more: Any) -> dict[str, Option]:
    """Metadata for ``dataclasses.field``; the arguments are those of ``Option``."""
    return {_METADATA: Option(help, **more)}


def option_of(field: "dataclasses.Field[Any]") -> Option | None:
    """What the field says of itself; None where no user sets it."""
    found: Option | None = field.metadata.get(_METADATA)
    return found


def name_of(field: "dataclasses.Field[Any]") -> str:
    """The field's name in records and problems."""
    found = option_of(field)
    return found.name if found and found.name else field.name


def out_of_range(settings: type, values: Mapping[str, Any]) -> Iterator[Problem]:
    """A problem for each value outside the limits of its field; a value of None has no limits.

    Args:
        settings: the dataclass.
        values: by ``name_of``.
    """
    for field in dataclasses.fields(settings):
        found, value = option_of(field), values.get(name_of(field))
        if found and isinstance(value, int | float) and (message := found.problem(value)):
            yield Problem(name_of(field), message)
