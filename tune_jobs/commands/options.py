"""What the command line takes."""

import argparse
import dataclasses
import math
import os
import typing
from collections.abc import Callable, Mapping
from importlib.metadata import version
from types import NoneType
from typing import Any, Literal

from clinical_notes.synthetic import DEFAULT_PATIENTS
from run_folder.options import Option, name_of, option_of
from run_folder.settings import LabelSettings, ModelSettings, NotesSettings, SearchSettings
from search_spaces import STRATEGIES
from tune_jobs.execution import EvaluationOptions, Execution

AUTO = "auto"
DEFAULT_SEEDS = 3
"""Seeds of each strategy's best configuration, where a command does not say how many."""

_POSITIONAL = {"run": "RUN", "gold": "GOLD", "file": "FILE"}
_RUN = "the run's name or folder"


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="symptune",
        description="Find the best way to compress a clinical language model for symptom classification.",
    )
    top.add_argument("--version", action="version", version=f"symptune {version('symptune')}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")

    launch = commands.add_parser("launch", help="start a search, or continue the one that the same command started")
    _add_launch_options(launch)
    _add_execution_options(launch)

    resume = commands.add_parser("resume", help="continue an interrupted search")
    resume.add_argument("run", metavar="RUN", help=_RUN)
    _add_resume_options(resume)
    _add_execution_options(resume)

    for name, text in (
        ("status", "show how far a run is"),
        ("evaluate", "evaluate the best trials on the test set"),
        ("leaderboard", "print and write the tables of what has been evaluated"),
        ("report", "write a page with a run's results, figures and tables"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("run", metavar="RUN", help=_RUN)
        if name == "evaluate":
            _add_execution_options(command)
            continue
        _add_storage_option(command)
        if name == "leaderboard":
            _add_fields(command, EvaluationOptions, only=("top", "margin"))

    export = commands.add_parser("export", help="write a trial's model to a new folder that needs nothing else")
    export.add_argument("run", metavar="RUN", help=_RUN)
    which = export.add_mutually_exclusive_group()
    which.add_argument("--strategy", metavar="NAME", help="export its best trial (default: the best of all strategies)")
    which.add_argument("--trial", metavar="ID", help="export this trial of the leaderboard")
    export.add_argument("--to", metavar="DIR", required=True, help="a new folder")
    _add_storage_option(export)

    predict = commands.add_parser("predict", help="label texts with an exported model")
    _add_predict_options(predict)

    paper = commands.add_parser("compare-paper", help="compare the run's tables with the paper's, and check its claims")
    paper.add_argument("run", metavar="RUN", help=_RUN)
    _add_storage_option(paper)

    dashboard = commands.add_parser("dashboard", help="open the studies in optuna-dashboard, the trials in TensorBoard")
    _add_dashboard_options(dashboard)

    audit = commands.add_parser("audit-labels", help="score the labelling rules against labels made by people")
    _add_audit_options(audit)
    return top


def option_name(field: str) -> str:
    """How the user knows a setting: ``--max-length`` for ``max_length``, ``RUN`` for ``run``."""
    return _POSITIONAL.get(field) or f"--{field.replace('_', '-')}"


def cluster_address(options: argparse.Namespace) -> str | None:
    """The cluster that a command is to use, if it is one that uses any."""
    return (options.address or os.environ.get("RAY_ADDRESS") or None) if "address" in options else None


# Values


def _number(text: str) -> float:
    """A finite number; every comparison with NaN is false, so that no later check would see it."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"give a number, not {text!r}")
    return number


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"give a whole number, not {text!r}") from None


def _number_or_auto(text: str) -> float | str:
    if text == AUTO:
        return text
    try:
        return _number(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"give a number or {AUTO}, not {text!r}") from None


def _fractions(text: str) -> tuple[float, ...]:
    try:
        train, validation, test = (_number(part) for part in text.split(","))
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(f"give three fractions, train,validation,test, not {text!r}") from None
    return train, validation, test


def _number_or_names(text: str) -> int | tuple[str, ...]:
    return int(text) if text.isdigit() else _names(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


_READERS: Mapping[Any, Callable[[str], Any]] = {
    int: _whole_number,
    float: _number,
    str: str,
    tuple[float, float, float]: _fractions,
    tuple[str, ...]: _names,
    int | tuple[str, ...]: _number_or_names,
    dict[str, dict[str, Any]]: str,  # the name of a file
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
        return {"action": argparse.BooleanOptionalAction if can_be_denied else "store_true"}
    if typing.get_origin(kind) is Literal:
        return {"choices": typing.get_args(kind)}
    if option.repeatable:
        return {"action": "append", "metavar": option.metavar}
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
        "--protocol", choices=["paper"], help="the settings of the paper's author; other options override them"
    )
    _add_fields(examples, LabelSettings, given_alone=True)
    _add_fields(parser.add_argument_group("model"), ModelSettings, given_alone=True)
    search = parser.add_argument_group("search")
    _add_fields(search, SearchSettings, defaults={"strategies": STRATEGIES}, given_alone=True)
    search.add_argument("--name", metavar="NAME", help="name of the run (default: made from its settings)")


def _add_resume_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to add")
    group.add_argument("--trials", metavar="N", type=_whole_number, help="extend the search to N trials per strategy")
    group.add_argument(
        "--epochs",
        metavar="N",
        type=_whole_number,
        help="train each strategy's best trial for longer, to N epochs, as a new trial",
    )
    group.add_argument("--retry-failed", action="store_true", help="run failed trials again, as new trials")
    group.add_argument("--dry-run", action="store_true", help="show what would be done, and do nothing")
    group.add_argument(
        "--force", action="store_true", help="continue although the data, model or versions have changed"
    )


def _add_execution_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("execution")
    group.add_argument(
        "--cpus-per-trial",
        metavar="N|auto",
        type=_number_or_auto,
        default=AUTO,
        help="a fraction shares a core (default: auto: 1, or more where memory does not hold a trial on every core)",
    )
    group.add_argument(
        "--gpus-per-trial",
        metavar="N|auto",
        type=_number_or_auto,
        default=0.0,
        help="a fraction shares a GPU; auto: as many trials on each as fit, by measuring one (default: 0)",
    )
    _add_fields(group, Execution, defaults={"seeds": DEFAULT_SEEDS})
    _add_storage_option(parser)
    _add_fields(parser, EvaluationOptions)


def _add_storage_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--storage", metavar="FOLDER|URI", default="runs", help="folder or URI that holds the runs (default: ./runs)"
    )


def _add_predict_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="DIR", help="the folder that export wrote")
    parser.add_argument(
        "file", metavar="FILE", help="a table or folder of texts, as --notes of launch; -: one text per line of input"
    )
    parser.add_argument("--out", metavar="FILE", help=".csv or .parquet (default: CSV to standard output)")
    _add_text_column(parser)
    parser.add_argument("--sentences", action="store_true", help="label each sentence of every text")
    parser.add_argument(
        "--threads", metavar="N", type=_whole_number, default=os.cpu_count() or 1, help="(default: all cores)"
    )


def _add_dashboard_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help=_RUN)
    parser.add_argument(
        "--port", metavar="N", type=_whole_number, default=8080, help="port of optuna-dashboard (default: %(default)s)"
    )
    parser.add_argument(
        "--tensorboard-port",
        metavar="N",
        type=_whole_number,
        default=6006,
        help="port of TensorBoard (default: %(default)s)",
    )
    parser.add_argument(
        "--optuna-storage", metavar="URL", help="the database that has the studies, if launch was given one"
    )
    _add_storage_option(parser)


def _add_audit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "gold", metavar="GOLD", nargs="?", help=".tsv or .csv with the columns text, affirmed and negated"
    )
    parser.add_argument("--symptoms", type=_names, metavar="NAMES", help="(default: those that GOLD names)")
    _add_fields(parser, LabelSettings, only=("lexicon", "absorb"), defaults={"absorb": []})
    parser.add_argument(
        "--keep-apart", action="store_true", help="do not count chest pain as pain where GOLD names pain alone"
    )
    parser.add_argument(
        "--show-errors", action="store_true", help="print the texts on which the rules and the labels differ"
    )
    parser.add_argument("--out", metavar="FILE", help="scores as .csv or .json; the sheet as .tsv or .csv")
    group = parser.add_argument_group("write a sheet to label")
    group.add_argument("--export-sample", metavar="N", type=_whole_number, help="write N sentences of --notes to --out")
    _add_fields(group, NotesSettings, only=("path",), given_alone=True)
    _add_text_column(group)
    group.add_argument("--key", metavar="FILE", help="also write the rules' labels of them, as .tsv or .csv")
    group.add_argument(
        "--seed", metavar="N", type=_whole_number, default=0, help="seed of the sample (default: %(default)s)"
    )


def _add_text_column(to: argparse._ActionsContainer) -> None:
    _add_fields(to, NotesSettings, only=("text_column",))
