"""A run's whole life on an S3 server, killed in between.

The server is `moto_server` (``pipx install 'moto[server]==5.2.5'``): its packages and ours do not fit together.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from analysis.run import open_run, read_events
from clinical_notes.storage import Folder

KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    program = shutil.which("moto_server") or shutil.which("moto_server", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("no moto_server, the S3 server of these tests, on the PATH (pipx install 'moto[server]==5.2.5')")
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    port = _free_port()
    with Path("moto.log").open("w") as log:
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        server = subprocess.Popen(
            [program, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=subprocess.STDOUT, env=clean
        )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and server.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        s3 = pafs.S3FileSystem(endpoint_override=f"127.0.0.1:{port}", scheme="http", allow_bucket_creation=True)
        s3.create_dir("bucket")
        yield f"s3://bucket/runs?endpoint_override=127.0.0.1:{port}&scheme=http"
    finally:
        server.kill()
        server.wait()


def symptune(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tune_jobs", *arguments]


def wait_for_events(run: Folder, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(run.names("ledger")) < count:
        assert time.monotonic() < deadline, f"never had {count} events"
        time.sleep(0.1)


def done(line: list[str], code: int = 0) -> str:
    ended = subprocess.run(line, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_a_run_lives_in_a_bucket_through_a_kill(bucket: str, notes: Path, model_folder: Path, tmp_path: Path) -> None:
    run, storage = Folder(bucket).child("far"), ["--storage", bucket]
    launch = symptune(
        "launch", "--name", "far", "--notes", str(notes), "--model", str(model_folder), "--max-length", "40",
        "--trials", "1", "--epochs", "2", "--strategies", "baseline,quantization", "--reduction-factor", "0",
        "--max-concurrent", "1", *storage,
    )  # fmt: skip
    killed = subprocess.Popen(launch, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    wait_for_events(run, 2)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    first = read_events(run)

    resume = symptune("resume", "far", "--max-concurrent", "1", *storage)
    assert "Best configurations" in done(resume)
    events = read_events(run)
    assert events[: len(first)] == first
    seen = Counter((e["event"], e.get("trial"), e.get("result", {}).get("epoch")) for e in events)
    assert max(seen.values()) == 1, seen.most_common(3)
    trials = open_run(run).trials
    assert {name: (len(trial.epochs), trial.state) for name, trial in trials.items()} == {
        f"{strategy}-0000": (2, "finished") for strategy in ("baseline", "quantization")
    }
    assert {"leaderboard.csv", "leaderboard.json", "leaderboard.md"} <= set(run.names("results"))
    assert "studies.journal" in run.names()

    for command in ("status", "evaluate", "leaderboard"):
        assert "quantization" in done(symptune(command, "far", *storage))
    done(symptune("export", "far", "--strategy", "quantization", "--to", "small", *storage))
    Path("texts.csv").write_text("TEXT\npatient denies fever but has cough\n")
    done(symptune("predict", "small", "texts.csv", "--out", "labels.csv"))
    assert len(Path("labels.csv").read_text().splitlines()) == 2
    assert not list(tmp_path.rglob("run.json"))  # nothing of the run is here
