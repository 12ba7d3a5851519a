"""Launched from outside a cluster, from inside and as a job, while nodes join: two real raylets, and a head."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray.cluster_utils import Cluster

from run_folder.folder import Folder
from run_folder.run import open_run
from tests.chaos.test_chaos import assert_nothing_happened_twice, trial_processes
from tests.conftest import PYTHON_PATH
from tests.waiting import GUARD_SECONDS, until

REPOSITORY = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Place:
    """A cluster of a head without CPUs, and a line that searches on it for as long as it is let."""

    cluster: Cluster
    client: str
    dashboard: str
    folder: Path
    nodes: str
    line: list[str]

    def add_node(self) -> Any:
        """A node with its own folder, as on another machine: each node replaces a job's files in its folder."""
        return self.cluster.add_node(num_cpus=1, temp_dir=tempfile.mkdtemp(dir=self.nodes))

    def start(self, command: list[str], address: str, *more: str) -> subprocess.Popen[str]:
        environment = os.environ | {"RAY_ADDRESS": self.cluster.address, "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "2"}
        with (self.folder / "printed").open("w") as printed:
            return subprocess.Popen(
                [sys.executable, "-m", "tune_jobs", *command, "--address", address, *more],
                stdout=printed, stderr=subprocess.STDOUT, env=environment, text=True,
            )  # fmt: skip

    @property
    def printed(self) -> str:
        return (self.folder / "printed").read_text()

    def until(self, happened: Callable[[], object], process: "subprocess.Popen[str] | None" = None) -> None:
        until(happened, lambda: self.printed, process)


@pytest.fixture
def place(
    tmp_path: Path, notes: Path, model_folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """The parameter says whether there is a dashboard, which takes jobs."""
    monkeypatch.setenv("GRPC_ENABLE_FORK_SUPPORT", "0")  # ray-project/ray#63202
    monkeypatch.setenv("PYTHONPATH", PYTHON_PATH)
    client, dashboard = free_port(), free_port()
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "include_dashboard": getattr(request, "param", False),
            "dashboard_port": dashboard,
            "ray_client_server_port": client,
        },
    )
    line = [
        "launch", "--name", "run", "--storage", str(tmp_path), "--notes", str(notes), "--model", str(model_folder),
        "--max-length", "40", "--strategies", "baseline,low_rank", "--reduction-factor", "0", "--seeds", "1",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as nodes:  # short enough for the names of sockets
        yield Place(cluster, f"ray://127.0.0.1:{client}", f"http://127.0.0.1:{dashboard}", tmp_path, nodes, line)
        cluster.shutdown()


@pytest.fixture
def long_way(pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("clusters"):
        pytest.skip("takes long: give --clusters")


LONG = ["--cycles", "0", "--trials", "50", "--epochs", "10000"]
"""Options of trials so long that none ends while a test runs."""
SHORT = ["--cycles", "0", "--trials", "2", "--epochs", "2"]


def test_a_node_that_joins_a_running_search_gets_a_trial(place: Place) -> None:
    first = place.add_node()
    inside = place.start([*place.line, *LONG], "auto")
    place.until(lambda: trial_processes(first), inside)
    second = place.add_node()
    place.until(lambda: trial_processes(second), inside)
    inside.send_signal(signal.SIGINT)
    assert inside.wait(GUARD_SECONDS) == 130
    run = open_run(Folder(place.folder / "run"))
    assert len(run.trials) == 2  # at most as many as fit on the nodes
    assert_nothing_happened_twice(run)


def test_a_search_from_outside_waits_for_a_node_stops_and_ends_with_its_client(long_way: None, place: Place) -> None:
    outside = place.start([*place.line, *LONG], place.client, "--max-concurrent", "1")
    place.until(lambda: "waiting for one to join" in place.printed, outside)
    node = place.add_node()
    place.until(lambda: "epoch 2/10000" in place.printed, outside)
    outside.send_signal(signal.SIGINT)
    assert outside.wait(GUARD_SECONDS) == 130
    assert "Stopped. Continue with: symptune resume run" in place.printed

    client = place.start(["resume", "run", "--seeds", "1", "--storage", str(place.folder)], place.client)
    place.until(lambda: "baseline-0000      epoch" in place.printed, client)
    client.kill()
    client.wait()
    place.until(lambda: not commands() and not trial_processes(node))
    run = open_run(Folder(place.folder / "run"))
    assert len(run.trials) == 1
    assert_nothing_happened_twice(run)

    whole = place.start([*place.line, *SHORT, "--name", "short"], place.client)
    assert whole.wait(GUARD_SECONDS) == 0, place.printed
    assert "Best configurations" in place.printed
    wrong = place.start([*place.line, "--symptoms", "edma"], place.client)
    assert wrong.wait(GUARD_SECONDS) == 2
    assert "did you mean 'edema'" in place.printed


def commands() -> list[psutil.Process]:
    lines = {process: process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])}
    return [process for process, line in lines.items() if "tune_jobs.commands.on_cluster" in line]


@pytest.mark.parametrize("place", [True], indirect=True)
def test_a_job_runs_the_search_and_the_same_job_again_adds_nothing(long_way: None, place: Place) -> None:
    pytest.importorskip("aiohttp_cors", reason='the job server needs pip install "ray[default]"')
    place.add_node()
    place.add_node()
    submit = [
        sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", place.dashboard, "--working-dir",
        ".", "--", sys.executable, "-m", "tune_jobs", *place.line, *SHORT,
    ]  # fmt: skip
    for _ in range(2):
        job = subprocess.run(submit, cwd=REPOSITORY, capture_output=True, text=True)
        assert job.returncode == 0, job.stdout + job.stderr
        assert "succeeded" in job.stdout
        run = open_run(Folder(place.folder / "run"))
        assert {trial.state for trial in run.trials.values()} == {"finished"}
        assert len(run.trials) == 4
        assert_nothing_happened_twice(run)
