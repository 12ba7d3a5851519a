"""The command that compares a run with the paper."""

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.paper.protocols import PROTOCOLS, PaperProtocol
from benchmarks.simulated_cluster import deployed_result
from run_folder.events import Finished, Suggested
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from tests.made_runs import change_run_file, write_run_file
from tune_jobs.cli import main


def run_in(folder: Path, *, finished: bool = True, **settings: Any) -> None:
    """A run of one strategy with one trial, not evaluated."""
    run = Folder(folder)
    write_run_file(run, strategies=("baseline",), **settings)
    ledger = Ledger(run)
    ledger.append(
        Suggested(
            trial="baseline-0000", strategy="baseline", number=0, seed=1, teacher=None, hyperparameters={},
            distributions={},
        )
    )  # fmt: skip
    if finished:
        ledger.append(Finished("baseline-0000", deployed_result(0.5)))


def test_the_tables_and_claims_fit_a_terminal_and_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_in(tmp_path / "mine")
    assert main(["compare-paper", "mine", "--storage", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "intervals have not been worked out (there is no results/statistics.json)" in printed
    tables = [line for line in printed.splitlines() if line.startswith("  ")]
    assert max(map(len, tables)) <= 110
    assert "12. Low rank and quantization say pain too often" in printed
    assert {path.name for path in (tmp_path / "mine/results").iterdir()} == {"paper.json", "paper.md", "paper.csv"}


@pytest.mark.parametrize(
    ("protocol", "changes", "said"),
    [
        ("paper", {}, "This run follows the paper as written "),
        ("paper", {"deploy": "last", "max_length": 64}, "This run follows the paper as written "),  # which says neither
        ("paper", {"task": "multilabel"}, "This run follows neither "),
        ("paper", {"epochs": 4}, "This run follows neither "),
        ("author", {}, "This run follows the author's own run "),
        ("author", {"balance": False}, "This run follows neither "),
    ],
)
def test_the_protocol_of_a_run_is_known_by_its_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], protocol: PaperProtocol, changes: dict[str, Any], said: str
) -> None:
    run_in(tmp_path / "mine", **{**PROTOCOLS[protocol], **changes})
    assert main(["compare-paper", str(tmp_path / "mine")]) == 0
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "mine/results/paper.md").read_text()


def test_a_run_of_an_older_version_by_what_was_the_papers_protocol_is_the_authors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_in(tmp_path / "mine", **PROTOCOLS["author"])
    file = tmp_path / "mine/run.json"
    manifest = json.loads(file.read_text())
    del manifest["settings"]["deploy"], manifest["settings"]["task"]  # which it did not have
    change_run_file(Folder(tmp_path / "mine"), settings=manifest["settings"])
    assert main(["compare-paper", str(tmp_path / "mine")]) == 0
    assert "This run follows the author's own run " in capsys.readouterr().out


def test_a_run_without_a_finished_trial_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_in(tmp_path / "mine", finished=False)
    assert main(["compare-paper", str(tmp_path / "mine")]) == 2
    assert capsys.readouterr().err == (
        "symptune: error: RUN: no trial of mine has finished, so there is nothing to compare yet\n"
    )
