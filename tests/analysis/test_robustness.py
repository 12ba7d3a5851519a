"""The test set read again, and by groups."""

import dataclasses
import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from rich.console import Console
from scipy.stats import binomtest

from analysis.evaluation.controls import CONTROLS
from analysis.evaluation.evaluate import evaluate, read_evaluation
from analysis.evaluation.predictions import Predictions, read_predictions
from analysis.evaluation.robustness import (
    READINGS,
    Reading,
    Subgroup,
    SymptomReading,
    accuracy_interval,
    print_robustness,
    read_robustness,
    readings,
    rewritten,
    sample_of_patients,
    subgroups,
)
from clinical_notes.lexicon import load_lexicon
from clinical_notes.rewrites import Rewriter
from run_folder.folder import Folder
from run_folder.records import to_json
from run_folder.run import Run, open_run
from search_spaces import STRATEGIES
from tests.made_runs import change_run_file
from tests.tiny_runs import FinishedRun

SYMPTOMS = ("cough", "fever", "pain")
NAMES = {"cough": ("tussive",), "fever": ("pyrexia",), "pain": ()}


@pytest.fixture
def copied(finished: FinishedRun, tmp_path: Path) -> Run:
    shutil.copytree(finished.run.folder.uri, tmp_path / "run")
    return open_run(Folder(tmp_path / "run"))


def by_keyword(texts: Sequence[str]) -> NDArray[np.float64]:
    """Says the symptom whose name stands in the text; cough where there is none."""
    named = np.array([[0.8 * (symptom in text) for symptom in SYMPTOMS] for text in texts])
    named[:, 0] += 0.1
    return named / named.sum(axis=1, keepdims=True)


