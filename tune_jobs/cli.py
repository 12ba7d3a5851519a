"""The command line: each command's code is imported when it is asked for."""

import importlib
import io
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from run_folder.errors import DamagedFileWarning, InputError, SearchHaltedError, one_line
from run_folder.folder import storage_reason
from tune_jobs.commands.options import cluster_address, option_name, parser
from tune_jobs.signals import INTERRUPTED, interruptible

_MODULES = {
    "launch": "launch",
    "resume": "launch",
    "status": "results",
    "evaluate": "launch",
    "leaderboard": "results",
    "report": "results",
    "export": "models",
    "predict": "models",
    "audit-labels": "labels",
    "compare-paper": "paper",
    "dashboard": "dashboard",
}
"""Command to the module of ``tune_jobs.commands`` that has a function of its name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 without a result, 2 for bad input, 130 when interrupted."""
    _print_what_the_terminal_can()
    console = Console(width=None if sys.stdout.isatty() else 110)
    try:
        with _warnings_in_lines(), interruptible():
            options = parser().parse_args(sys.argv[1:] if arguments is None else arguments)
            address = cluster_address(options)
            if address is not None and address.startswith("ray://"):
                remote = importlib.import_module("tune_jobs.commands.remote")
                given = sys.argv[1:] if arguments is None else arguments
                return int(remote.run(options, given, address))
            module = importlib.import_module(f"tune_jobs.commands.{_MODULES[options.command]}")
            code: int = getattr(module, options.command.replace("-", "_"))(options, console)
    except InputError as error:
        for problem in error.problems:
            name = option_name(problem.field) if problem.field else None
            print(f"symptune: error: {one_line(problem.told(name))}", file=sys.stderr)
        return 2
    except SearchHaltedError as halt:
        console.print(f"Stopped: {halt}", markup=False, soft_wrap=True)
        return 1
    except OSError as error:
        print(f"symptune: error: {storage_reason(error)}; fix this, then run the command again", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("symptune: interrupted", file=sys.stderr)
        return INTERRUPTED
    return code


def _print_what_the_terminal_can() -> None:
    """In a locale without UTF-8 what cannot be shown is escaped, and ends no command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _warnings_in_lines() -> Iterator[None]:
    """Print what is found damaged, a line each, once."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", DamagedFileWarning)
        show_others, shown = warnings.showwarning, set[str]()

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, DamagedFileWarning):
                show_others(message, category, *where, **more)
            elif str(message) not in shown:
                shown.add(str(message))
                print(f"symptune: warning: {message}", file=sys.stderr)

        warnings.showwarning = show
        yield
