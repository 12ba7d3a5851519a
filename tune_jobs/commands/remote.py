"""``--address ray://…``: the same command line runs on the cluster's head node, and its output comes back here.

Ray Client itself could not carry a search: it would pickle the searcher, whose state is the run's ledger. Nothing
of the search is imported on this side.
"""

import argparse
import importlib.util
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO, Any
from urllib.parse import urlsplit

import ray
from ray import cloudpickle
from ray.exceptions import RayError

from run_folder.errors import InputError, Problem
from tune_jobs.signals import INTERRUPTED

SCHEME = "ray://"

LOST = 1
"""Exit code where the cluster was lost while the command ran."""

_ANY_PART_OF_THE_HEAD = {"node:__internal_head__": 0.001}
_SECONDS_TO_ANSWER = 5
_SECONDS_TO_WAIT_FOR_OUTPUT = 0.5
_ATTEMPTS = 3
_ABORTED = "Initialization failure from server"
"""Sign of a client's process on the head that did not survive its fork, as happens at times (ray-project/ray#63202)."""
_PATHS = ("lexicon", "space")


def run(options: argparse.Namespace, arguments: Sequence[str], address: str) -> int:
    """Run the command there; returns its exit code. The first Ctrl-C stops it cleanly, the second kills it.

    Raises:
        InputError: the cluster cannot be reached or lacks this package, or a path is not one of its nodes'.
    """
    problems = _problems(options)
    if problems:
        raise InputError(*problems)
    _connect(address)
    try:
        cloudpickle.register_pickle_by_value(sys.modules[__name__])  # so that its absence there can be told
        actor: Any = ray.remote(num_cpus=0, resources=_ANY_PART_OF_THE_HEAD)(_Command)
        command = actor.remote()
        if not ray.get(command.start.remote(list(arguments))):
            raise InputError(
                Problem(
                    "address",
                    f"symptune is not installed on the cluster at {address!r}",
                    "install it on every node (pip install -c constraints.txt .), for the Python that runs Ray there",
                )
            )
        code = _follow(command)
        if code == INTERRUPTED:
            print(f"symptune: the run is on the cluster: continue it with --address {address}", file=sys.stderr)
        return code
    except (ConnectionError, RayError) as error:
        print(
            f"symptune: the cluster at {address!r} was lost ({type(error).__name__}); "
            "what had finished is kept; run the same command to continue",
            file=sys.stderr,
        )
        return LOST
    finally:
        ray.shutdown()


def _problems(options: argparse.Namespace) -> list[Problem]:
    """Relative paths: they depend on the current folder, which is another one on the cluster."""
    given = [(name, getattr(options, name, None)) for name in _PATHS]
    given += [("notes", path) for path in getattr(options, "notes", None) or ()]
    if not _is_absolute(getattr(options, "run", None)):  # a run that is named by its folder needs no storage
        given.append(("storage", options.storage))
    if "/" in (getattr(options, "warm_start", None) or ""):  # else it is the name of a run
        given.append(("warm_start", options.warm_start))
    return [
        Problem(
            name, f"with --address {SCHEME}… give a URI or an absolute path that the cluster's nodes see, got {value!r}"
        )
        for name, value in given
        if value is not None and not _is_absolute(value)
    ]


def _without_address(arguments: Sequence[str]) -> list[str]:
    """The command line without its ``--address``, in the place of which another is given."""
    kept, words = [], iter(arguments)
    for word in words:
        if word == "--address":
            next(words, None)
        elif not word.startswith("--address="):
            kept.append(word)
    return kept


def _is_absolute(path: str | None) -> bool:
    return path is not None and ("://" in path or os.path.isabs(path))


def _connect(address: str) -> None:
    """Raises: InputError: nothing answers there, or another version of Ray or Python does."""
    try:
        place = urlsplit(address)
        socket.create_connection((place.hostname or "", place.port or 10001), _SECONDS_TO_ANSWER).close()
    except (OSError, ValueError) as error:
        raise InputError(
            Problem(
                "address",
                f"no Ray Client server answers at {address!r} ({error})",
                "give the head node's host and its ray-client-server-port (10001)",
            )
        ) from error
    for attempt in range(_ATTEMPTS):
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
            return
        except (ConnectionError, ValueError, RuntimeError) as error:
            if _ABORTED not in str(error) or attempt == _ATTEMPTS - 1:
                reason = " ".join(str(error).split())[:200]
                message = f"the Ray cluster at {address!r} cannot be joined ({reason})"
                raise InputError(Problem("address", message)) from error


def _follow(command: Any) -> int:
    """Print what the command prints, as it does, and pass signals on; returns its exit code."""
    passed_on = 0
    with _counted_signals() as received:
        while True:
            if passed_on < len(received):
                passed_on += 1
                ray.get(command.stop.remote(at_once=passed_on > 1))
            lines, code = ray.get(command.poll.remote())
            for is_error, line in lines:
                print(line, end="", flush=True, file=sys.stderr if is_error else sys.stdout)
            if code is not None:
                return INTERRUPTED if received and code < 0 else code


@contextmanager
def _counted_signals() -> Iterator[list[int]]:
    """Signals that came while the block ran; the third ends this process, whatever the cluster answers."""
    received: list[int] = []

    def count(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 2:
            os._exit(INTERRUPTED)

    previous = {number: signal.signal(number, count) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Command:
    """The actor on the head node that runs the command as a process; it dies with the client, the process with it."""

    def start(self, arguments: list[str]) -> bool:
        """False where the package is not installed."""
        if importlib.util.find_spec("tune_jobs") is None:
            return False
        address = ray.get_runtime_context().gcs_address
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
        for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):  # Ray's, for an actor that asked for nothing
            environment.pop(name, None)
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tune_jobs.commands.on_cluster",
                *_without_address(arguments),
                f"--address={address}",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ray kills an actor's process group
        )
        self._lines: queue.Queue[tuple[bool, str]] = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read, args=(stream, stream is self._process.stderr), daemon=True)
            for stream in (self._process.stdout, self._process.stderr)
        ]
        for reader in self._readers:
            reader.start()
        return True

    def _read(self, stream: IO[str], is_error: bool) -> None:
        for line in stream:
            self._lines.put((is_error, line))

    def poll(self) -> tuple[list[tuple[bool, str]], int | None]:
        """Lines that came since the last call, with whether they are of stderr; the exit code after the last ones."""
        ended = not any(reader.is_alive() for reader in self._readers)
        lines = []
        try:
            lines.append(self._lines.get(timeout=0 if ended else _SECONDS_TO_WAIT_FOR_OUTPUT))
            while True:
                lines.append(self._lines.get_nowait())
        except queue.Empty:
            pass
        return lines, self._process.wait() if ended else None

    def stop(self, at_once: bool) -> None:
        self._process.send_signal(signal.SIGKILL if at_once else signal.SIGTERM)