def predicted(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Predictions:
    return Predictions(np.arange(len(labels)), labels, probabilities)


@pytest.fixture
def of_keywords() -> dict[str, Reading]:
    texts = ["pt has fever since monday", "reports fever and chills", "has pain in the left leg", "pt has a cough"]
    examples = pd.DataFrame({"text": texts, "symptom": ["fever", "fever", "pain", "cough"]})
    written = rewritten(examples, Rewriter(load_lexicon(), SYMPTOMS), NAMES)
    labels = np.array([SYMPTOMS.index(name) for name in examples["symptom"]])
    return readings(written, labels, predicted(labels, by_keyword(texts)), by_keyword, SYMPTOMS)


def test_a_model_that_looks_names_up_is_found_out(of_keywords: dict[str, Reading]) -> None:
    assert of_keywords["as_written"].f1 == 1
    for reading in ("masked", "renamed"):
        figures = of_keywords[reading]
        assert figures.per_symptom["fever"] == SymptomReading(examples=2, recall=0, still_says=None)
        assert figures.as_written_same.accuracy == 1
        hidden, shown = figures.symptom_probability, figures.as_written_same.symptom_probability
        assert hidden is not None
        assert shown is not None
        assert hidden < shown
    denied = of_keywords["negated"]
    assert denied.still_says == denied.per_symptom["fever"].still_says == 1
    assert denied.accuracy is denied.f1 is None  # no class is right
    assert denied.symptom_probability == denied.as_written_same.symptom_probability


def test_texts_that_cannot_be_rewritten_are_left_out_and_counted(of_keywords: dict[str, Reading]) -> None:
    renamed = of_keywords["renamed"]  # pain has no other name
    assert (renamed.examples, renamed.left_out) == (3, 1)
    assert renamed.per_symptom["pain"] == SymptomReading(examples=0, recall=None, still_says=None)
    texts = pd.DataFrame({"text": ["[SYMPTOM] since monday"], "symptom": ["fever"]})
    written = rewritten(texts, Rewriter(load_lexicon(), SYMPTOMS), NAMES)
    labels = np.array([1])
    found = readings(written, labels, predicted(labels, np.array([[0.1, 0.7, 0.2]])), by_keyword, SYMPTOMS)
    assert found["as_written"].accuracy == 1
    for reading in READINGS[1:]:
        assert (found[reading].examples, found[reading].left_out, found[reading].f1) == (0, 1, None)
    to_json(found)


def test_a_run_is_read_in_all_ways_and_printed_without_its_texts(copied: Run) -> None:
    found = read_robustness(copied)
    assert found is not None
    assert [model.strategy for model in found.models.values()] == [*STRATEGIES, *CONTROLS]
    examples = copied.examples("test")
    for name, model in found.models.items():
        figures = read_evaluation(copied, name)
        assert figures is not None
        assert model.readings["as_written"].f1 == figures.test.f1
        for reading in model.readings.values():
            assert reading.examples + reading.left_out == len(examples)
            assert sum(of.examples for of in reading.per_symptom.values()) == reading.examples > 0
        of_category = model.subgroups["category"]
        assert sum(group.examples for group in of_category) == len(examples)
        assert all((group.disagreement is None) == (model.strategy == "baseline") for group in of_category)
        for group in of_category:
            assert group.low is not None
            assert group.high is not None
            assert 0 <= group.low <= group.accuracy <= group.high <= 1
    tfidf = found.models["control-tfidf"].readings
    masked, written_f1 = tfidf["masked"].f1, tfidf["as_written"].f1
    assert masked is not None
    assert written_f1 is not None
    assert masked < written_f1  # it relies on names

    console = Console(file=io.StringIO(), width=120)
    print_robustness(copied, console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(strategy in printed for strategy in STRATEGIES)
    written = "".join(
        copied.folder.read(f"results/{name}").decode()
        for name in copied.folder.names("results")
        if name.startswith(("robustness", "subgroups"))
    )
    assert {f"{n}.{e}" for n in ("robustness", "subgroups") for e in ("csv", "json", "md")} <= set(
        copied.folder.names("results")
    )
    assert not any(text in printed + written for text in examples["text"] if len(text) > 20)


def test_a_multilabel_run_is_read_again_where_a_text_reports_one_symptom(finished_multilabel: FinishedRun) -> None:
    run = finished_multilabel.run
    found = read_robustness(run)
    assert found is not None
    assert [model.strategy for model in found.models.values()] == [*STRATEGIES, *CONTROLS]
    assert found.held_back == run.held_back
    assert all(run.held_back.values())
    shown = pd.concat([run.examples(split)["text"] for split in ("train", "validation")])
    for forms in found.renamed_to.values():
        assert forms
        assert not shown.str.contains(rf"\b(?:{'|'.join(forms)})\b").any()
    examples = run.examples("test")
    labels = run.labels(examples) >= 0.5
    alone = labels.sum(axis=1) == 1
    assert 0 < alone.sum() < len(examples)
    for name, model in found.models.items():
        kept = read_predictions(run, name, "test")
        assert kept is not None
        said = kept.said[np.argsort(np.argsort(examples["id"].to_numpy()))]  # as the examples are
        written = model.readings["as_written"]
        assert written.examples == alone.sum()
        assert written.accuracy == pytest.approx((said[alone] == labels[alone]).all(axis=1).mean())
        for place, symptom in enumerate(run.symptoms):
            of_one = alone & labels[:, place]
            assert written.per_symptom[symptom].recall == pytest.approx(said[of_one, place].mean())
        for reading in ("masked", "renamed"):
            again = model.readings[reading]
            assert 0 < again.examples == alone.sum() - again.left_out
            assert again.still_says is None
        denied = model.readings["negated"]
        assert denied.accuracy is denied.f1 is None
        assert denied.still_says is not None
    written_f1, masked_f1 = (found.models["control-tfidf"].readings[name].f1 for name in ("as_written", "masked"))
    assert written_f1 is not None
    assert masked_f1 is not None
    assert masked_f1 < written_f1  # it relies on names
    assert f"({alone.sum():,})" in " ".join(found.notes)


def test_figures_that_are_there_are_kept_and_another_group_size_computes_them_again(copied: Run) -> None:
    path = Path(copied.folder.uri) / "results" / "robustness.json"
    before = path.stat().st_mtime_ns
    evaluate(copied, 1)
    assert path.stat().st_mtime_ns == before

    settings = {**copied.manifest.settings, "strategies": ["pruning"], "group_by": ["UNIT"]}
    change_run_file(copied.folder, settings=settings)  # one strategy, no baseline
    test = copied.examples("test")
    test["category"], test["group_UNIT"] = "", ["ICU" if i % 2 else "ward" for i in range(len(test))]
    test.to_parquet(path.parents[1] / "data" / "test.parquet")
    evaluate(open_run(copied.folder), 1, smallest_group=5)
    found = json.loads(path.read_text())
    (name, *controls) = found["models"]
    assert name.startswith("pruning")
    assert tuple(controls) == CONTROLS
    assert "the notes have no categories" in found["notes"]
    groups = found["models"][name]["subgroups"]
    assert list(groups) == ["UNIT"]
    assert {group["value"] for group in groups["UNIT"]} == {"ICU", "ward"}
    assert all(group["disagreement"] is group["harmed"] is group["helped"] is None for group in groups["UNIT"])


def grouped(
    sizes: dict[str, tuple[int, int]], decide: Callable[[int], int], smallest: int = 20
) -> tuple[Subgroup, ...]:
    """Groups of (examples, patients); the truth is always class 0, the baseline says ``decide(example)``."""
    values = pd.Series([value for value, (n, _) in sizes.items() for _ in range(n)])
    patients = pd.Series([f"{value}{i % of}" for value, (n, of) in sizes.items() for i in range(n)])
    n = len(values)
    says = np.eye(3)[np.zeros(n, int)]
    baseline = np.eye(3)[[decide(i) for i in range(n)]]
    truth = np.zeros(n, np.int64)
    return subgroups(values, patients, predicted(truth, says), predicted(truth, baseline), SYMPTOMS, smallest)


def test_small_groups_and_single_patients_are_taken_together() -> None:
    sizes = {"large": (60, 10), "small": (19, 10), "one patient": (30, 1), "": (20, 4)}
    found = grouped(sizes, decide=lambda i: i % 3)
    assert [(group.value, group.examples, group.patients) for group in found] == [
        ("large", 60, 10),
        ("(empty)", 20, 4),
        ("other (2 groups)", 49, 11),
    ]
    large = found[0]  # always right, where the baseline is in one of three
    assert (large.accuracy, large.helped, large.harmed) == (1, 40, 0)
    assert large.disagreement == pytest.approx(2 / 3)
    assert large.high == 1
    assert large.low is not None
    assert large.low < 0.8  # ten patients


def test_the_interval_is_wilsons_where_examples_of_a_patient_are_no_more_alike_than_others() -> None:
    right = np.array([True] * 160 + [False] * 40)
    alone = pd.Series(range(200))
    wilson = binomtest(160, 200).proportion_ci(method="wilson")
    assert accuracy_interval(right, alone) == pytest.approx((wilson.low, wilson.high), abs=0.003)
    alike = pd.Series(np.arange(200) // 10)
    low, high = accuracy_interval(right, alike)
    assert low is not None
    assert high is not None
    assert high - low > 2.5 * (wilson.high - wilson.low)
    assert accuracy_interval(right, pd.Series(["one"] * 200)) == (None, None)


def test_of_a_large_test_set_whole_patients_are_drawn() -> None:
    patients = pd.Series(np.arange(1000) // 4)
    drawn = sample_of_patients(patients, 101, seed=3)
    assert drawn.sum() == 100
    assert set(patients[drawn]).isdisjoint(patients[~drawn])
    assert not np.array_equal(drawn, sample_of_patients(patients, 101, seed=4))
    assert sample_of_patients(patients, 1000, seed=3).all()


def test_a_category_column_that_may_hold_texts_is_not_grouped_by(copied: Run) -> None:
    test = copied.examples("test")
    test["category"] = "a note of a patient " * 4
    test.to_parquet(Path(copied.folder.uri) / "data" / "test.parquet")
    manifest = dataclasses.replace(copied.manifest, fingerprint="another")
    run = dataclasses.replace(copied, manifest=manifest, settings=copied.settings.changed(strategies=("baseline",)))
    evaluate(run, 1)
    found = read_robustness(run)
    assert found is not None
    assert all(model.subgroups == {} for model in found.models.values())
    assert "a note of a patient" not in to_json(found).decode()
