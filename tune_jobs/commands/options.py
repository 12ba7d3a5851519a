"""What the command line takes."""

import argparse
import dataclasses
import math
import os
import re
import typing
from collections.abc import Callable, Mapping
from importlib.metadata import version
from types import NoneType
from typing import Any, Literal

from analysis.paper.protocols import PROTOCOLS
from clinical_notes.synthetic import DEFAULT_PATIENTS
from run_folder.errors import InputError, Problem, quoted
from run_folder.options import Option, name_of, option_of, out_of_range
from run_folder.settings import STATUSES, LabelSettings, ModelSettings, NotesSettings, SearchSettings
from search_spaces import STRATEGIES
from tune_jobs.commands.own_options import (
    AuditOptions,
    DashboardOptions,
    GoldOptions,
    PredictOptions,
    ResumeOptions,
    SheetOptions,
    StorageOptions,
)
from tune_jobs.commands.strict_parser import Flag, StrictParser
from tune_jobs.execution import AskedResources, Bytes, EvaluationOptions, Execution, Seconds

AUTO = "auto"
DEFAULT_SEEDS = 3
"""Seeds of each strategy's best configuration, where a command does not say how many."""

_POSITIONAL = {"run": "RUN", "labelled": "GOLD", "file": "FILE", "directory": "DIR"}
_LIMITED = (AskedResources, Execution, EvaluationOptions, ResumeOptions, PredictOptions, DashboardOptions, SheetOptions)
"""Options with limits, those of a run's settings aside."""


def parser() -> StrictParser:
    """Of the whole command line; its ``parse_args`` raises InputError."""
    top = StrictParser(
        prog="symptune",
        description="Find the best way to compress a clinical language model for symptom classification.",
    )
    top.add_argument("--version", action="version", version=f"symptune {version('symptune')}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")
    for name, (text, add_options) in _COMMANDS.items():
        command = commands.add_parser(name, help=text)
        command.siblings = commands.choices
        add_options(command)
    return top


def limit_problems(options: argparse.Namespace) -> list[Problem]:
    """A problem for each option that is outside its field's limits; the settings of a run are not looked at."""
    groups = [group for group in _LIMITED if group is not SheetOptions or options.command == "audit-labels"]
    if options.command != "resume":  # what launch calls trials and epochs are a run's settings
        groups.remove(ResumeOptions)
    return [problem for group in groups for problem in out_of_range(group, vars(options))]


def check_limits(options: argparse.Namespace) -> None:
    """Raises: InputError: as ``limit_problems``."""
    if problems := limit_problems(options):
        raise InputError(*problems)


def option_name(field: str) -> str:
    """How the user knows a setting: ``--max-length`` for ``max_length``, ``RUN`` for ``run``."""
    return _POSITIONAL.get(field) or f"--{field.replace('_', '-')}"


def cluster_address(options: argparse.Namespace) -> str | None:
    """The cluster that a command is to use, if it is one that uses any."""
    return (options.address or os.environ.get("RAY_ADDRESS") or None) if "address" in options else None


# Values

_LARGEST = 2**63 - 1
"""The largest whole number that the libraries behind an option can hold."""


