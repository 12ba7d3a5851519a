"""The command that compares a run with the paper."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.simulated_cluster import deployed_result
from run_folder.events import Finished, Suggested
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from tests.made_runs import write_run_file
from tune_jobs.check_settings import PROTOCOL_PAPER
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
    assert "This run does not follow the author's protocol" in printed
    assert "intervals have not been worked out (there is no results/statistics.json)" in printed
    tables = [line for line in printed.splitlines() if line.startswith("  ")]
    assert max(map(len, tables)) <= 110
    assert "12. Low rank and quantization say pain too often" in printed
    assert {path.name for path in (tmp_path / "mine/results").iterdir()} == {"paper.json", "paper.md", "paper.csv"}


def test_a_run_by_the_authors_protocol_is_said_to_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_in(tmp_path / "mine", **PROTOCOL_PAPER)
    assert main(["compare-paper", str(tmp_path / "mine")]) == 0
    assert "This run follows the author's protocol." in capsys.readouterr().out


def test_a_run_without_a_finished_trial_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_in(tmp_path / "mine", finished=False)
    assert main(["compare-paper", str(tmp_path / "mine")]) == 2
    assert capsys.readouterr().err == (
        "symptune: error: RUN: no trial of mine has finished, so there is nothing to compare yet\n"
    )
