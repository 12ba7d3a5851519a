"""Ledgers that are damaged are told in one line."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from run_folder.errors import InputError, Problem, first_line
from run_folder.events import Failed, Stopped, event_json, read_events
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from run_folder.ledger_end import EventsMissingError
from run_folder.results import Scores

SUGGESTED: dict[str, Any] = {
    "event": "suggested", "trial": "baseline-0000", "strategy": "baseline", "number": 0, "seed": 1,
    "hyperparameters": {"learning_rate": 1e-4}, "distributions": {}, "teacher": None,
}  # fmt: skip
RESULT = {
    "epoch": 1, "f1": 0.5, "accuracy": 0.5, "precision": 0.5, "recall": 0.5, "auroc": None, "train_loss": 1.0,
    "selectable": True, "seconds": 2.0,
}  # fmt: skip
EPOCH = {"event": "epoch", "trial": "baseline-0000", "result": RESULT}


def ledger_of(folder: Path, *events: dict[str, Any]) -> Folder:
    for number, event in enumerate(events):
        Folder(folder).write(f"ledger/{number:08d}-{event['event']}.json", json.dumps(event).encode())
    return Folder(folder)


def test_events_are_written_as_they_were_read(tmp_path: Path) -> None:
    ledger = Ledger(ledger_of(tmp_path, SUGGESTED, EPOCH))
    assert [json.loads(event_json(event)) for event in ledger.events] == [SUGGESTED, EPOCH]
    assert ledger.trials["baseline-0000"].epochs[0].auroc is None


def test_an_epoch_keeps_each_symptoms_figures_and_older_epochs_have_none(tmp_path: Path) -> None:
    fever = {"precision": 0.5, "recall": 0.25, "f1": 1 / 3, "auroc": None}
    second = EPOCH | {"result": RESULT | {"epoch": 2, "per_symptom": {"fever": fever}}}
    ledger = Ledger(ledger_of(tmp_path, SUGGESTED, EPOCH, second))
    assert [json.loads(event_json(event)) for event in ledger.events] == [SUGGESTED, EPOCH, second]
    older, newer = ledger.trials["baseline-0000"].epochs
    assert older.per_symptom is None
    assert newer.per_symptom == {"fever": Scores(precision=0.5, recall=0.25, f1=1 / 3, auroc=None)}


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([EPOCH], "baseline-0000 before it was suggested"),
        ([SUGGESTED | {"continues": "baseline-0007"}], "baseline-0007 before it was suggested"),
        ([SUGGESTED | {"number": "0"}], r"00000000-suggested\.json: Expected `int`, got `str` - at `\$\.number`"),
        ([SUGGESTED, EPOCH | {"result": {}}], r"00000001-epoch\.json: .*missing required field `epoch`"),
        ([SUGGESTED, {"event": "unheard"}], r"00000001-unheard\.json is damaged"),
    ],
)
def test_a_damaged_event_is_named_with_its_field(tmp_path: Path, events: list[dict[str, Any]], words: str) -> None:
    folder = ledger_of(tmp_path, *events)
    with pytest.raises(InputError, match=words) as caught:
        Ledger(folder)
    assert "\n" not in str(caught.value)


def chained(folder: Path) -> Ledger:
    """A ledger of three events, as it is written."""
    ledger = Ledger(Folder(folder))
    for values in (SUGGESTED, EPOCH, EPOCH | {"result": RESULT | {"epoch": 2}}):
        (event,) = read_events(ledger_of(folder / "plain", values))
        ledger.append(event)
        shutil.rmtree(folder / "plain")
    ledger.append(Stopped("baseline-0000"))
    return ledger


def test_a_changed_event_is_known_by_the_next_ones_hash(tmp_path: Path) -> None:
    events = chained(tmp_path).events
    path = tmp_path / "ledger" / "00000001-epoch.json"
    assert read_events(Folder(tmp_path)) == events
    path.write_text(path.read_text().replace('"f1": 0.5', '"f1": 0.9'))
    with pytest.raises(InputError, match=r"00000001-epoch\.json was changed after it was written"):
        Ledger(Folder(tmp_path))


def test_the_last_event_is_known_by_the_end_that_was_noted(tmp_path: Path) -> None:
    chained(tmp_path)
    path = tmp_path / "ledger" / "00000003-stopped.json"
    path.write_text(path.read_text().replace("{", "{ ", 1))
    with pytest.raises(InputError, match=r"00000003-stopped\.json was changed"):
        Ledger(Folder(tmp_path))
    path.unlink()
    with pytest.raises(EventsMissingError, match="lacks the last of the 4 events"):
        Ledger(Folder(tmp_path))
    shutil.rmtree(tmp_path / "ledger")
    with pytest.raises(EventsMissingError, match="lacks all of the 4 events"):
        Ledger(Folder(tmp_path))


def test_a_kill_between_an_event_and_the_note_of_it_costs_nothing(tmp_path: Path) -> None:
    ledger = chained(tmp_path)
    noted = (tmp_path / "ledger.json").read_bytes()
    ledger.append(Failed("baseline-0000", "killed"))
    (tmp_path / "ledger.json").write_bytes(noted)
    again = Ledger(Folder(tmp_path))
    assert again.events == ledger.events
    again.note_end()
    (tmp_path / "ledger" / "00000004-failed.json").unlink()
    with pytest.raises(EventsMissingError):
        Ledger(Folder(tmp_path))


def test_a_ledger_of_version_0_2_is_read_and_continued(tmp_path: Path) -> None:
    ledger = Ledger(ledger_of(tmp_path, SUGGESTED, EPOCH))
    ledger.append(Stopped("baseline-0000"))
    assert Ledger(Folder(tmp_path)).events == ledger.events
    path = tmp_path / "ledger" / "00000001-epoch.json"
    path.write_text(path.read_text().replace('"f1": 0.5', '"f1": 0.9'))
    with pytest.raises(InputError, match=r"00000001-epoch\.json was changed"):
        Ledger(Folder(tmp_path))


def test_an_error_without_a_message_has_a_line_too() -> None:
    assert first_line(ValueError()) == "ValueError"
    assert first_line(ValueError("a\nb")) == "a"


def test_problems_keep_their_fields_on_the_way_between_processes() -> None:
    error = InputError(Problem("max_length", "must be at least 8", "give more"), "run.json is damaged")
    again = copy.copy(error)  # which pickles it
    assert again.problems == error.problems
    assert str(again) == "max_length: must be at least 8; give more\nrun.json is damaged"
