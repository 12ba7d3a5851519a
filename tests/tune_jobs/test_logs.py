"""The logs in a run's folder."""

import logging
from pathlib import Path

from run_folder.events import Failed, Suggested, Warned
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from run_folder.logs import close_log, driver_log, trial_log

SUGGESTED = Suggested(
    trial="baseline-0000", strategy="baseline", number=0, seed=0, hyperparameters={}, distributions={}, teacher=None
)


def test_the_driver_logs_events_at_their_levels_and_no_reason(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    ledger = Ledger(folder)
    with driver_log(folder, "warning", ("run_folder",)):
        ledger.append(SUGGESTED)
        ledger.append(Warned("baseline-0000", "half batches"))
        ledger.append(Failed("baseline-0000", "ValueError: 'a private text'"))
    ledger.append(Warned("baseline-0000", "after the log was closed"))
    lines = (tmp_path / "logs/driver.log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        "WARNING baseline-0000 warning: half batches",
        "ERROR baseline-0000 failed",
    ]


def test_a_log_on_a_storage_where_no_file_can_grow_is_added_to_when_it_ends(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for line in ("first", "second"):
        folder = Folder(tmp_path)
        folder.is_local = False  # an object store
        log = trial_log(folder, "pruning-0001", "info")
        log.info(line)
        log.debug("too little")
        close_log(log)
        close_log(log)
    lines = (tmp_path / "logs/pruning-0001.log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["INFO first", "INFO second"]


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file in the way")
    with driver_log(Folder(tmp_path), "info", ("run_folder",)):
        logging.getLogger("run_folder").info("lost")
    assert (tmp_path / "logs").read_text() == "a file in the way"