def _number(text: str) -> float:
    """A finite number; every comparison with NaN is false, so that no later check would see it."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"give a number, not {quoted(text)}")
    return number


def _text(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("give a value; this one is empty")
    return text


def _whole_number(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"give a whole number, not {quoted(text)}") from None
    if abs(number) > _LARGEST:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is too large")
    return number


def _number_or_auto(text: str) -> float | str:
    if text == AUTO:
        return text
    try:
        return _number(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"give a number or {AUTO}, not {quoted(text)}") from None


def _fractions(text: str) -> tuple[float, ...]:
    try:
        train, validation, test = (_number(part) for part in text.split(","))
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(f"give three fractions, train,validation,test, not {quoted(text)}") from None
    return train, validation, test


def _number_or_names(text: str) -> int | tuple[str, ...]:
    return _whole_number(text) if text.strip().lstrip("+-").isdecimal() else _names(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}


def _with_unit(text: str, units: Mapping[str, float], what: str) -> float:
    found = re.fullmatch(r"([0-9]*\.?[0-9]+) ?([a-zµ]+)", text.strip().lower())
    if found is None or found[2] not in units:
        raise argparse.ArgumentTypeError(f"give {what}, not {quoted(text)}")
    return float(found[1]) * units[found[2]]


def _size(text: str) -> Bytes:
    return Bytes(round(_with_unit(text, _BYTES, "a size with its unit, such as 20MB, 500kB or 1.5GiB")))


def _time(text: str) -> Seconds:
    return Seconds(_with_unit(text, _SECONDS, "a time with its unit, such as 5ms or 0.1s"))


_READERS: Mapping[Any, Callable[[str], Any]] = {
    int: _whole_number,
    float: _number,
    str: _text,
    Bytes: _size,
    Seconds: _time,
    float | Literal["auto"]: _number_or_auto,
    tuple[float, float, float]: _fractions,
    tuple[str, ...]: _names,
    int | tuple[str, ...]: _number_or_names,
    dict[str, dict[str, Any]]: _text,  # the name of a file
}
"""Type of a field to what reads it from the command line."""


# Options built from fields


def _add_fields(
    to: argparse._ActionsContainer,
    settings: type[Any],
    *,
    only: tuple[str, ...] = (),
    defaults: Mapping[str, Any] | None = None,
    given_alone: bool = False,
) -> None:
    """An option for each field that says how it is set.

    Args:
        only: names of the fields to add; all where there are none.
        defaults: what the command line takes in the place of some fields' defaults.
        given_alone: an option that the user leaves out is None, so that it can be told from the default.
    """
    types = typing.get_type_hints(settings)
    for field in dataclasses.fields(settings):
        option = option_of(field)
        if option is None or (only and field.name not in only):
            continue
        default = (defaults or {}).get(field.name, field.default)
        more = _arguments(types[field.name], option, can_be_denied=given_alone)
        more["default"] = None if given_alone else default
        to.add_argument(option_name(name_of(field)), help=_help(option, default), **more)


def _arguments(of: Any, option: Option, *, can_be_denied: bool) -> dict[str, Any]:
    """What argparse is told of a field of this type; a flag that can be denied has its ``--no-`` form as well."""
    chosen = [kind for kind in typing.get_args(of) if kind is not NoneType] if _is_optional(of) else [of]
    kind = chosen[0] if len(chosen) == 1 else of
    if kind is bool:
        return {"action": Flag if can_be_denied else "store_true"}
    if typing.get_origin(kind) is Literal:
        return {"choices": typing.get_args(kind)}
    if option.repeatable:
        return {"action": "append", "type": _text, "metavar": option.metavar}
    return {"type": _READERS[kind], "metavar": option.metavar}


def _is_optional(of: Any) -> bool:
    return NoneType in typing.get_args(of)


def _help(option: Option, default: Any) -> str:
    text = option.default or _in_words(default)
    return f"{option.help} (default: {text})" if text else option.help


def _in_words(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return str(default) if isinstance(default, int | float | str) and not isinstance(default, bool) else ""


# Commands


def _add_launch_options(parser: argparse.ArgumentParser) -> None:
    notes = parser.add_argument_group("notes")
    _add_fields(notes, NotesSettings, defaults={"patients": DEFAULT_PATIENTS}, given_alone=True)
    examples = parser.add_argument_group("examples")
    examples.add_argument(
        "--protocol",
        choices=list(PROTOCOLS),
        help="the settings of the paper as written, or of its author's own run; other options override them",
    )
    _add_fields(examples, LabelSettings, given_alone=True)
    _add_fields(parser.add_argument_group("model"), ModelSettings, given_alone=True)
    search = parser.add_argument_group("search")
    _add_fields(search, SearchSettings, defaults={"strategies": STRATEGIES}, given_alone=True)
    search.add_argument("--name", metavar="NAME", type=_text, help="name of the run (default: made from its settings)")
    _add_execution_options(parser)


def _add_resume_options(parser: argparse.ArgumentParser) -> None:
    _add_run(parser)
    _add_fields(parser.add_argument_group("what to add"), ResumeOptions)
    _add_execution_options(parser)


def _add_execution_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("execution")
    _add_fields(group, AskedResources)
    _add_fields(group, Execution, defaults={"seeds": None})
    _add_fields(parser, StorageOptions)
    _add_fields(parser, EvaluationOptions)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the run's name or folder")


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    _add_run(parser)
    _add_fields(parser, StorageOptions)


def _add_evaluate_options(parser: argparse.ArgumentParser) -> None:
    _add_run(parser)
    _add_fields(parser, GoldOptions)
    _add_execution_options(parser)


def _add_leaderboard_options(parser: argparse.ArgumentParser) -> None:
    _add_run_options(parser)
    _add_fields(parser, EvaluationOptions, only=("top", "margin", "prefer", "at_most", "faster", "latency"))


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    _add_run(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--strategy", metavar="NAME", type=_text, help="export its best trial (default: the best of all strategies)"
    )
    which.add_argument("--trial", metavar="ID", type=_text, help="export this trial of the leaderboard")
    parser.add_argument("--to", metavar="DIR", type=_text, required=True, help="a new folder")
    _add_fields(parser, StorageOptions)


def _add_predict_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="DIR", help="the folder that export wrote")
    parser.add_argument(
        "file", metavar="FILE", help="a table or folder of texts, as --notes of launch; -: one text per line of input"
    )
    _add_fields(parser, NotesSettings, only=("text_column",))
    _add_fields(parser, PredictOptions)


def _add_dashboard_options(parser: argparse.ArgumentParser) -> None:
    _add_run(parser)
    _add_fields(parser, DashboardOptions)
    _add_fields(parser, StorageOptions)


def _add_audit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "labelled",
        metavar="GOLD",
        nargs="?",
        help=f".tsv or .csv with the columns text (or sentence), {' and '.join(STATUSES[:2])}; "
        f"{', '.join(STATUSES[2:])} are scored too where it has them",
    )
    _add_fields(parser, LabelSettings, only=("labeller", "lexicon", "absorb"), defaults={"absorb": []})
    _add_fields(parser, AuditOptions)
    group = parser.add_argument_group("write a sheet to label")
    _add_fields(group, SheetOptions, given_alone=True)
    _add_fields(group, NotesSettings, only=("path", "text_column", "patient_column"), given_alone=True)


_COMMANDS: Mapping[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "launch": ("start a search, or continue the one that the same command started", _add_launch_options),
    "resume": ("continue an interrupted search", _add_resume_options),
    "status": ("show how far a run is", _add_run_options),
    "evaluate": ("evaluate the best trials on the test set", _add_evaluate_options),
    "leaderboard": ("print and write the tables of what has been evaluated", _add_leaderboard_options),
    "report": ("write a page with a run's results, figures and tables", _add_run_options),
    "export": ("write a trial's model to a new folder that needs nothing else", _add_export_options),
    "predict": ("label texts with an exported model", _add_predict_options),
    "compare-paper": ("compare the run's tables with the paper's, and check its claims", _add_run_options),
    "dashboard": ("open the studies in optuna-dashboard, the trials in TensorBoard", _add_dashboard_options),
    "audit-labels": ("score the labelling rules against labels made by people", _add_audit_options),
}
"""By command, what it does and what adds its options."""
