"""The lock of a run's folder, and what is left where nothing came of a run."""

from pathlib import Path

import pytest

from run_folder.errors import InputError
from run_folder.folder import Folder
from run_folder.lock import held, only_process, staged_next_to


def test_a_run_of_which_nothing_came_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no notes"), only_process(Folder(tmp_path / "deep" / "runs" / "mine")):
        raise InputError("no notes")
    assert list(tmp_path.iterdir()) == []


def fail_next_to_another_run(runs: Path) -> None:
    Folder(runs / "other").write("run.json", b"{}")
    raise InputError("no notes")


def test_another_run_that_was_created_meanwhile_stays(tmp_path: Path) -> None:
    runs = tmp_path / "deep" / "runs"
    with pytest.raises(InputError, match="no notes"), only_process(Folder(runs / "mine")):
        fail_next_to_another_run(runs)
    assert [path.name for path in runs.iterdir()] == ["other"]
    assert (runs / "other" / "run.json").read_bytes() == b"{}"


def test_a_run_that_has_files_stays(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "runs" / "mine")
    with only_process(folder):
        folder.write("run.json", b"{}")
    assert folder.exists("run.json")


def test_a_new_runs_folder_and_its_private_files_are_its_owners_alone(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "runs" / "mine")
    with only_process(folder):
        folder.write("data/train.parquet", b"notes", private=True)
    assert (tmp_path / "runs" / "mine").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "runs" / "mine" / "data" / "train.parquet").stat().st_mode & 0o777 == 0o600


def test_what_a_killed_process_was_writing_is_dropped_and_what_another_writes_is_not(tmp_path: Path) -> None:
    killed, working = tmp_path / ".out.0123abcd.tmp", tmp_path / ".out.4567abcd.tmp"
    for folder in (killed, working):
        folder.mkdir()
        (folder / "model.onnx").write_bytes(b"half")
    with held(working):
        staged = staged_next_to(tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == [working]
    assert staged.parent == tmp_path
