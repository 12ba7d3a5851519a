"""A run that is killed at random instants, and resumed until it ends, is the run that nothing disturbed.

Driver, worker and node are killed in turn. ``pytest tests/chaos --kills 100`` takes the long way.
"""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray.cluster_utils import Cluster

from analysis.run import Run, TrialRecord, open_run, read_events
from clinical_notes.storage import Folder
from trainables import trainable_class
from trainables.base import TrainSettings
from tune_jobs.prepare import load_prepared

VICTIMS = ("driver", "worker", "node")
_SECONDS_TO_GET_SOMEWHERE = 120


@dataclass
class TwoNodes:
    """A Ray cluster of a head without CPUs and nodes that hold the trials."""

    cpus: int
    cluster: Cluster = field(init=False)
    node: Any = field(init=False)

    def __post_init__(self) -> None:
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.node = self.cluster.add_node(num_cpus=self.cpus)

    def workers(self) -> list[psutil.Process]:
        """The processes that run trials on the node."""
        raylet = psutil.Process(self.node.all_processes["raylet"][0].process.pid)
        return [process for process in raylet.children(recursive=True) if _runs_a_trial(process)]

    def replace_node(self) -> None:
        self.cluster.remove_node(self.node, allow_graceful=False)
        self.node = self.cluster.add_node(num_cpus=self.cpus)


def _runs_a_trial(process: psutil.Process) -> bool:
    try:
        return "".join(process.cmdline()).startswith("ray::RunTrainable")
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def nodes(request: pytest.FixtureRequest) -> Iterator[TwoNodes]:
    nodes = TwoNodes(request.param)
    yield nodes
    nodes.cluster.shutdown()


def launch_line(
    name: str, notes: Path, model_folder: Path, address: str, trials: int, *, at_once: int = 1
) -> list[str]:
    return [
        sys.executable, "-m", "tune_jobs", "launch", "--name", name, "--notes", str(notes), "--model",
        str(model_folder), "--max-length", "40", "--trials", str(trials), "--epochs", "3", "--strategies",
        "baseline,low_rank,quantization", "--address", address, "--max-concurrent", str(at_once),
    ]  # fmt: skip


def start(line: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def events(name: str) -> int:
    return len(list(Path(f"runs/{name}/ledger").glob("[!.]*.json")))


def until_killed_or_done(name: str, line: list[str], nodes: TwoNodes, victims: list[str], chance: random.Random) -> int:
    """Kill one after the other, wherever the run is; then let it end. Returns the kills that were tried."""
    kills = 0
    driver = start(line)
    while victims and driver.poll() is None:
        wanted = events(name) + chance.randrange(3)
        deadline = time.monotonic() + _SECONDS_TO_GET_SOMEWHERE
        while events(name) < wanted and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(chance.random() * 0.5)
        if driver.poll() is not None:
            break
        victim = victims.pop()
        kills += 1
        if victim == "driver":
            driver.send_signal(signal.SIGKILL)
            driver.wait()
            driver = start(line)
        elif victim == "worker":
            for process in nodes.workers()[:1]:
                process.kill()
        else:
            nodes.replace_node()
    assert driver.wait(timeout=300) == 0
    return kills


def figures(run: Run) -> dict[str, Any]:
    """All that a run found, but for the times."""
    return {
        trial.name: (
            trial.state,
            dict(trial.hyperparameters),
            trial.seed,
            [{key: value for key, value in epoch.items() if key != "seconds"} for epoch in trial.epochs],
            trial.final.get("validation"),
        )
        for trial in run.trials.values()
    }


def assert_nothing_happened_twice(run: Run) -> None:
    seen = Counter(
        (event["event"], event.get("trial"), event.get("result", {}).get("epoch")) for event in read_events(run.folder)
    )
    assert max(seen.values()) == 1, seen.most_common(3)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("nodes", [1], indirect=True)
def test_one_trial_at_a_time_ends_to_the_last_digit_as_if_undisturbed(
    nodes: TwoNodes,
    notes: Path,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
) -> None:
    monkeypatch.chdir(tmp_path)
    chance = random.Random(pytestconfig.getoption("chaos_seed"))
    left, number = pytestconfig.getoption("kills"), 0
    trials = 1 if left < 10 else 3

    def line(name: str) -> list[str]:
        return launch_line(name, notes, model_folder, nodes.cluster.address, trials)

    assert start(line("straight")).wait(timeout=300) == 0
    expected = figures(open_run(Folder("runs/straight")))
    assert {state for state, *_ in expected.values()} <= {"finished", "stopped"}

    while left > 0:
        number += 1
        victims = [VICTIMS[(left + i) % len(VICTIMS)] for i in range(left)]
        tried = until_killed_or_done(f"cut{number}", line(f"cut{number}"), nodes, victims, chance)
        run = open_run(Folder(f"runs/cut{number}"))
        assert figures(run) == expected
        assert_nothing_happened_twice(run)
        print(f"run {number}: {tried} kills survived")
        left -= max(tried, 1)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("nodes", [2], indirect=True)
def test_several_trials_at_a_time_are_each_what_they_are_alone(
    nodes: TwoNodes,
    notes: Path,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
) -> None:
    kills = pytestconfig.getoption("kills")
    if kills < 10:
        pytest.skip("takes long: give --kills 10 or more")
    monkeypatch.chdir(tmp_path)
    chance = random.Random(pytestconfig.getoption("chaos_seed"))
    line = launch_line("cut", notes, model_folder, nodes.cluster.address, 4, at_once=2)
    victims = [VICTIMS[i % len(VICTIMS)] for i in range(kills)]
    tried = until_killed_or_done("cut", line, nodes, victims, chance)
    run = open_run(Folder("runs/cut"))
    assert_nothing_happened_twice(run)
    assert Counter(trial.strategy for trial in run.trials.values()) == dict.fromkeys(run.strategies, 4)
    assert {trial.state for trial in run.trials.values()} <= {"finished", "stopped"}
    for trial in run.trials.values():
        alone = results_alone(run, trial, tmp_path / trial.name)
        assert [epoch["f1"] for epoch in trial.epochs] == alone[: len(trial.epochs)], trial.name
    print(f"{tried} kills survived")


def results_alone(run: Run, trial: TrialRecord, workdir: Path) -> list[float]:
    """Validation macro F1 of each epoch of a trial that is trained here, by itself."""
    prepared = load_prepared(run.folder)
    cls = trainable_class(trial.strategy)
    inner = cls.__new__(cls)
    teacher = None if trial.teacher is None else run.folder.child(trial.teacher).uri
    config = {"hyperparameters": dict(trial.hyperparameters), "seed": trial.seed, "teacher": teacher}
    inner.setup(config, prepared.data, prepared.encoder, TrainSettings(epochs=run.settings["epochs"]), workdir)
    return [inner.step()["f1"] for _ in range(inner.epochs)]
