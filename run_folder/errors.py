"""The errors that a command ends with: bad input, and a storage that takes nothing more."""

import reprlib
from dataclasses import dataclass
from typing import Any

MOST_CHARACTERS = 60
"""Characters of a user's value that an error shows."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with what the user gave.

    Attributes:
        field: the setting at fault, by its name in the settings (``max_length``); None where the message names a file.
        message: what is wrong, in one line.
        fix: what to do about it; empty where the message says it.
    """

    field: str | None
    message: str
    fix: str = ""

    def __str__(self) -> str:
        return self.told(self.field)

    def told(self, name: str | None) -> str:
        """The problem in one line, with the field under the name that the user knows it by."""
        text = f"{self.message}; {self.fix}" if self.fix else self.message
        return f"{name}: {text}" if name else text


def quoted(value: Any) -> str:
    """A user's value as an error shows it: in one line, and cut where it is long."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = MOST_CHARACTERS
    try:
        return short.repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"


def one_line(text: str) -> str:
    """The text with its line ends and other control characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 160 characters; its type where it has no message."""
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


class InputError(ValueError):
    """Bad input: every problem names the file, row or setting at fault and the fix, in one line each."""

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = tuple(p if isinstance(p, Problem) else Problem(None, p) for p in problems)
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type["InputError"], tuple[Problem, ...]]:
        return type(self), self.problems


class DamagedFileWarning(UserWarning):
    """A file of a run is damaged and counts as missing; the message says which command makes it again."""


class SearchHaltedError(Exception):
    """A search stopped since its storage can't be written; the message says why, and how to continue."""
