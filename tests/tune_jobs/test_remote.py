"""A run's whole life on an S3 server, killed in between."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from run_folder.events import read_events
from run_folder.folder import Folder
from run_folder.run import open_run
from tests import held
from tests.ledgers import most_often
from tests.waiting import until
from tune_jobs.cli import main

KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_python: Start) -> str:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    port = _free_port()
    with Path("moto.log").open("w") as log:
        server = start_python("-m", "moto.server", "-H", "127.0.0.1", "-p", port, stdout=log, stderr=subprocess.STDOUT)

    def answers() -> bool:
        assert server.poll() is None, Path("moto.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until(answers)
    s3 = pafs.S3FileSystem(endpoint_override=f"127.0.0.1:{port}", scheme="http", allow_bucket_creation=True)
    s3.create_dir("bucket")
    return f"s3://bucket/runs?endpoint_override=127.0.0.1:{port}&scheme=http"


def test_a_run_lives_in_a_bucket_through_a_kill(
    bucket: str,
    notes: Path,
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    start_python: Start,
    local_ray: None,
) -> None:
    run, storage = Folder(bucket).child("far"), ["--storage", bucket]
    launch = [
        "launch", "--name", "far", "--notes", str(notes), "--model",
        str(model_folder), "--max-length", "40", "--cycles", "0", "--trials", "1", "--epochs", "2", "--strategies",
        "baseline,quantization", "--reduction-factor", "0", "--max-concurrent", "1", "--seeds", "1", *storage,
    ]  # fmt: skip
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    killed = start_python("-m", "tests.held", 2, *launch, start_new_session=True, **quiet)
    until(held.WAITING.exists, process=killed)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    first = read_events(run)

    assert main(["resume", "far", "--max-concurrent", "1", "--seeds", "1", *storage]) == 0
    assert "Best configurations" in capsys.readouterr().out
    events = read_events(run)
    assert events[: len(first)] == first
    assert most_often(events) == 1
    trials = open_run(run).trials
    assert {name: trial.state for name, trial in trials.items()} == {
        f"{strategy}-0000": "finished" for strategy in ("baseline", "quantization")
    }
    assert len(trials["baseline-0000"].epochs) == 2
    assert {"leaderboard.csv", "leaderboard.json", "leaderboard.md"} <= set(run.names("results"))
    assert "studies.journal" in run.names()

    for command in (["status"], ["evaluate", "--seeds", "1"], ["leaderboard"]):
        assert main([*command, "far", *storage]) == 0
        assert "quantization" in capsys.readouterr().out
    assert main(["export", "far", "--strategy", "quantization", "--to", "small", *storage]) == 0
    Path("texts.csv").write_text("TEXT\npatient denies fever but has cough\n")
    assert main(["predict", "small", "texts.csv", "--out", "labels.csv"]) == 0
    assert len(Path("labels.csv").read_text().splitlines()) == 2
    assert not list(tmp_path.rglob("run.json"))  # nothing of the run is here
