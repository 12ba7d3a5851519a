"""Examples with their symptom hidden, renamed or denied."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from clinical_notes.annotate import Annotator, annotate_notes
from clinical_notes.examples import SPLITS, make_examples
from clinical_notes.lexicon import load_lexicon
from clinical_notes.mentions import MentionFinder
from clinical_notes.notes import read_notes
from clinical_notes.rewrites import Rewriter, unseen_forms
from run_folder.settings import LabelSettings

FIVE = ("edema", "pain", "cough", "fever", "bleeding")


@pytest.fixture(scope="module")
def rewriter() -> Rewriter:
    return Rewriter(load_lexicon(), FIVE)


@pytest.fixture(scope="module")
def units(notes: Path) -> pa.Table:
    return pa.concat_tables(annotate_notes(read_notes(notes), Annotator(load_lexicon(), "sentence")))


@pytest.fixture(scope="module")
def examples(units: pa.Table) -> pd.DataFrame:
    splits = make_examples(units, LabelSettings(task="multiclass")).splits
    return pd.concat([splits[split] for split in SPLITS], ignore_index=True)


def test_masking_is_that_of_the_masked_run(rewriter: Rewriter, examples: pd.DataFrame, units: pa.Table) -> None:
    splits = make_examples(units, LabelSettings(task="multiclass", mentions="mask")).splits
    expected = pd.concat([splits[split] for split in SPLITS], ignore_index=True)["text"]
    masked = [
        rewriter.masked(text, symptom) for text, symptom in zip(examples["text"], examples["symptom"], strict=True)
    ]
    # A hyphen at the end of a line hides a longer form from the rules that read the note as written.
    assert sum(a == b for a, b in zip(masked, expected, strict=True)) >= 0.99 * len(expected)


@pytest.mark.parametrize(
    ("text", "symptom", "expected"),
    [
        ("fever", "fever", "no fever"),
        ("pt has fever since monday", "fever", "pt denies fever since monday"),
        ("reports a severe pain in the left leg", "pain", "denies a severe pain in the left leg"),
        ("she complains of mild cough", "cough", "she denies mild cough"),
        ("pt was febrile overnight", "fever", "pt was not febrile overnight"),
        (
            "the edema persists and the edema of the hands too",
            "edema",
            "no edema persists and no edema of the hands too",
        ),
        ("denies cough but has fever", "fever", "denies cough but denies fever"),
        ("2 pitting edema of both legs", "edema", "2 no pitting edema of both legs"),
        ("denies fever", "fever", None),
        ("nothing of the kind", "fever", None),
    ],
)
def test_a_symptom_is_denied(rewriter: Rewriter, text: str, symptom: str, expected: str | None) -> None:
    assert rewriter.negated(text, symptom) == expected


def test_the_rules_find_the_denied_symptom_denied_and_most_texts_can_be_denied(
    rewriter: Rewriter, examples: pd.DataFrame
) -> None:
    finder = MentionFinder(load_lexicon())
    denied = [rewriter.negated(*of) for of in zip(examples["text"], examples["symptom"], strict=True)]
    for text, symptom in zip(denied, examples["symptom"], strict=True):
        if text is not None:
            found = {m.assertion for m in finder.find(text) if m.concept == symptom}
            assert "negated" in found
            assert "affirmed" not in found
    assert denied.count(None) < 0.1 * len(denied)


def test_a_new_name_is_one_that_training_never_showed(rewriter: Rewriter) -> None:
    lexicon = load_lexicon()
    shown = ["fever and chills", "low grade temp", "febrile"]
    forms = unseen_forms(lexicon, "fever", shown)
    assert {"pyrexia", "hyperthermia"} <= set(forms)
    assert not {"fever", "low grade fever", "febrile", "low grade temp"} & set(forms)
    assert unseen_forms(lexicon, "fever", shown, held_back=("pyrexia",)) == ("pyrexia",)
    assert set(unseen_forms(lexicon, "fever", shown, held_back=("low grade fever",))) == set(forms)  # shows fever
    assert rewriter.renamed("no cough but fever today", "fever", ("pyrexia",)) == "no cough but pyrexia today"
    assert rewriter.renamed("fever then fevers", "fever", ("febrile", "pyrexia")) == "pyrexia then pyrexia"
    assert rewriter.renamed("afebrile", "fever", ("pyrexia",)) is None
    assert rewriter.renamed("fever", "fever", ()) is None


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_training_and_validation_never_show_the_forms_held_back(notes: Path, task: str) -> None:
    annotator = Annotator(load_lexicon(), "sentence", whole_share=float(task == "multilabel"))
    units = pa.concat_tables(annotate_notes(read_notes(notes), annotator))
    settings = LabelSettings(task=task)  # type: ignore[arg-type]
    held = make_examples(units, replace(settings, hold_back=2), seed=3)
    free = make_examples(units, settings, seed=3)
    assert set(held.held_back) == set(held.symptoms) == set(free.symptoms)
    forms = [form for of_class in held.held_back.values() for form in of_class]
    assert len(forms) >= 8
    pattern = rf"\b(?:{'|'.join(forms)})\b"
    for split in ("train", "validation"):
        assert not held.splits[split]["text"].str.contains(pattern).any()
        assert free.splits[split]["text"].str.contains(pattern).any()
    assert held.splits["test"].equals(free.splits["test"])
    again = make_examples(units, replace(settings, hold_back=2), seed=3)
    assert again.held_back == held.held_back
    assert again.fingerprint() == held.fingerprint() != free.fingerprint()
