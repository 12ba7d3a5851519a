"""The traps of plain Ray Tune with OptunaSearch, which ``pytest --plain-ray`` walks into to see that they are there.

Ours are tested without it:

| trap | our test |
|---|---|
| 1 a stopped trial is told as COMPLETE | test_ray: the studies say what the ledger says |
| 2 a NaN trial stays RUNNING and burns its budget | test_ray: a trial that breaks fails alone |
| 3 rungs are lost | test_search: rungs are rebuilt from the ledger |
| 4 a database that is ahead kills the resume | test_simulated: a database that is ahead of the ledger is set right |
| 5 failures cannot run again | test_resume: a moved run is extended its failures run again and its best trained on |
| 6 an unreadable state starts afresh | test_resume: a damaged or missing event is told and nothing starts afresh |
| 7 one race over all methods stops slow starters | test_ray: a slow weak strategy is not starved by a fast one |
| 11 what came after the last snapshot is lost | test_simulated: searches cut anywhere end as the undisturbed ones |
| 18 a second start is a new one | test_cli: an interrupted run continues where it was and ends; tests/chaos |
"""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import ray
from optuna.trial import TrialState
from ray import tune
from ray.tune.error import TuneError

from tests.tune_jobs.plain_search import EPOCHS, NAME, train, tuner
from tests.waiting import until

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def only_when_asked(pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("plain_ray"):
        pytest.skip("shows what plain Ray Tune does: give --plain-ray")


@pytest.fixture
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def epochs(home: Path) -> Counter[str]:
    """How many times each epoch of each trial was trained."""
    return Counter((home / "log").read_text().splitlines())


def reached(home: Path, kind: str) -> list[int]:
    """The last epoch of each trial of a kind."""
    last: dict[str, int] = {}
    for line in epochs(home):
        of, x, epoch = line.split()
        if of == kind:
            last[x] = max(last.get(x, 0), int(epoch))
    return list(last.values())


def states(home: Path) -> list[TrialState]:
    return [trial.state for trial in optuna.load_study(study_name=NAME, storage=f"sqlite:///{home}/studies.db").trials]


def test_traps_1_2_and_7(cluster: None, tmp_path: Path) -> None:
    tuner(tmp_path, trials=12, nan_below=0.1).fit()
    quick, slow = reached(tmp_path, "quick"), reached(tmp_path, "slow")
    assert min(quick + slow) < EPOCHS  # some were stopped,
    assert TrialState.PRUNED not in states(tmp_path)  # and none is told so
    assert TrialState.RUNNING in states(tmp_path)  # the one that gave NaN, for ever
    broken = Counter(line.split()[1] for line in epochs(tmp_path) if float(line.split()[1]) < 0.1)
    assert set(broken.values()) == {EPOCHS}  # to the end of its budget
    assert slow.count(EPOCHS) < quick.count(EPOCHS)


def killed(home: Path, after: int) -> None:
    """Run a search and kill its driver once ``after`` epochs have begun."""
    code = f"from pathlib import Path; from tests.tune_jobs.plain_search import main; main(Path({str(home)!r}))"
    driver = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)

    def has_begun() -> bool:
        assert driver.poll() is None, "the search ended by itself"
        return (home / "log").exists() and sum(epochs(home).values()) >= after

    until(has_begun)
    driver.send_signal(signal.SIGKILL)
    driver.wait()


def test_traps_3_4_and_11(cluster: None, tmp_path: Path) -> None:
    killed(tmp_path, after=9)
    before = epochs(tmp_path)
    ended = states(tmp_path)
    assert TrialState.COMPLETE in ended
    restored = tune.Tuner.restore(str(tmp_path / NAME), train, resume_unfinished=True)
    try:
        restored.fit()
        died = False
    except Exception:  # UpdateFinishedTrialError, wrapped
        died = True
    after = epochs(tmp_path)
    repeated = [line for line in before if after[line] > before[line]]
    assert died or repeated or len(states(tmp_path)) != 6


def test_trap_5(cluster: None, tmp_path: Path) -> None:
    tuner(tmp_path, trials=4, fails_below=0.6).fit()
    assert TrialState.FAIL in states(tmp_path)
    (tmp_path / "repaired").touch()
    with pytest.raises(TuneError, match="KeyError"):
        tune.Tuner.restore(str(tmp_path / NAME), train, restart_errored=True).fit()


def test_trap_6(cluster: None, tmp_path: Path) -> None:
    tuner(tmp_path, trials=2).fit()
    before = epochs(tmp_path)
    for state in (tmp_path / NAME).glob("experiment_state-*.json"):
        state.write_text("{")
    tune.Tuner.restore(str(tmp_path / NAME), train).fit()
    assert sum(epochs(tmp_path).values()) > sum(before.values())  # it ran again, and said nothing


def test_trap_18(tmp_path: Path) -> None:
    killed(tmp_path, after=6)
    before = epochs(tmp_path)
    killed(tmp_path, after=sum(before.values()) + 2)
    assert states(tmp_path).count(TrialState.RUNNING) > 1
