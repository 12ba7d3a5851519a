"""What the preparation of notes leaves on the disk."""

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from clinical_notes.examples import LabelledExamples, make_examples
from run_folder.errors import InputError
from run_folder.folder import Folder
from run_folder.settings import LabelSettings
from tests.made_runs import made_run
from tune_jobs.check_settings import run_settings
from tune_jobs.preparing import create_run as prepare
from tune_jobs.preparing.create_run import changes_since, make_run_examples, versions


def test_no_file_holds_notes_that_a_kill_would_leave_behind(
    notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[list[Path]] = []

    def look(units: BinaryIO, settings: LabelSettings, **more: Any) -> LabelledExamples:
        found.append([path for path in tmp_path.rglob("*") if path.is_file()])
        assert units.seek(0, 2) > 1000
        return make_examples(units, settings, **more)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(prepare, "make_examples", look)
    make_run_examples(run_settings(notes=str(notes)), workers=1)
    assert found == [[]]


def test_a_full_disk_is_told_with_the_folder_that_is_full(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", partial(open, "/dev/full", "r+b"))
    with pytest.raises(
        InputError, match=rf"^notes: {tempfile.gettempdir()} is too small.* set TMPDIR to a larger folder$"
    ):
        make_run_examples(run_settings(notes=str(notes)), workers=1)


@pytest.mark.parametrize(("release", "refused"), [("0.1.0", False), ("0.2.0", False), ("0.0.9", True), (None, True)])
def test_a_run_of_a_release_that_gives_the_same_figures_can_be_continued(
    release: str | None, refused: bool, tmp_path: Path
) -> None:
    run = made_run(Folder(tmp_path), ["baseline"], [])
    recorded = {name: version for name, version in versions().items() if name != "symptune"}
    recorded |= {"symptune": release} if release else {}
    run = replace(run, manifest=replace(run.manifest, versions=recorded))
    assert bool(changes_since(run)) is refused
    assert all(change.startswith(f"symptune {release or 'unknown'} → ") for change in changes_since(run))
