"""A multilabel run from its launch to labels of new texts."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from transformers import pipeline

import symptune
from analysis.evaluation.gold import RULES, read_gold_results
from run_folder.folder import Folder
from run_folder.run import open_run
from tune_jobs.cli import main

SYMPTOMS = ("edema", "fever", "pain")


def test_a_multilabel_run_says_of_each_symptom_whether_a_text_reports_it(
    notes: Path, model_folder: Path, local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    line = [
        "launch", "--name", "m", "--notes", str(notes), "--model", str(model_folder), "--max-length", "40",
        "--task", "multilabel", "--symptoms", ",".join(SYMPTOMS), "--strategies", "baseline,quantization",
        "--cycles", "0", "--trials", "1", "--epochs", "2", "--seeds", "1",
    ]  # fmt: skip
    assert main(line) == 0
    printed = capsys.readouterr().out
    assert "none, one or several" in printed
    run = open_run(Folder("runs/m"))
    test = run.examples("test")
    labels = run.labels(test)
    assert (labels.sum(axis=1) == 0).mean() > 0.5  # whole notes
    assert set(run.manifest.counts["test"]) == set(SYMPTOMS)
    assert run.examples_by_split["test"] == len(test)

    table = pd.read_csv("runs/m/results/table2.csv")
    assert set(table["symptom"]) == set(SYMPTOMS)
    statistics = json.loads(Path("runs/m/results/statistics.json").read_text())
    answers = np.array(statistics["models"]["baseline-0000"]["confusion"])
    assert (answers.sum(axis=1) == len(test)).all()
    assert answers[:, :2].sum(axis=1).tolist() == [int(n) for n in labels.sum(axis=0)]
    page = Path("runs/m/results/report.html").read_text()
    assert "said, not reported" in page
    assert re.search(r"denied by rule, (baseline|quantization)-0000 still says it in", page)

    gold = "text,affirmed,negated\nHas fever. No pain.,fever,pain\nResting.,,\nEdema and pain.,edema;pain,\n"
    Path("gold.csv").write_text(gold)
    assert main(["evaluate", "m", "--gold", "gold.csv", "--seeds", "1"]) == 0
    judged = read_gold_results(run)
    assert judged is not None
    assert judged.models[RULES].figures["overall"]["accuracy"].point == 1
    assert (judged.models[RULES].still_says.count, judged.models[RULES].silent.count) == (0, 1)

    assert main(["export", "m", "--strategy", "baseline", "--to", "model"]) == 0
    texts = ["Has fever. No pain. The weather is nice today.", "", "Edema of the legs and pain."]
    pd.DataFrame({"TEXT": texts}).to_csv("new.csv", index=False)
    capsys.readouterr()
    for options, out in (([], "of_texts.csv"), (["--sentences"], "of_sentences.parquet")):
        assert main(["predict", "model", "new.csv", "--out", out, *options]) == 0
    assert "2 texts labelled, 1 empty" in capsys.readouterr().err
    of_texts, of_sentences = pd.read_csv("of_texts.csv"), pd.read_parquet("of_sentences.parquet")
    assert list(of_texts) == ["row", *run.symptoms, *(f"probability_{name}" for name in run.symptoms)]
    assert of_texts.loc[1, list(run.symptoms)].isna().all()
    assert of_sentences["row"].tolist() == [0, 0, 0, 2]
    deployed = run.trials["baseline-0000"].deployed
    assert deployed.thresholds is not None
    for name in run.symptoms:
        largest = of_sentences.groupby("row")[f"probability_{name}"].max()
        np.testing.assert_allclose(of_texts[f"probability_{name}"].dropna(), largest, atol=1e-4)
        said = of_sentences[f"probability_{name}"] >= deployed.thresholds[name]
        assert (of_sentences[name] == "yes").tolist() == said.tolist()
    pd.DataFrame({"TEXT": texts, "report": ["r1", "r2", "r3"]}).to_csv("named.csv", index=False)
    assert (
        main(["predict", "model", "named.csv", "--out", "named.out.csv", "--id-column", "report", "--unsure", "1"]) == 0
    )
    named = pd.read_csv("named.out.csv")
    assert named["report"].tolist() == ["r1", "r2", "r3"]
    assert (named.loc[[0, 2], list(run.symptoms)] == "unsure").all(axis=None)

    classify = pipeline("text-classification", model="model", top_k=None, truncation=True)
    (scores,) = classify(["has fever"])
    frame = symptune.load("model").predict(["Has fever."])
    for score in scores:
        assert frame.loc[0, f"probability_{score['label']}"] == pytest.approx(score["score"], abs=1e-4)


def test_a_run_learns_from_labels_that_a_table_has(
    model_folder: Path, local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    words = ["fever", "cough", "zyxmarker pain", "the patient is in the bed"]
    rows = [(i // 2, words[i % 4], float(i % 4 == 0), 0.9 * (i % 4 == 1)) for i in range(160)]
    pd.DataFrame(rows, columns=["patient", "text", "hot", "tussive"]).to_csv("own.csv", index=False)
    line = [
        "launch", "--name", "own", "--notes", "own.csv", "--model", str(model_folder), "--max-length", "40",
        "--unit", "row", "--labels", "hot,tussive", "--task", "multilabel", "--strategies", "baseline",
        "--cycles", "0", "--trials", "1", "--epochs", "3", "--seeds", "1",
    ]  # fmt: skip
    assert main(line) == 0
    assert "labels from hot, labels from tussive" in capsys.readouterr().out
    run = open_run(Folder("runs/own"))
    assert set(run.symptoms) == {"hot", "tussive"}
    assert sum(run.examples_by_split.values()) == 160
    soft = run.examples("train")["label_tussive"]
    assert set(soft.astype(float).round(2)) == {0.0, 0.9}
    gold = pd.DataFrame(rows[:40], columns=["patient", "text", "hot", "tussive"])
    gold.to_csv("gold.csv", index=False)
    assert main(["evaluate", "own", "--gold", "gold.csv", "--seeds", "1"]) == 2  # the very texts of training
    gold.assign(text="again " + gold["text"]).to_csv("gold.csv", index=False)
    assert main(["evaluate", "own", "--gold", "gold.csv", "--seeds", "1"]) == 0
    judged = read_gold_results(run)
    assert judged is not None
    assert RULES not in judged.models
    assert judged.reference == "baseline-0000"
    assert (judged.texts, judged.patients, judged.reported) == (40, 20, {"hot": 10, "tussive": 10})
    assert main(["export", "own", "--to", "model"]) == 0
    assert "from the table (hot, tussive)" in Path("model/README.md").read_text()
    frame = symptune.load("model").predict(["Fever. Cough.", ""])
    assert frame["hot"].isna().tolist() == [False, True]
    assert set(frame.columns) == {"hot", "tussive", "probability_hot", "probability_tussive"}


def test_whole_notes_are_read_in_windows_and_judged_as_notes(
    notes: Path, model_folder: Path, local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    line = [
        "launch", "--name", "w", "--notes", str(notes), "--model", str(model_folder), "--max-length", "24",
        "--stride", "8", "--task", "multilabel", "--unit", "note", "--symptoms", ",".join(SYMPTOMS),
        "--strategies", "baseline", "--cycles", "0", "--trials", "1", "--epochs", "1", "--seeds", "1",
    ]  # fmt: skip
    assert main(line) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "a note is read in windows, and figures are of whole notes" in printed
    run = open_run(Folder("runs/w"))
    test = run.examples("test")
    assert test["note"].nunique() < len(test)
    size = f"test {test['note'].nunique():,} in {len(test):,} windows ({test['patient'].nunique()} patients)"
    assert size in printed
    assert f"test patients, {test['note'].nunique():,} notes" in printed
    assert "symptoms (training windows): " in printed
    page = Path("runs/w/results/report.html").read_text()
    assert f"{test['note'].nunique():,} test in {len(test):,} windows" in page
    assert "Windows by symptom and split" in page
    assert "Examples: " not in page
    predictions = pd.read_parquet("runs/w/results/predictions/baseline-0000.parquet").set_index("id")
    assert sorted(predictions.index) == sorted(test["note"].unique())
    reported = test.groupby("note")[[f"label_{name}" for name in run.symptoms]].max()
    columns = list(reported.columns)
    pd.testing.assert_frame_equal(predictions[columns].sort_index(), reported.sort_index(), check_names=False)
    statistics = json.loads(Path("runs/w/results/statistics.json").read_text())
    assert statistics["examples"] == len(reported)
    robust = json.loads(Path("runs/w/results/robustness.json").read_text())
    assert sum(group["examples"] for group in robust["models"]["baseline-0000"]["subgroups"]["category"]) == len(
        reported
    )

    assert main(["export", "w", "--to", "model"]) == 0
    assert "| split | notes | windows | patients |" in Path("model/README.md").read_text()
    table = pd.read_csv(notes)
    test_notes = table[table.index.astype(str).isin(predictions.index)]
    test_notes.to_csv("test.csv", index=True, index_label="number")
    assert main(["predict", "model", "test.csv", "--out", "out.csv", "--id-column", "number"]) == 0
    out = pd.read_csv("out.csv", dtype={"number": str}).set_index("number")
    for name in run.symptoms:
        column = f"probability_{name}"
        np.testing.assert_allclose(out[column], predictions[column].loc[out.index], atol=1e-5)
