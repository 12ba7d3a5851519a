"""TensorBoard logs of a ledger, and the tools that show a run."""

import importlib.util
import json
import signal
import socket
import struct
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from benchmarks.simulated_cluster import deployed_result, epoch_result
from run_folder.events import EpochEnded, Finished, Stopped, Suggested
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from tests.made_runs import write_run_file
from tests.waiting import GUARD_SECONDS, until
from tune_jobs.cli import main
from tune_jobs.commands.tensorboard_logs import TensorBoardLogs
from tune_jobs.searching.study import StrategyStudy
from tune_jobs.searching.study_storage import JOURNAL, StudyStorage, journal

HAS_TOOLS = all(importlib.util.find_spec(name) for name in ("optuna_dashboard", "tensorboard"))
needs_tools = pytest.mark.skipif(not HAS_TOOLS, reason="optuna-dashboard and tensorboard are not installed")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """The ledger of a run with one stopped trial; its study is written too."""
    folder = Folder(tmp_path / "runs" / "small")
    write_run_file(folder, strategies=("baseline",))
    study = StrategyStudy("baseline", StudyStorage(journal(Path(folder.uri) / JOURNAL)), 0, {})
    number, hyperparameters, distributions = study.ask()
    ledger = Ledger(folder)
    ledger.append(suggested(number, hyperparameters, distributions))
    for epoch, f1 in enumerate((0.5, 0.6), start=1):
        append_epoch(ledger, "baseline-0000", epoch, f1)
        study.report(number, epoch, f1)
    ledger.append(Stopped("baseline-0000"))
    study.stopped(number)
    return ledger


def suggested(number: int, hyperparameters: Mapping[str, Any], distributions: Mapping[str, str]) -> Suggested:
    return Suggested(
        trial=f"baseline-{number:04d}", strategy="baseline", number=number, seed=number, teacher=None,
        hyperparameters=hyperparameters, distributions=distributions,
    )  # fmt: skip


def append_epoch(ledger: Ledger, trial: str, epoch: int, f1: float) -> None:
    result = replace(epoch_result(epoch, f1), train_loss=0.3, auroc=None)
    ledger.append(EpochEnded(trial, result))


def scalars(folder: Path) -> list[tuple[str, int, float]]:
    """Name, step and value of each scalar in a folder of event files (records of length, checksum, data, checksum)."""
    found = []
    for file in sorted(folder.iterdir()):
        data, start = file.read_bytes(), 0
        while start < len(data):
            (length,) = struct.unpack_from("<Q", data, start)
            event = Event.FromString(data[start + 12 : start + 12 + length])
            found += [
                (v.tag, event.step, round(v.simple_value, 4)) for v in event.summary.value if not v.metadata.ByteSize()
            ]
            start += 16 + length
    return found


def test_a_trials_epochs_are_logged_once_however_often_the_logs_are_brought_up(ledger: Ledger, tmp_path: Path) -> None:
    ledger.append(suggested(1, {"batch_size": 8}, {}))
    logs = TensorBoardLogs(ledger.folder, tmp_path / "logs")
    logs.update()
    append_epoch(ledger, "baseline-0001", 1, 0.7)
    logs.update()
    logs.update()
    ledger.append(Finished("baseline-0001", deployed_result(0.8)))
    logs.update()
    logs.close()
    assert scalars(tmp_path / "logs" / "baseline-0001") == [
        ("validation/f1", 1, 0.7),
        ("validation/accuracy", 1, 0.5),
        ("validation/precision", 1, 0.5),
        ("validation/recall", 1, 0.5),
        ("training/train_loss", 1, 0.3),
        ("deployed/f1", 1, 0.8),
        ("deployed/bytes", 1, 1000),
    ]
    assert [step for name, step, _ in scalars(tmp_path / "logs" / "baseline-0000") if name == "validation/f1"] == [1, 2]


def dashboard(ledger: Ledger, *more: str) -> list[str]:
    return ["dashboard", "small", "--storage", str(Path(ledger.folder.uri).parent), *more]


@pytest.mark.skipif(HAS_TOOLS, reason="optuna-dashboard and tensorboard are installed")
def test_what_is_not_installed_is_named_with_the_line_that_installs_it(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(dashboard(ledger)) == 2
    assert capsys.readouterr().err == (
        "symptune: error: dashboard: needs optuna-dashboard and tensorboard: "
        "pip install -c constraints.txt -e '.[dashboard]'\n"
    )


@pytest.fixture
def ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


@needs_tools
def test_a_port_in_use_is_told_in_one_line(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(dashboard(ledger, "--port", str(port))) == 2
    assert capsys.readouterr().err == (f"symptune: error: --port: port {port} is in use or not allowed; give another\n")


@needs_tools
def test_both_tools_serve_the_run_until_ctrl_c(
    ledger: Ledger, ports: tuple[int, int], start_python: Callable[..., "subprocess.Popen[str]"]
) -> None:
    line = dashboard(ledger, "--port", str(ports[0]), "--tensorboard-port", str(ports[1]))
    process = start_python("-m", "tune_jobs", *line)
    try:
        assert fetch(ports[0], "api/studies", process)["study_summaries"][0]["study_name"] == "baseline"
        (trial,) = fetch(ports[0], "api/studies/0", process)["trials"]
        assert trial["state"] == "Pruned"
        assert [step["value"] for step in trial["intermediate_values"]] == [0.5, 0.6]
        until(lambda: fetch(ports[1], "data/runs", process) == ["baseline-0000"])
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(GUARD_SECONDS) == 0
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/", timeout=GUARD_SECONDS)


def fetch(port: int, path: str, process: "subprocess.Popen[str]") -> Any:
    """JSON of a server that may still be starting."""
    answers: list[Any] = []

    def answered() -> bool:
        assert process.poll() is None, "the dashboard ended by itself"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=GUARD_SECONDS) as answer:
                answers.append(json.load(answer))
        except (urllib.error.URLError, ConnectionError):
            return False
        return True

    until(answered)
    return answers[0]
