"""The Ray cluster: an existing one, or one started here; and what a trial may ask of it."""

import logging
import math
import os
import socket
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import ray
import torch
from ray._private.services import canonicalize_bootstrap_address
from ray.exceptions import RayError

from run_folder.errors import InputError, Problem, first_line
from tune_jobs.cluster.local_ray import (
    own_token,
    quiet_daemons,
    socket_problems,
    started_cluster,
    watched_daemons,
)
from tune_jobs.execution import TrialResources

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""Ray's switches: it prints nothing, takes no snapshots (the ledger is the state), and leaves Ctrl-C to us."""

_WORKER_ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


_SECONDS_TO_ANSWER = 5
_SECONDS_BETWEEN_COUNTS = 3

RESOURCE_UNITS = 10_000
"""Units per CPU or GPU: Ray counts in ten-thousandths."""


@contextmanager
def connected(address: str | None, verbose: bool) -> Iterator[None]:
    """Connect to the cluster at ``address``, or start one on this machine; leave it as it was found.

    Raises:
        InputError: nothing answers at the address.
        SearchHaltedError: a cluster did not start here, or one of its daemons died.
    """
    if not verbose:
        os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
        logging.getLogger("ray.train._internal.storage").setLevel(
            logging.CRITICAL
        )  # tracebacks of what we say in a line
    with _joined(address, verbose) if address else _started(verbose):
        yield


@contextmanager
def _joined(address: str, verbose: bool) -> Iterator[None]:
    _check_answers(address)
    try:
        _init(address, verbose)
    except (OSError, ValueError, RuntimeError, RayError) as error:
        message = f"the Ray cluster at {address!r} cannot be joined ({first_line(error)})"
        raise InputError(Problem("address", message, "if it wants a token, set RAY_AUTH_MODE=token")) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _started(verbose: bool) -> Iterator[None]:
    with own_token(), quiet_daemons(verbose):
        try:
            with watched_daemons():
                with started_cluster():
                    # Without an address Ray would join whatever was last started on this machine, dead or alive.
                    _init("local", verbose)
                yield
        finally:
            ray.shutdown()


def _init(address: str, verbose: bool) -> None:
    ray.init(
        address=address,
        include_dashboard=False if address == "local" else None,
        log_to_driver=verbose,
        logging_level=logging.INFO if verbose else logging.ERROR,
        runtime_env={"env_vars": _WORKER_ENVIRONMENT},
    )


def _check_answers(address: str) -> None:
    """Raises InputError at once where nothing listens; Ray itself would try for minutes."""
    try:
        place = canonicalize_bootstrap_address(address)
        host, _, port = str(place).rpartition(":")
        socket.create_connection((host, int(port)), timeout=_SECONDS_TO_ANSWER).close()
    except (OSError, ValueError, ConnectionError) as error:
        reason = first_line(error)
        message = f"no Ray cluster answers at {address!r} ({reason})"
        raise InputError(Problem("address", message, "start one, or omit it")) from error


def slots(ask: TrialResources) -> int:
    """How many trials the nodes that are there now can run at once."""
    return sum(_slots(node, ask) for node in node_resources())


@dataclass
class Capacity:
    """How many trials may be under way, as nodes join and leave.

    Attributes:
        limit: the user's.
        growing: trials up to the limit may wait for nodes that are not there yet; an autoscaler adds nodes for them.
    """

    ask: TrialResources
    limit: int | None = None
    growing: bool = False
    _slots: int = field(default=0, init=False)
    _counted: float = field(default=-math.inf, init=False)

    def __call__(self) -> int:
        """At least 1: where every node was lost, a trial waits for the next one."""
        if self.limit is not None and self.growing:
            return self.limit
        if time.monotonic() - self._counted > _SECONDS_BETWEEN_COUNTS:
            self._slots, self._counted = max(slots(self.ask), 1), time.monotonic()
        return min(self._slots, self.limit or self._slots)


def check_slots(ask: TrialResources) -> None:
    """Raises: InputError: no node is large enough for one trial."""
    if slots(ask):
        return
    cpus = max((node.get("CPU", 0) for node in node_resources()), default=0)
    gpus = max((node.get("GPU", 0) for node in node_resources()), default=0)
    raise InputError(
        Problem(
            "cpus_per_trial" if ask.cpus > cpus else "gpus_per_trial",
            f"a trial asks for {ask.cpus:g} CPUs and {ask.gpus:g} GPUs, and the largest nodes of the cluster have "
            f"{cpus:g} and {gpus:g}, so no trial could start",
            "ask for less, or, where nodes will join, say how many trials may run at once",
        )
    )


_ON_WORKERS = ("run_folder", "clinical_notes", "search_spaces", "trainables", "tune_jobs")
"""Packages of ours that Ray's workers import."""


def _hidden_packages() -> list[Problem]:
    """What in the current folder, which Ray puts first on its workers' path, they would import instead of ours."""
    here = Path.cwd().resolve()
    if here == Path(__file__).resolve().parents[2]:
        return []
    return [
        Problem(
            None,
            f"{found.parent if found.name == '__init__.py' else found}: it hides symptune's own package {name!r} from "
            "Ray's workers",
            "rename it, or start in another folder",
        )
        for name in _ON_WORKERS
        for found in (here / name / "__init__.py", here / f"{name}.py")
        if found.exists()
    ]


def cluster_problems(address: str, ask: TrialResources, verbose: bool, *, growing: bool) -> list[Problem]:
    """Whether the cluster at ``address`` answers and can hold one trial, now or once it has grown."""
    if hidden := _hidden_packages():
        return hidden
    try:
        with connected(address, verbose):
            if not growing:
                check_slots(ask)
    except InputError as error:
        return list(error.problems)
    return []


def local_problems(ask: TrialResources, found: Container[str | None] = ()) -> list[Problem]:
    """What this machine lacks to hold one trial, found before a cluster is started on it.

    Args:
        found: options that are wrong by themselves, whatever the machine has.
    """
    problems = _hidden_packages() + socket_problems()
    cpus, gpus = os.cpu_count() or 1, torch.cuda.device_count()
    if ask.cpus > cpus and "cpus_per_trial" not in found:
        problems.append(Problem("cpus_per_trial", f"this machine has {cpus} CPUs, got {ask.cpus:g}"))
    if ask.gpus > gpus and "gpus_per_trial" not in found:
        problems.append(Problem("gpus_per_trial", f"this machine has {gpus} GPUs, got {ask.gpus:g}"))
    return problems


def node_resources() -> list[dict[str, float]]:
    """What each node that is there now has, as Ray counts it."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _slots(node: dict[str, float], ask: TrialResources) -> int:
    slots = _units(node.get("CPU", 0.0)) // _units(ask.cpus)
    if ask.gpus:
        slots = min(slots, _units(node.get("GPU", 0.0)) // _units(ask.gpus))
    return slots


def _units(quantity: float) -> int:
    """As Ray counts: floats would have 0.2 fit into 1 four times."""
    return round(quantity * RESOURCE_UNITS)
