"""Settings: their flat record, their types, and the options that are made from their fields."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from clinical_notes.synthetic import DEFAULT_PATIENTS
from run_folder.errors import InputError, Problem
from run_folder.folder import Folder
from run_folder.run import open_run
from run_folder.settings import RunSettings
from tests.made_runs import write_run_file
from trainables.parts.deployed import int8_overflows
from tune_jobs.check_settings import problems_of, run_settings
from tune_jobs.commands.launch import (
    DEMO_LAYERS,
    DEMONSTRATION,
    TRIALS_OF_OWN_NOTES,
    _settings,
    is_demonstration,
)
from tune_jobs.commands.options import parser


def test_a_record_of_an_older_version_is_read() -> None:
    """Its lists become tuples, what it lacks has its default, and what is known no more is ignored."""
    record = {"strategies": ["baseline"], "notes": "n.csv", "split": [0.8, 0.1, 0.1], "symptoms": ["a", "b"], "old": 1}
    settings = RunSettings.from_record(json.loads(json.dumps(record)))
    assert settings == run_settings(strategies=("baseline",), notes="n.csv", split=(0.8, 0.1, 0.1), symptoms=("a", "b"))
    assert RunSettings.from_record(json.loads(json.dumps(settings.record()))) == settings


def test_one_path_of_notes_is_recorded_as_before_and_several_as_a_list() -> None:
    one = _settings(parser().parse_args(["launch", "--notes", "n.csv"]))
    assert one.record()["notes"] == "n.csv"
    assert one.notes.paths == ("n.csv",)
    several = _settings(parser().parse_args(["launch", "--notes", "a.csv.gz", "--notes", "b.csv.gz"]))
    assert several.notes.paths == ("a.csv.gz", "b.csv.gz")
    assert RunSettings.from_record(json.loads(json.dumps(several.record()))) == several
    assert _settings(parser().parse_args(["launch"])).notes.paths == ()


def test_a_setting_of_a_wrong_type_is_told_with_file_and_field(tmp_path: Path) -> None:
    write_run_file(Folder(tmp_path))
    manifest = json.loads((tmp_path / "run.json").read_text())
    manifest["settings"]["trials"] = "many"
    (tmp_path / "run.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"run\.json: settings: .*int.*trials"):
        open_run(Folder(tmp_path))


def test_a_command_without_options_is_the_demonstration() -> None:
    asked = _settings(parser().parse_args(["launch", "--seed", "7", "--max-concurrent", "1"]))
    assert asked == run_settings(**DEMONSTRATION, seed=7, reduce_range=int8_overflows())
    assert is_demonstration(asked)


def test_any_other_command_has_the_defaults_of_the_settings_and_own_notes_more_trials() -> None:
    synthetic = _settings(parser().parse_args(["launch", "--strategies", "baseline"]))
    assert synthetic == run_settings(
        strategies=("baseline",), patients=DEFAULT_PATIENTS, layers=DEMO_LAYERS, reduce_range=int8_overflows()
    )
    own = _settings(parser().parse_args(["launch", "--notes", "n.csv"]))
    assert own == run_settings(notes="n.csv", trials=TRIALS_OF_OWN_NOTES, reduce_range=int8_overflows())
    assert not is_demonstration(synthetic)
    assert not is_demonstration(own)


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        (
            "paper",
            {
                "task": "multiclass", "unit": "sentence", "raw_window": False, "symptoms": 5, "balance": False,
                "negated": "drop", "split": (0.7, 0.1, 0.2), "epochs": 5,
            },
        ),
        (
            "author",
            {
                "task": "multiclass", "unit": "note", "raw_window": True, "window_chars": 1000, "max_length": 256,
                "balance": True, "negated": "keep", "split": (0.8, 0.1, 0.1),
            },
        ),
    ],
)  # fmt: skip
def test_a_protocol_sets_what_it_says_and_other_options_override_it(protocol: str, expected: dict[str, Any]) -> None:
    line = ["launch", "--notes", "n.csv", "--protocol", protocol]
    record = _settings(parser().parse_args(line)).record()
    assert expected.items() <= record.items()
    changed = _settings(parser().parse_args([*line, "--split", "0.6,0.2,0.2", "--deploy", "last"])).record()
    assert changed == {**record, "split": (0.6, 0.2, 0.2), "deploy": "last"}


def test_help_shows_defaults_and_choices_of_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["launch", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for words in (
        "--max-length N number of tokens after which a text is truncated (default: 128)",
        "--unit {note,sentence,row} an example is a sentence, a note (all of it in windows, or for multiclass its "
        "start), or a row that has labels already (default: sentence)",
        f"--patients N number of synthetic patients (default: {DEFAULT_PATIENTS})",
        "(default: 0.7,0.1,0.2)",
        "--keep N number of finished models that are kept per strategy (default: 3)",
    ):
        assert words in shown


def test_limits_are_those_of_the_fields() -> None:
    settings = run_settings(patients=9, max_length=7, sample=1.5, seed=-1)
    assert problems_of(settings) == [
        Problem("sample", "must be in (0, 1], got 1.5"),
        Problem("max_length", "must be at least 8, got 7"),
        Problem("seed", "must be at least 0, got -1"),
    ]


def test_problems_reach_another_process_whole() -> None:
    """Ray carries errors from its workers by pickle."""
    problems = Problem("notes", "n.csv is empty", "give a table with notes"), Problem(None, "run.json is damaged")
    assert copy.copy(InputError(*problems)).problems == problems  # as pickle does


def test_a_run_older_than_the_choice_of_a_task_is_multiclass() -> None:
    record = run_settings(strategies=("baseline",)).record()
    assert record.pop("task") == "multilabel"
    assert RunSettings.of_run(record).labels.task == "multiclass"


@pytest.mark.parametrize(
    ("size", "number"), [("20MB", 20_000_000), ("1.5 GiB", 1_610_612_736), ("500kb", 500_000), ("7B", 7)]
)
def test_a_size_is_read_with_its_unit_and_the_search_keeps_it(size: str, number: int) -> None:
    settings = _settings(parser().parse_args(["launch", "--at-most", size]))
    assert settings.search.at_most == number
    assert RunSettings.of_run(settings.record()).search.at_most == number


def test_wishes_of_speed_are_no_settings_of_the_run() -> None:
    options = parser().parse_args(["launch", "--latency", "0.5 ms", "--faster", "4"])
    assert (options.latency, options.faster) == (pytest.approx(0.0005), 4.0)
    assert not {"latency", "faster"} & _settings(options).record().keys()
