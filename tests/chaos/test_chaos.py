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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray.cluster_utils import Cluster

from run_folder.events import read_events
from run_folder.folder import Folder
from run_folder.run import Run, open_run
from run_folder.trials import TrialRecord
from tests.ledgers import most_often
from tests.tiny_runs import quiet
from tests.trainables.conftest import start as start_trial
from tests.waiting import GUARD_SECONDS, until
from trainables.base import TrialConfig
from tune_jobs.commands.launch import _settings
from tune_jobs.commands.options import parser
from tune_jobs.preparing.create_run import create_run, load_prepared
from tune_jobs.searching.run_search import Execution, search

VICTIMS = ("driver", "worker", "node")


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
        return trial_processes(self.node)

    def replace_node(self) -> None:
        self.cluster.remove_node(self.node, allow_graceful=False)
        self.node = self.cluster.add_node(num_cpus=self.cpus)


def trial_processes(node: Any) -> list[psutil.Process]:
    """The processes that run trials on the node."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return [process for process in raylet.children(recursive=True) if _runs_a_trial(process)]


def _runs_a_trial(process: psutil.Process) -> bool:
    try:
        return "".join(process.cmdline()).startswith("ray::RunTrainable")
    except psutil.NoSuchProcess:
        return False


@dataclass(frozen=True)
class Arena:
    """Where runs are launched and killed: a cluster, and what the command line asks for."""

    nodes: TwoNodes
    notes: Path
    model_folder: Path
    kills: int
    chance: random.Random

    def line(self, name: str, trials: int, *, at_once: int = 1) -> list[str]:
        return [
            sys.executable, "-m", "tune_jobs", "launch", "--name", name, "--notes", str(self.notes), "--model",
            str(self.model_folder), "--max-length", "40",
            "--cycles", "1", "--trials", str(trials), "--epochs", "3", "--strategies",
            "baseline,low_rank,quantization", "--address", self.nodes.cluster.address,
            "--max-concurrent", str(at_once), "--seeds", "1",
        ]  # fmt: skip


@pytest.fixture
def arena(
    request: pytest.FixtureRequest,
    notes: Path,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
) -> Iterator[Arena]:
    """The parameter is the node's number of CPUs, so of trials at a time."""
    if request.param > 1 and pytestconfig.getoption("kills") < 10:
        pytest.skip("takes long: give --kills 10 or more")
    monkeypatch.chdir(tmp_path)
    nodes = TwoNodes(request.param)
    chance = random.Random(pytestconfig.getoption("chaos_seed"))
    yield Arena(nodes, notes, model_folder, pytestconfig.getoption("kills"), chance)
    nodes.cluster.shutdown()


def start(line: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def events(name: str) -> int:
    return len(list(Path(f"runs/{name}/ledger").glob("[!.]*.json")))


def until_killed_or_done(arena: Arena, name: str, line: list[str], victims: list[str]) -> int:
    """Kill one after the other, wherever the run is; then let it end. Returns the kills that were tried."""
    kills = 0
    driver = start(line)
    while victims and driver.poll() is None:
        wanted = events(name) + arena.chance.randrange(3)
        until(lambda wanted=wanted, driver=driver: events(name) >= wanted or driver.poll() is not None)
        time.sleep(arena.chance.random() * 0.5)  # whatever the run is at then
        if driver.poll() is not None:
            break
        victim = victims.pop()
        kills += 1
        if victim == "driver":
            driver.send_signal(signal.SIGKILL)
            driver.wait()
            driver = start(line)
        elif victim == "worker":
            for process in arena.nodes.workers()[:1]:
                process.kill()
        else:
            arena.nodes.replace_node()
    assert driver.wait(GUARD_SECONDS) == 0
    return kills


def undisturbed(arena: Arena, name: str, trials: int) -> Run:
    """What the line finds when nothing is killed, searched by this process."""
    _, _, _, *line = arena.line(name, trials)
    settings, folder = _settings(parser().parse_args(line)), Folder(f"runs/{name}")
    prepared = create_run(folder, settings, workers=1)
    search(folder, settings, prepared, Execution(address=arena.nodes.cluster.address, max_concurrent=1), quiet())
    return open_run(folder)


def figures(run: Run) -> dict[str, Any]:
    """All that a run found, but for the times."""
    return {
        trial.name: (
            trial.state,
            dict(trial.hyperparameters),
            trial.seed,
            [replace(epoch, seconds=0) for epoch in trial.epochs],
            trial.final and (trial.final.validation, trial.final.thresholds, trial.final.temperatures),
        )
        for trial in run.trials.values()
    }


def assert_nothing_happened_twice(run: Run) -> None:
    assert most_often(read_events(run.folder)) == 1


@pytest.mark.timeout(0)
@pytest.mark.parametrize("arena", [1], indirect=True)
def test_one_trial_at_a_time_ends_to_the_last_digit_as_if_undisturbed(arena: Arena) -> None:
    left, number = arena.kills, 0
    trials = 1 if left < 10 else 3
    expected = figures(undisturbed(arena, "straight", trials))
    assert {state for state, *_ in expected.values()} <= {"finished", "stopped"}

    while left > 0:
        number += 1
        name = f"cut{number}"
        victims = [VICTIMS[(left + i) % len(VICTIMS)] for i in range(left)]
        tried = until_killed_or_done(arena, name, arena.line(name, trials), victims)
        run = open_run(Folder(f"runs/{name}"))
        assert figures(run) == expected
        assert_nothing_happened_twice(run)
        print(f"run {number}: {tried} kills survived")
        left -= max(tried, 1)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("arena", [2], indirect=True)
def test_several_trials_at_a_time_are_each_what_they_are_alone(arena: Arena) -> None:
    victims = [VICTIMS[i % len(VICTIMS)] for i in range(arena.kills)]
    tried = until_killed_or_done(arena, "cut", arena.line("cut", 4, at_once=2), victims)
    run = open_run(Folder("runs/cut"))
    assert_nothing_happened_twice(run)
    searched = [trial for trial in run.trials.values() if trial.trains_on is None]
    assert Counter(trial.strategy for trial in searched) == dict.fromkeys(run.strategies, 4)
    assert len(run.trials) - len(searched) in (1, 2)  # a cycle, and another where it gained
    assert {trial.state for trial in run.trials.values()} <= {"finished", "stopped"}
    for trial in run.trials.values():
        alone = results_alone(run, trial)
        assert [epoch.f1 for epoch in trial.epochs] == alone[: len(trial.epochs)], trial.name
    print(f"{tried} kills survived")


def results_alone(run: Run, trial: TrialRecord) -> list[float]:
    """Validation macro F1 of each epoch of a trial that is trained here, by itself."""
    prepared = load_prepared(run.folder)
    teacher = None if trial.teacher is None else run.folder.child(trial.teacher)
    config = TrialConfig(dict(trial.hyperparameters), trial.seed, teacher)
    alone = start_trial(
        trial.strategy,
        config,
        prepared.data,
        prepared.encoder,
        epochs=run.settings.search.epochs,
        reduce_range=run.settings.model.reduce_range,  # where a CPU has no VNNI, QAT trains on a grid of 7 bits
    )
    return [alone.epoch().f1 for _ in range(alone.epochs)]
