"""What happens when the storage fails: a clean stop, and a resume that loses nothing."""

import errno
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.run import open_run
from clinical_notes.storage import Folder
from tests.tiny_runs import quiet, settings_for
from tune_jobs.launch import Execution, SearchHaltedError, search
from tune_jobs.ledger import Ledger
from tune_jobs.prepare import create_run

STRATEGIES = ("baseline", "low_rank")


class FailingFolder(Folder):
    """A storage that refuses every write from a certain one on."""

    def __init__(self, uri: str, writes: int, error: OSError) -> None:
        super().__init__(uri)
        self._left, self._error = writes, error

    def write(self, relative: str, data: bytes) -> None:
        self._left -= 1
        if self._left < 0:
            raise self._error
        super().write(relative, data)


def figures(ledger: Ledger) -> dict[str, tuple[str, list[dict[str, Any]]]]:
    return {
        name: (trial.state, [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in trial.epochs])
        for name, trial in ledger.trials.items()
    }


def test_a_ledger_that_cannot_be_written_halts_the_search_and_it_resumes_as_if_undisturbed(
    tmp_path: Path, model_folder: Path
) -> None:
    settings = settings_for(model_folder, trials=2, epochs=2, strategies=STRATEGIES, reduction_factor=0)
    straight, cut = Folder(tmp_path / "straight"), Folder(tmp_path / "cut")
    prepared = create_run(straight, settings, workers=1)
    create_run(cut, settings, workers=1)
    one_at_a_time = Execution(max_concurrent=1)
    expected = search(straight, settings, prepared, one_at_a_time, quiet())

    full = FailingFolder(cut.uri, 6, OSError(errno.ENOSPC, "No space left on device", "x.json"))
    with pytest.raises(SearchHaltedError, match=r"No space left on device: x\.json"):
        search(full, settings, prepared, one_at_a_time, quiet())
    assert len(cut.names("ledger")) == 6
    assert figures(search(cut, settings, prepared, one_at_a_time, quiet())) == figures(expected)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a run's start and little more."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small file system")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_a_full_disk_stops_the_run_and_with_room_it_ends(small_disk: Path, model_folder: Path) -> None:
    settings = settings_for(model_folder, trials=2, epochs=2, strategies=STRATEGIES)
    folder = Folder(small_disk / "run")
    prepared = create_run(folder, settings, workers=1)
    with pytest.raises(SearchHaltedError, match="No space left on device"):
        search(folder, settings, prepared, Execution(), quiet())
    halted = Ledger(folder)
    assert all(trial.state in ("running", "finished") for trial in halted.trials.values())
    subprocess.run(["mount", "-o", "remount,size=50m", small_disk], check=True)
    ledger = search(folder, settings, prepared, Execution(), quiet())
    assert [trial.state for trial in ledger.trials.values()] == ["finished"] * 4
    assert open_run(folder).best("baseline", 1)


def test_an_error_that_passes_is_tried_again_and_one_that_lasts_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    answers: list[OSError] = []
    replace = Path.replace

    def sometimes(path: Path, target: Path) -> Path:
        if answers:
            raise answers.pop()
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", sometimes)
    folder = Folder(tmp_path)
    answers += [OSError(errno.EIO, "Input/output error")] * 2
    folder.write("a", b"1")
    assert folder.read("a") == b"1"
    assert len(pauses) == 2
    answers += [OSError(errno.ENOSPC, "No space left on device")]
    with pytest.raises(OSError, match="No space"):
        folder.write("a", b"2")
    assert folder.read("a") == b"1"
    assert len(pauses) == 2
    assert folder.names() == ["a"]
