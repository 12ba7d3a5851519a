"""The command that opens a run's live side: optuna-dashboard for its studies, TensorBoard for its trials."""

import argparse
import importlib.util
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from run_folder.errors import InputError, Problem
from run_folder.folder import Folder
from tune_jobs.commands.find_run import opened
from tune_jobs.commands.options import check_limits
from tune_jobs.commands.tensorboard_logs import TensorBoardLogs
from tune_jobs.searching.study_storage import JOURNAL, database_problems

HOST = "127.0.0.1"
_PACKAGES = {"optuna_dashboard": "optuna-dashboard", "tensorboard": "tensorboard"}
_REFRESH_SECONDS = 3.0


def dashboard(options: argparse.Namespace, console: Console) -> int:
    check_limits(options)
    _check_packages()
    run = opened(options).folder
    _check_ports({"port": options.port, "tensorboard_port": options.tensorboard_port})
    problems = database_problems(options.optuna_storage)
    if problems:
        raise InputError(*problems)
    with tempfile.TemporaryDirectory(prefix="symptune-dashboard-") as temporary:
        home = Path(temporary)
        studies = [options.optuna_storage] if options.optuna_storage else _journal(run, home, console)
        logs = home / "tensorboard"
        logs.mkdir()
        writer = TensorBoardLogs(run, logs)
        writer.update()
        commands = {
            "optuna-dashboard": [
                *("-m", "optuna_dashboard._cli", *studies),
                *("--host", HOST, "--port", str(options.port), "--server", "wsgiref", "--quiet"),
            ],
            "tensorboard": [
                *("-m", "tensorboard.main", "--logdir", str(logs), "--host", HOST),
                *("--port", str(options.tensorboard_port), "--reload_interval", "5"),
            ],
        }
        try:
            with _running(commands, home) as processes:
                console.print(
                    f"Studies: http://{HOST}:{options.port}/\n"
                    f"Trials:  http://{HOST}:{options.tensorboard_port}/ (TensorBoard; follows the ledger)\n"
                    "Ctrl-C ends both.",
                    markup=False, highlight=False, soft_wrap=True,
                )  # fmt: skip
                return _follow(processes, writer, home)
        except KeyboardInterrupt:
            return 0
        finally:
            writer.close()


def _check_packages() -> None:
    missing = [name for module, name in _PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise InputError(f"dashboard: needs {' and '.join(missing)}: pip install -c constraints.txt -e '.[dashboard]'")


def _check_ports(ports: dict[str, int]) -> None:
    if len(set(ports.values())) < len(ports):
        raise InputError(
            Problem("tensorboard_port", f"{ports['port']} is the port of optuna-dashboard as well", "give another")
        )
    for field, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                raise InputError(Problem(field, f"port {port} is in use or not allowed", "give another")) from None


def _journal(run: Folder, home: Path, console: Console) -> list[str]:
    """What optuna-dashboard is to read, as it takes it."""
    if not run.exists(JOURNAL):
        raise InputError(
            Problem(
                "run",
                f"{run.name} has no {JOURNAL}",
                "give --optuna-storage URL if launch was given one, or wait until the search on remote storage has "
                "ended",
            )
        )
    path = Path(run.uri) / JOURNAL
    if not run.is_local:
        path = home / JOURNAL
        path.write_bytes(run.read(JOURNAL))
        console.print(
            f"{run} is remote: its studies are shown as they are now; the trials are followed.",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
    return [str(path), "--storage-class", "JournalFileStorage"]


@contextmanager
def _running(commands: Mapping[str, Sequence[str]], home: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """These modules as processes of this Python, which end with the block; their output goes to files in ``home``.

    They stay in this process's group, so that a terminal's Ctrl-C reaches them whatever becomes of this one.
    """
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            with (home / f"{name}.log").open("wb") as log:
                processes[name] = subprocess.Popen([sys.executable, *command], stdout=log, stderr=subprocess.STDOUT)
        yield processes
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _follow(processes: dict[str, subprocess.Popen[bytes]], writer: TensorBoardLogs, home: Path) -> int:
    """Keep the logs up until a process ends by itself, which is an error."""
    while True:
        for name, process in processes.items():
            if process.poll() is not None:
                said = (home / f"{name}.log").read_text(errors="replace").strip().splitlines()
                print(f"symptune: error: {name} ended: {said[-1] if said else 'it says nothing'}", file=sys.stderr)
                return 1
        time.sleep(_REFRESH_SECONDS)
        writer.update()
