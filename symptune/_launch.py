"""The one module of the API that knows the command line's code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from run_folder.errors import InputError, Problem, SearchHaltedError

if TYPE_CHECKING:
    from run_folder.folder import Folder


class SearchError(RuntimeError):
    """A search ended without a result: its storage failed, or every trial did."""


def launch(arguments: Sequence[str], *, progress: bool) -> str:
    """Do what ``symptune launch`` with these arguments does; returns the run's folder, or the URI of it.

    Raises:
        InputError: as the command refuses them, a line for each problem.
        SearchError: the command ended without a result.
        KeyboardInterrupt: it was stopped.
    """
    from rich.console import Console

    from run_folder.folder import Folder, storage_reason
    from tune_jobs.commands import launch as command
    from tune_jobs.commands.options import cluster_address, parser
    from tune_jobs.signals import INTERRUPTED, interruptible

    options = parser().parse_args(["launch", *arguments])
    if (cluster_address(options) or "").startswith("ray://"):
        raise InputError(
            Problem(
                "address",
                "ray:// is for the command line",
                "give auto or HOST:6379 on a node of the cluster, or run `symptune launch --address ray://…` and open "
                "its run with open_run",
            )
        )
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        raise InputError(Problem("address", "this process is connected to Ray already", "call ray.shutdown() first"))
    console = Console(width=None if sys.stdout.isatty() else 110, quiet=not progress)
    try:
        with interruptible():
            code = command.launch(options, console)
        folder = Folder(options.storage).child(options.name)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            raise SearchError(f"run {folder.name} ended without a result: {_why_no_model(folder)}")
    except SearchHaltedError as halt:
        raise SearchError(f"run {options.name} stopped: {halt}") from None
    except OSError as error:
        raise SearchError(f"run {options.name} stopped: {storage_reason(error)}") from error
    return folder.uri


def _why_no_model(folder: Folder) -> str:
    """The reason of each strategy."""
    from analysis.evaluation.leaderboard import build_leaderboard
    from run_folder.run import open_run

    return "; ".join(
        f"{name}: no model ({why})" for name, why in build_leaderboard(open_run(folder), 1).without.items()
    )
