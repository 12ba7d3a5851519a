"""A run's whole life on an S3 server, which is cut off and killed in between.

The server is `moto_server` (``pipx install 'moto[server]==5.2.5'``): its packages and ours do not fit together.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
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


@dataclass
class Relay:
    """Passes connections on to a port, until it is cut; a cut relay refuses them, as a server that is gone does."""

    to: int
    port: int = 0
    _sockets: list[socket.socket] = field(default_factory=list)

    def start(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listening.getsockname()[1]
        self._sockets = [self._listening]
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def cut(self) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                here, _ = listening.accept()
                there = socket.create_connection(("127.0.0.1", self.to))
                self._sockets += [here, there]
                for source, target in ((here, there), (there, here)):
                    threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@dataclass(frozen=True)
class Bucket:
    """Runs in a bucket: through a relay that can be cut, and past it."""

    relay: Relay

    @property
    def uri(self) -> str:
        return f"s3://bucket/runs?endpoint_override=127.0.0.1:{self.relay.port}&scheme=http"

    def run(self, name: str) -> Folder:
        return Folder(self.uri.replace(str(self.relay.port), str(self.relay.to))).child(name)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
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
    relay = Relay(port)
    relay.start()
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and server.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        s3 = pafs.S3FileSystem(endpoint_override=f"127.0.0.1:{port}", scheme="http", allow_bucket_creation=True)
        s3.create_dir("bucket")
        yield Bucket(relay)
    finally:
        relay.cut()
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


def test_a_run_lives_in_a_bucket_through_a_kill_and_a_server_that_goes_away(
    bucket: Bucket, notes: Path, model_folder: Path, tmp_path: Path
) -> None:
    run, storage = bucket.run("far"), ["--storage", bucket.uri]
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
    cut = subprocess.Popen(resume, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for_events(run, len(first) + 2)
    bucket.relay.cut()
    output, _ = cut.communicate(timeout=200)
    assert cut.returncode == 1, output
    assert "Stopped: the storage failed" in output
    assert "Mend that, then: symptune resume far --storage" in output
    assert "Traceback" not in output
    left = read_events(run)
    assert left[: len(first)] == first

    bucket.relay.start()
    assert "Best configurations" in done(resume)
    events = read_events(run)
    assert events[: len(left)] == left
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
