"""Studies in a real PostgreSQL server, which is stopped and started in the middle of a search."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
import psycopg
import pytest
from optuna.storages import RDBStorage

from run_folder.events import Event
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from run_folder.trials import TrialRecord
from tests import held
from tests.waiting import until
from tune_jobs.cli import main

Start = Callable[..., "subprocess.Popen[str]"]
PASSWORD = "hidden-word"


def server_programs() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``: on the path, or where Debian keeps them."""
    on_path = shutil.which("initdb")
    found = [Path(on_path)] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server with its data in a folder, which it is reached by."""

    programs: Path
    folder: Path

    @property
    def url(self) -> str:
        return f"postgresql://symptune:{PASSWORD}@/postgres?host={self.folder}"

    def run(self, program: str, *arguments: str) -> None:
        """Run one of the server's programs, as a user that is not root: root is refused."""
        with (self.folder / "log").open("a") as log:
            subprocess.run(
                [self.programs / program, "-D", self.folder / "data", *arguments],
                cwd=self.folder,
                user="nobody" if os.geteuid() == 0 else None,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=True,
            )

    def create(self) -> None:
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self.run("initdb", "-U", "symptune", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync", "--locale=C")

    def start(self) -> None:
        self.run("pg_ctl", "start", "--wait", "-o", f"-k {self.folder} -c listen_addresses= -c fsync=off")

    def connections(self) -> int:
        """Connections to the server but this one."""
        with psycopg.connect(self.url) as connection:
            clients = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            (number,) = connection.execute(clients).fetchone() or (0,)
        return int(number) - 1

    def stop(self) -> None:
        self.run("pg_ctl", "stop", "--wait", "-m", "fast")


@pytest.fixture
def server() -> Iterator[Server]:
    programs = server_programs()
    if programs is None:
        pytest.skip("PostgreSQL's server is not installed (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="symptune-test-"))  # short, and all its parents may be entered
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody")
    server = Server(programs, folder)
    server.create()
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


def stop_at(events: int, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the server once the ledger of a search in this process has that many events."""
    append = Ledger.append

    def stopping(ledger: Ledger, event: Event) -> None:
        if len(ledger.events) == events:
            server.stop()
        append(ledger, event)

    monkeypatch.setattr(Ledger, "append", stopping)


def in_the_ledger(trial: TrialRecord) -> tuple[object, ...]:
    return (
        trial.number,
        "COMPLETE",
        dict(trial.hyperparameters),
        [trial.deployed.figure("f1")],
        {epoch.epoch: epoch.f1 for epoch in trial.epochs},
    )


def in_the_database(trial: optuna.trial.FrozenTrial) -> tuple[object, ...]:
    return trial.number, trial.state.name, trial.params, trial.values, trial.intermediate_values


def test_a_search_whose_driver_is_killed_and_whose_server_restarts_and_fails_keeps_each_trial_once(
    server: Server,
    notes: Path,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    start_python: Start,
    local_ray: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--optuna-storage", server.url, "--max-concurrent", "1", "--seeds", "1"]
    driver = start_python(
        "-m", "tests.held", "2,4", "launch", "--name", "kept", "--notes", notes, "--model", model_folder,
        "--max-length", "40", "--cycles", "0", "--trials", "3", "--epochs", "2", "--strategies", "baseline", *options,
    )  # fmt: skip
    until(held.WAITING.exists, process=driver)
    server.stop()
    server.start()
    held.WAITING.unlink()  # it continues, with new connections
    until(held.WAITING.exists, process=driver)
    driver.send_signal(signal.SIGKILL)  # the second trial is in its study, and not in the ledger
    driver.wait()
    assert len(Ledger(Folder("runs/kept")).events) == 4

    stop_at(6, server, monkeypatch)
    assert main(["resume", "kept", *options]) == 1
    printed = capsys.readouterr()
    (said,) = (line for line in printed.out.splitlines() if line.startswith("Stopped: "))
    assert said.startswith("Stopped: the study database failed (")
    assert said.endswith("run: symptune resume kept --optuna-storage 'postgresql://symptune:***@/postgres'")
    assert "Traceback" not in printed.out + printed.err
    assert len(Ledger(Folder("runs/kept")).events) == 7

    server.start()
    assert main(["resume", "kept", *options]) == 0
    assert "Best configurations" in capsys.readouterr().out
    until(lambda: server.connections() == 0)  # a notebook that has searched leaves none open
    storage = RDBStorage(f"{server.url}&client_encoding=utf8")
    (name,) = optuna.get_all_study_names(storage)
    study = optuna.load_study(study_name=name, storage=storage)
    trials = Ledger(Folder("runs/kept")).of("baseline")
    assert len(trials) == 3
    assert [in_the_database(trial) for trial in study.trials] == [in_the_ledger(trial) for trial in trials]
    storage.engine.dispose()
    assert all(PASSWORD not in path.read_text(errors="replace") for path in Path("runs").rglob("*.log"))


def test_without_its_driver_the_extra_that_has_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "psycopg", None)  # not to be imported
    address = f"postgresql://me:{PASSWORD}@localhost/studies"
    assert main(["launch", "--patients", "50", "--optuna-storage", address]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("symptune: error: --optuna-storage: postgresql://me:***@localhost/studies needs a driver (")
    assert line.endswith("; pip install -c constraints.txt -e '.[postgres]'")
    assert not list(tmp_path.iterdir())
