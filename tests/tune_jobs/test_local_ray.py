"""A cluster that is started here: its token, its sockets, and what is said when its daemons die."""

import errno
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray._private import worker
from ray.exceptions import GetTimeoutError, OutOfMemoryError

from run_folder.errors import SearchHaltedError
from tests import held
from tests.waiting import until
from tune_jobs.cli import main
from tune_jobs.cluster.local_ray import own_token, started_cluster, watched_daemons
from tune_jobs.commands.remote import _without_address
from tune_jobs.preparing import create_run
from tune_jobs.searching.halt import Halt

TOKEN = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_too_long_for_sockets_is_told_before_anything_starts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(create_run, "notes_are_small", lambda notes: False)  # they would be read along
    monkeypatch.setenv(name, f"/tmp/{'x' * 60}")
    assert main(["launch", "--patients", "50"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{name} is too long for Ray's sockets" in line
    assert "set RAY_TMPDIR to a shorter folder" in line
    assert not list(tmp_path.iterdir())


def test_a_cluster_here_has_a_token_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TOKEN:
        monkeypatch.delenv(name, raising=False)
    tokens = []
    for _ in range(2):
        with own_token():
            assert os.environ["RAY_AUTH_MODE"] == "token"
            tokens.append(os.environ["RAY_AUTH_TOKEN"])
        assert not set(TOKEN) & set(os.environ)
    assert len(set(tokens)) == 2
    assert all(len(token) == 64 for token in tokens)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with own_token():
        assert "RAY_AUTH_TOKEN" not in os.environ


class DyingNode:
    """Ray's node, one of whose daemons is dead once that is asked for."""

    def __init__(self) -> None:
        self.dead: list[tuple[str, Any]] = []

    def dead_processes(self) -> list[tuple[str, Any]]:
        return self.dead


@pytest.mark.parametrize("daemon", ["raylet", "gcs_server"])
def test_a_block_ends_when_a_daemon_dies(daemon: str, monkeypatch: pytest.MonkeyPatch) -> None:
    node = DyingNode()
    monkeypatch.setattr(worker, "_global_node", node)
    node.dead.append((daemon, None))
    with pytest.raises(SearchHaltedError, match=f"Ray's {daemon} died"), watched_daemons():
        threading.Event().wait()


def test_a_daemon_that_nothing_needs_may_die(monkeypatch: pytest.MonkeyPatch) -> None:
    node = DyingNode()
    node.dead.append(("log_monitor", None))
    monkeypatch.setattr(worker, "_global_node", node)
    with pytest.raises(ZeroDivisionError), watched_daemons():
        raise ZeroDivisionError


def test_a_cluster_that_does_not_start_stops_the_search_in_one_line() -> None:
    said = "The current node timed out during startup.\nMore lines."
    told = r"^Ray did not start \(The current node timed out during startup\.\)$"
    with pytest.raises(SearchHaltedError, match=told), started_cluster():
        raise Exception(said)  # as Ray does


def test_rays_errors_are_not_called_the_storages() -> None:
    for error, words in (
        (GetTimeoutError("no answer"), "Ray failed (no answer)"),
        (ConnectionError("GCS is gone"), "Ray failed (GCS is gone)"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), "the storage failed (No space left on device: x)"),
    ):
        halt = Halt()
        with halt.on_storage_errors():
            raise error
        assert halt.reason == words


def test_a_full_memory_stops_the_search_in_one_line() -> None:
    halt = Halt()
    with halt.on_storage_errors():
        raise RuntimeError("Caught unexpected exception: 2 workers were killed") from OutOfMemoryError("pages of it")
    assert halt.reason == "the memory was full, so that Ray ended trials; run fewer at once"
    with pytest.raises(RuntimeError, match="a bug"), halt.on_storage_errors():
        raise RuntimeError("a bug")


def test_a_command_on_a_cluster_is_given_one_address() -> None:
    given = ["launch", "--address", "ray://a:1", "--trials", "2", "--address=ray://b:1"]
    assert _without_address(given) == ["launch", "--trials", "2"]


Start = Callable[..., "subprocess.Popen[str]"]


def line_of(notes: Path, model_folder: Path) -> list[str]:
    return [
        "launch", "--notes", str(notes), "--model", str(model_folder), "--max-length", "40",
        "--cycles", "0", "--trials", "1",
        "--epochs", "2", "--strategies", "baseline", "--seeds", "1", "--name", "r",
    ]  # fmt: skip


def test_a_daemon_that_dies_ends_in_a_line_that_says_how_to_resume(
    notes: Path, model_folder: Path, start_python: Start, local_ray: None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    driver = start_python("-m", "tests.held", 2, *line_of(notes, model_folder), **piped)
    until(held.WAITING.exists, process=driver)
    (raylet,) = (child for child in psutil.Process(driver.pid).children() if child.name() == "raylet")
    raylet.send_signal(signal.SIGKILL)
    printed, _ = driver.communicate()
    assert driver.returncode == 1
    assert printed.splitlines()[-1].startswith("Stopped: Ray's raylet died")
    assert printed.endswith("run: symptune resume r\n")
    assert "Traceback" not in printed
    assert "(raylet)" not in printed
    assert main(["resume", "r", "--seeds", "1"]) == 0


def test_a_run_ends_in_an_odd_place(
    notes: Path, model_folder: Path, start_python: Start, local_ray: None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A path with all that a path may hold, a terminal of ASCII alone, an empty home, no assertions."""
    place = tmp_path / "Größe #1? 100% x"
    place.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(place)
    environment = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "HOME": str(home)}
    for name in TOKEN:
        monkeypatch.delenv(name, raising=False)
    line = [*line_of(notes, model_folder)[:-1], "größe", "--storage", "runs?a=1#2"]
    process = start_python(
        "-O", "-m", "tune_jobs", *line, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace",
    )  # fmt: skip
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert "Traceback" not in printed
    assert (place / "runs?a=1#2" / "größe" / "results" / "report.html").exists()
    assert [path.name for path in place.iterdir()] == ["runs?a=1#2"]
    assert not (home / ".ray").exists()


def test_a_locale_without_utf8_is_told_where_a_path_needs_it(start_python: Start, tmp_path: Path) -> None:
    """Python and Arrow would write to two different folders."""
    environment = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    folder = tmp_path / "größe"
    folder.mkdir()
    for place, name in ((folder, "runs"), (tmp_path, "größe")):
        process = start_python(
            "-m", "tune_jobs", "status", "r", "--storage", name, env=environment, cwd=place, stderr=subprocess.PIPE
        )
        _, said = process.communicate()
        assert process.returncode == 2
        assert len(said.splitlines()) == 1
        assert "set PYTHONUTF8=1" in said
