"""What a field of a settings dataclass says of itself: help, limits, and its name outside the code."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from run_folder.errors import Problem, quoted

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
        unless: a value outside these limits that is allowed as well.
        repeatable: the option is given once for each value.
    """

    help: str
    metavar: str | None = None
    name: str | None = None
    default: str | None = None
    low: float | None = None
    above: float | None = None
    high: float | None = None
    unless: float | None = None
    repeatable: bool = False

    def problem(self, value: float) -> str | None:
        """Why the value is out of range, if it is."""
        inside = (
            (self.low is None or value >= self.low)
            and (self.above is None or value > self.above)
            and (self.high is None or value <= self.high)
        )
        if inside or value == self.unless:
            return None
        return f"must be {self._range(value)}, got {_shown(value)}"

    def _range(self, value: float) -> str:
        """The limits that a value is outside of."""
        least, most = _shown(self.above if self.low is None else self.low), _shown(self.high)
        if self.low is None:
            return f"more than {least}" if self.high is None else f"in ({least}, {most}]"
        text = f"at least {least}" if value < self.low else f"at most {most}"
        return text if self.unless is None else f"{_shown(self.unless)}, or {text}"


def _shown(value: float | None) -> str:
    return f"{value:g}" if isinstance(value, float) else quoted(value)


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
