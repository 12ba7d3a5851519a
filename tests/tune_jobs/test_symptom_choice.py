"""How firm the choice of the classes is, as a run keeps it and tells it."""

import json
from pathlib import Path

from rich.console import Console

from analysis.report.build import build_report
from run_folder.folder import Folder
from run_folder.names import RUN_FILE
from run_folder.records import to_json
from run_folder.run import open_run
from run_folder.symptom_choice import SymptomChoice
from tests.made_runs import manifest_of
from tests.report_runs import Builder
from tune_jobs.check_settings import run_settings
from tune_jobs.commands.results import introduce

CHOICE = SymptomChoice(1000, {"pain": 1.0, "edema": 0.614}, "dyspnea", 0.386)
WORDS = "among the 2 most frequent in 1,000 resamples of the training patients: edema 61 %; next: dyspnea 39 %"


def said_of(folder: Folder, console: Console) -> str:
    with console.capture() as said:
        introduce(open_run(folder), console)
    return said.get()


def test_terminal_and_report_say_which_symptoms_were_nearly_not_chosen(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "run")
    counts = {split: {"pain": 4, "edema": 2} for split in ("train", "validation", "test")}
    patients = dict.fromkeys(counts, 3)
    settings = run_settings(strategies=("baseline",))
    manifest = manifest_of(settings, ("pain", "edema"), counts=counts, patients=patients, choice=CHOICE)
    folder.write(RUN_FILE, to_json(manifest))
    assert f"  choice of symptoms: {WORDS} (--symptoms NAMES fixes them)\n" in said_of(folder, Console(width=200))
    assert f"Choice of the symptoms: {WORDS}." in build_report(open_run(folder)).page


def test_what_the_test_set_can_show_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    def said_with(of_test: dict[str, int], margin: float | None = None) -> str:
        folder = Folder(tmp_path / f"{len(list(tmp_path.iterdir()))}")
        counts = {split: of_test for split in ("train", "validation", "test")}
        settings = run_settings(strategies=("baseline",))
        manifest = manifest_of(settings, ("pain", "edema"), counts=counts, patients=dict.fromkeys(counts, 100))
        folder.write(RUN_FILE, to_json(manifest))
        console = Console(width=400)
        with console.capture() as said:
            introduce(open_run(folder), console, margin)
        return said.get()

    line = "to show that a model is no worse by more than 0.01 macro F1 takes at least 484 if it changes 5% of"
    assert line in said_with({"pain": 200, "edema": 50})
    assert "more notes, a larger test part in --split" in said_with({"pain": 200, "edema": 50})
    assert "--split" not in said_with({"pain": 200, "edema": 50}, margin=0.05)
    assert "some symptom is in none of their examples" in said_with({"pain": 200})


def test_a_run_without_it_opens_and_says_nothing_of_it(tmp_path: Path) -> None:
    builder = Builder(tmp_path / "old", ("baseline",), ("pain", "edema"))
    assert "choice" not in json.loads(builder.folder.read(RUN_FILE))
    assert "choice of symptoms" not in said_of(builder.folder, Console(width=200))


def test_only_what_always_happens_is_a_hundred_per_cent() -> None:
    assert SymptomChoice(1000, {"pain": 0.999, "edema": 1.0}).in_words().endswith("each at least 99 %")
    assert SymptomChoice(1000, {"pain": 1.0}, "edema", 0.001).in_words().endswith("each 100 %; next: edema 1 %")
