"""Models, controls and rules, judged by labels that people made."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.evaluation.controls import CONTROLS
from analysis.evaluation.gold import RULES, evaluate_gold, gold_table, read_gold_results, read_labels, remarks_on
from analysis.evaluation.result_files import write_result
from analysis.report.build import write_report
from clinical_notes.lexicon import Lexicon, read_lexicon
from clinical_notes.mentions import MentionFinder
from clinical_notes.run_examples import run_lexicon
from run_folder.errors import InputError
from run_folder.folder import Folder
from run_folder.names import LEXICON_FILE
from run_folder.run import Run, open_run
from tests.made_runs import manifest_of
from tests.tiny_runs import FinishedRun
from tune_jobs.check_settings import run_settings
from tune_jobs.cli import main

MARKER = "zyxgold"


@pytest.fixture
def run(finished: FinishedRun, tmp_path: Path) -> Run:
    shutil.copytree(finished.run.folder.uri, tmp_path / "r")
    return open_run(Folder(tmp_path / "r"))


def sheet(path: Path, run: Run, patients: bool = False) -> Path:
    """Texts that the rules read as people do, but for one in six: people deny what the rules affirm."""
    rows = []
    for i in range(60):
        symptom = run.symptoms[i % len(run.symptoms)]
        text, affirmed, negated = [
            (f"{MARKER} has {symptom}.", symptom, ""),
            (f"No {symptom}.", "", symptom),
            ("Resting in bed.", "", ""),
            (f"Reports {symptom}, which {MARKER} doubts.", "", symptom),
        ][i % 4]
        rows.append({"text": text, "affirmed": affirmed, "negated": negated, "patient_id": f"p{i // 3}"})
    frame = pd.DataFrame(rows)
    (frame if patients else frame.drop(columns="patient_id")).to_csv(path, index=False)
    return path


def test_the_figures_are_those_of_what_is_said_of_each_text(run: Run, tmp_path: Path) -> None:
    gold = read_labels(run, sheet(tmp_path / "gold.csv", run))
    found = evaluate_gold(run, gold, "gold.csv")
    assert found == read_gold_results(run)
    assert set(found.models) == {*(run.best(s, 1)[0].name for s in run.strategies), *CONTROLS, RULES}
    assert found.reference == RULES
    assert (found.texts, found.patients) == (60, 60)

    finder = MentionFinder(run_lexicon(run))
    positive = ("affirmed", "uncertain")
    said = np.array(
        [
            [any(m.concept == s and m.assertion in positive for m in finder.find(text.text)) for s in run.symptoms]
            for text in gold
        ]
    )
    truth = np.array([[s in text.labels["affirmed"] for s in run.symptoms] for text in gold])
    denied = np.array([[s in text.labels["negated"] for s in run.symptoms] for text in gold])
    rules = found.models[RULES]
    assert rules.micro_precision == pytest.approx((said & truth).sum() / said.sum())
    assert rules.micro_recall == pytest.approx((said & truth).sum() / truth.sum())
    assert (rules.still_says.count, rules.still_says.of) == ((said & denied).sum(), denied.sum())
    silent = ~said.any(axis=1)[~truth.any(axis=1)]
    assert (rules.silent.count, rules.silent.of) == (silent.sum(), len(silent))
    f1 = [2 * (said & truth)[:, c].sum() / (said[:, c].sum() + truth[:, c].sum()) for c in range(len(run.symptoms))]
    overall = rules.figures["overall"]["f1"]
    assert overall.point == pytest.approx(np.mean(f1))
    assert np.array([overall.low, overall.point, overall.high], float).argsort().tolist() == [0, 1, 2]
    assert rules.differences is None

    baseline = found.models[run.best("baseline", 1)[0].name]
    assert baseline.silent.count == 0  # a multiclass model names a symptom of every text
    assert baseline.differences is not None
    difference = baseline.differences["overall"]["f1"]
    point = baseline.figures["overall"]["f1"].point
    assert point is not None
    assert difference.point == pytest.approx(point - np.mean(f1))
    assert difference.p is not None


def test_texts_of_one_patient_are_drawn_together(run: Run, tmp_path: Path) -> None:
    alone, together = (
        evaluate_gold(run, read_labels(run, sheet(tmp_path / "gold.csv", run, patients)), "gold.csv")
        for patients in (False, True)
    )
    assert together.patients == 20
    figures = (of.models[RULES].figures["overall"]["f1"] for of in (alone, together))
    first, second = figures
    assert first.point == second.point
    assert (first.low, first.high) != (second.low, second.high)


def test_texts_that_the_models_learned_from_are_left_out_with_their_patients(run: Run, tmp_path: Path) -> None:
    path = sheet(tmp_path / "gold.csv", run, patients=True)
    clean = evaluate_gold(run, read_labels(run, path), "gold.csv")
    assert clean.left_out == 0
    seen = [run.examples(split)["text"].iloc[0] for split in ("train", "validation")]
    table = pd.read_csv(path, keep_default_na=False)
    table.loc[[0, 30], "text"] = seen  # of the patients p0 and p10, with three texts each
    table.to_csv(path, index=False)
    found = evaluate_gold(run, read_labels(run, path), "gold.csv")
    assert (found.left_out, found.texts, found.patients) == (6, 54, 18)
    table["text"] = seen[0]
    table.to_csv(path, index=False)
    with pytest.raises(InputError, match=r"gold\.csv: the models were trained or chosen on these texts"):
        evaluate_gold(run, read_labels(run, path), "gold.csv")


def unsearched(folder: Path, symptoms: tuple[str, ...], words: Lexicon, **settings: Any) -> Run:
    """A run with a lexicon and no trials: enough to read labels."""
    made = run_settings(strategies=("baseline",), task="multilabel", **settings)
    run = Run(Folder(folder), made, manifest_of(made, symptoms), {})
    run.folder.write(LEXICON_FILE, json.dumps(words.record()).encode())
    return run


def test_what_a_runs_lexicon_absorbed_or_calls_a_child_is_a_label_of_the_wider_symptom(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.yaml"
    path.write_text(
        "pain: {forms: [pain]}\nthoracic complaint: {forms: [chest pain]}\n"
        "bleeding: {forms: [bleeding]}\nhematuria: {forms: [hematuria], parents: [bleeding]}\n"
    )
    absorb = ("pain=thoracic complaint",)
    run = unsearched(
        tmp_path / "r", ("pain", "bleeding"), read_lexicon(str(path), absorb), lexicon=str(path), absorb=absorb
    )
    sheet = tmp_path / "gold.csv"
    sheet.write_text(
        "text,affirmed,negated\nhas chest pain,thoracic_complaint,\nhas chest pain,chest pain,\n"
        "no hematuria,pain,hematuria\n"
    )
    first, second, third = read_labels(run, sheet)
    assert first.labels["affirmed"] == second.labels["affirmed"] == {"pain"}
    assert third.labels["negated"] == {"hematuria", "bleeding"}
    assert remarks_on(run, [first, second, third], "gold.csv") == ()


def test_a_sheet_of_people_who_count_chest_pain_as_pain_is_told_of_a_run_that_does_not(tmp_path: Path) -> None:
    sheet = tmp_path / "gold.csv"
    rows = ["has chest pain,pain,", "no back pain,,pain", "has pain,pain,", "chest pain and pain,pain,", "fever,fever,"]
    sheet.write_text("\n".join(["text,affirmed,negated", *rows]))
    apart = unsearched(tmp_path / "apart", ("pain", "fever"), read_lexicon(None, ()))
    (line,) = remarks_on(apart, read_labels(apart, sheet), "gold.csv")
    assert line.startswith("In 2 texts people label pain where the run's rules find chest pain, back pain, ")
    assert '--absorb "pain=chest pain,back pain"' in line
    absorb = ("pain=chest pain,back pain",)
    together = unsearched(tmp_path / "together", ("pain", "fever"), read_lexicon(None, absorb), absorb=absorb)
    assert remarks_on(together, read_labels(together, sheet), "gold.csv") == ()


def test_names_that_a_run_with_labels_of_its_own_does_not_know_are_told(tmp_path: Path) -> None:
    run = unsearched(tmp_path / "r", ("itch", "Rash"), read_lexicon(None, ()), unit="row", labels=("seen",))
    sheet = tmp_path / "gold.csv"
    rows = ["1,a,itch", "2,b,itsch; Rash", "3,c,rash;itsch", "4,d,gout", "5,e,"]
    sheet.write_text("\n".join(["patient,text,seen", *rows]))
    gold = read_labels(run, sheet)
    (line,) = remarks_on(run, gold, "gold.csv")
    assert line == (
        "3 of 5 rows of gold.csv have names that the run does not know, and that count as no: 'itsch' (2 rows, did you "
        "mean 'itch'?), 'rash' (1 row, did you mean 'Rash'?), 'gout' (1 row)."
    )
    assert remarks_on(run, gold[:1], "gold.csv") == ()
    sheet.write_text("patient,text,seen\n1,a,itsch\n2,b,rash\n")
    with pytest.raises(InputError, match=r"label some, or correct 'itsch' \(1 row, did you mean 'itch'\?\), 'rash'"):
        read_labels(run, sheet)


def test_no_text_is_kept(run: Run, tmp_path: Path) -> None:
    evaluate_gold(run, read_labels(run, sheet(tmp_path / "gold.csv", run)), "gold.csv")
    page = run.folder.read(write_report(run)).decode()
    assert "By people" in page
    for path in Path(run.folder.uri, "results").rglob("*"):
        assert not path.is_file() or MARKER.encode() not in path.read_bytes(), path
    table = pd.read_csv(Path(run.folder.uri, "results", "gold.csv"))
    found = read_gold_results(run)
    assert found is not None
    assert len(table) == len(gold_table(found)) == len(found.models) * (1 + len(run.symptoms))


def test_evaluate_judges_by_gold_and_says_so_once_a_later_model_is_not_judged(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sheet(tmp_path / "gold.csv", run)
    assert main(["evaluate", run.folder.uri, "--gold", str(path), "--seeds", "1"]) == 0
    printed = capsys.readouterr().out
    assert "Against people's labels of 60 texts" in printed
    assert "less the rules" in " ".join(printed.split())
    assert MARKER not in printed
    found, name = read_gold_results(run), run.best("baseline", 1)[0].name
    assert found is not None
    others = {model: of for model, of in found.models.items() if model != name}
    write_result(run, "results/gold.json", dataclasses.replace(found, models=others))
    assert f"{name} came later" in run.folder.read(write_report(open_run(run.folder))).decode()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("text,affirmed,negated\nhas fever,,fever\nno pain,,pain\n", "no row affirms one of the run's symptoms"),
        ("text,affirmed\nhas fever,fever\n", "has no column negated"),
        ("text,affirmed,negated\nhas fever,blorb,\n", "no concept .blorb."),
        ("text,affirmed,negated,patient\nhas fever,fever,,1\nhas fever,fever,,1\n", "all rows are of one patient"),
    ],
)
def test_a_table_that_cannot_judge_is_refused(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, says: str
) -> None:
    path = tmp_path / "gold.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=says):
        read_labels(run, path)
    assert main(["evaluate", run.folder.uri, "--gold", str(path), "--seeds", "1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("symptune: error:")
    assert str(path) in error
    assert not Path(run.folder.uri, "results", "gold.json").exists()
