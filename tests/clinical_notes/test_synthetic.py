"""The generator: same bytes twice, labels as meant, and a task that is no look-up."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import f1_score

from analysis.evaluation.controls import fitted_control
from clinical_notes.annotate import Annotator, annotate_notes
from clinical_notes.examples import make_examples
from clinical_notes.lexicon import load_lexicon
from clinical_notes.mentions import MentionFinder
from clinical_notes.notes import read_notes
from clinical_notes.synthetic import DEFAULT_PATIENTS, synthetic_notes, write_synthetic_notes
from run_folder.settings import LabelSettings


@pytest.mark.parametrize("name", ["n.csv", "n.csv.gz"])
def test_the_same_seed_writes_the_same_bytes(tmp_path: Path, name: str) -> None:
    (tmp_path / "b").mkdir()
    count = write_synthetic_notes(tmp_path / name, patients=8, seed=1)
    write_synthetic_notes(tmp_path / "b" / name, patients=8, seed=1)
    assert (tmp_path / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert 16 <= count <= 48
    write_synthetic_notes(tmp_path / "b" / name, patients=8, seed=2)
    assert (tmp_path / name).read_bytes() != (tmp_path / "b" / name).read_bytes()


def test_notes_look_like_mimics(tmp_path: Path) -> None:
    text = "\n".join(note.text for _, note in synthetic_notes(20, 0))
    for mark in ("[**", "HISTORY OF PRESENT ILLNESS:", "FAMILY HISTORY:", "Pt ", ":30"):
        assert mark in text


def test_the_labeller_reads_what_the_writer_meant() -> None:
    finder = MentionFinder(load_lexicon())
    agreed = total = 0
    assertions: Counter[str] = Counter()
    for _, note in synthetic_notes(60, 5):
        meant = Counter((mention.concept, mention.assertion) for mention in note.mentions)
        agreed += (Counter((m.concept, m.assertion) for m in finder.find(note.text)) & meant).total()
        total += meant.total()
        assertions.update(mention.assertion for mention in note.mentions)
    assert agreed / total > 0.98
    assert 0.25 < assertions["negated"] / total < 0.4


def test_tfidf_does_not_solve_it_and_is_no_guess_either(tmp_path: Path) -> None:
    path = tmp_path / "NOTEEVENTS.csv.gz"
    write_synthetic_notes(path, patients=DEFAULT_PATIENTS, seed=0)
    units = pa.concat_tables(annotate_notes(read_notes(path), Annotator(load_lexicon(), "sentence")))
    examples = make_examples(units, LabelSettings(task="multiclass"))
    train, test = examples.splits["train"], examples.splits["test"]
    places = [examples.symptoms.index(name) for name in train["symptom"]]
    probabilities = fitted_control("control-tfidf", list(train["text"]), np.array(places))(list(test["text"]))
    predicted = np.array(examples.symptoms)[probabilities.argmax(axis=1)]
    assert 0.5 < f1_score(test["symptom"], predicted, average="macro") < 0.85
