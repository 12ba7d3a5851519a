"""An argument parser that guesses nothing, and says what is wrong in one line."""

import argparse
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from run_folder.errors import InputError, Problem, quoted

_GIVEN = "_given"
"""Attribute of the options, while they are read, with what was given by option."""


_ALMOST = 0.8
"""How near another option must be, by difflib, to be meant rather than one of this name of another command."""


def near(word: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """A hint at the known word that was probably meant; empty where none is near."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=likeness)
    return f"; did you mean {matches[0]!r}?" if matches else ""


class StrictParser(argparse.ArgumentParser):
    """Takes no abbreviations, and no option twice with different values.

    ``parse_args`` raises InputError for bad input.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, "exit_on_error": False, **options})
        self.register("action", None, _once(argparse._StoreAction))
        self.register("action", "store", _once(argparse._StoreAction))

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Raises: InputError: also for options that there are not."""
        for word in args or ():
            if "\0" in word or any("\ud800" <= letter <= "\udfff" for letter in word):
                raise InputError(
                    f"the argument {quoted(word)} holds a NUL or is not UTF-8; give another, or set PYTHONUTF8=1"
                )
        try:
            options, unknown = super().parse_known_args(args, namespace)
        except argparse.ArgumentError as error:
            raise InputError(_problem(error)) from None
        vars(options).pop(_GIVEN, None)
        if unknown:
            raise InputError(self._unknown(unknown[0]))
        return options, unknown

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see `{self.prog} --help`")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        message = f"there is no {quoted(value)}{near(str(value), choices)}"
        raise argparse.ArgumentError(action, f"{message} (there are {', '.join(choices)})")

    def _unknown(self, word: str) -> str:
        help_line = f"see `{self.prog} --help`"
        if not word.startswith("-"):
            return f"{quoted(word)} is one argument too many; {help_line}"
        option, command = word.partition("=")[0], self.prog.rpartition(" ")[2]
        others = [name for name, parser in self.siblings.items() if option in parser._option_string_actions]
        if others:
            hint = near(option, self._option_string_actions, _ALMOST) or f"; {help_line}"
            return f"{option} is an option of {', '.join(others)}, not of {command}{hint}"
        return (
            f"{command} has no option {quoted(option)}{near(option, self._option_string_actions) or f'; {help_line}'}"
        )

    siblings: Mapping[str, argparse.ArgumentParser] = {}
    """By command, the parsers next to this one."""


def _problem(error: argparse.ArgumentError) -> Problem:
    name = (error.argument_name or "").partition("/")[0]
    if name.startswith("--"):
        return Problem(name.removeprefix("--").replace("-", "_"), error.message)
    return Problem(None, f"{name}: {error.message}" if name else error.message)


def _once(kind: type[argparse.Action]) -> type[argparse.Action]:
    """The action, refusing to be asked for two different values."""

    class Once(kind):  # type: ignore[misc, valid-type]
        def __call__(
            self,
            parser: argparse.ArgumentParser,
            namespace: argparse.Namespace,
            values: Any,
            option_string: str | None = None,
        ) -> None:
            given = vars(namespace).setdefault(_GIVEN, {})
            before = getattr(namespace, self.dest, None)
            super().__call__(parser, namespace, values, option_string)
            now = getattr(namespace, self.dest)
            if given.setdefault(self.dest, now) != now:
                raise argparse.ArgumentError(self, f"given as {quoted(before)} and as {quoted(now)}; give it once")

    return Once


Flag: Callable[..., argparse.Action] = _once(argparse.BooleanOptionalAction)
"""A flag with its ``--no-`` form, of which only one can be asked for."""
