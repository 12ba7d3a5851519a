"""Examples of a multilabel task: what is learned from, and whole notes where models are judged."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from clinical_notes.annotate import Annotator, annotate_notes
from clinical_notes.examples import SPLITS, LabelledExamples, make_examples
from clinical_notes.lexicon import load_lexicon
from clinical_notes.notes import read_notes
from clinical_notes.prevalence import deal_silent_patients, is_whole, texts_of_some_patients, training_texts
from run_folder.names import LABEL
from run_folder.settings import LabelSettings

MULTILABEL = LabelSettings(task="multilabel", symptoms=("fever", "cough", "pain"))


def units_of(notes: Path, share: float = 1.0) -> pa.Table:
    annotator = Annotator(load_lexicon(), "sentence", whole_share=share)
    return pa.concat_tables(annotate_notes(read_notes(notes), annotator))


@pytest.fixture(scope="module")
def some_notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each patient has one note of the same six sentences; those of every seventh report nothing."""
    fever, silent = "Has fever and cough. No pain.", "Sleeps well. Eats well."
    texts = [
        f"{silent if i % 7 == 0 else fever} Walks with a cane. Lives with his wife {i}. Pain in leg." for i in range(70)
    ]
    texts = [text.replace(" Pain in leg.", "") if i % 7 == 0 else text for i, text in enumerate(texts)]
    path = tmp_path_factory.mktemp("whole") / "notes.csv"
    pd.DataFrame({"SUBJECT_ID": range(70), "TEXT": texts}).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def examples(some_notes: Path) -> LabelledExamples:
    return make_examples(units_of(some_notes), MULTILABEL)


def labels_of(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[[f"{LABEL}{name}" for name in MULTILABEL.symptoms]]  # type: ignore[union-attr]


def test_a_text_has_every_symptom_that_it_affirms_and_no_other(examples: LabelledExamples) -> None:
    test = examples.splits["test"].set_index("text")
    both = test.filter(like="fever", axis=0).filter(like=LABEL).iloc[0]
    assert both.to_dict() == {f"{LABEL}fever": 1, f"{LABEL}cough": 1, f"{LABEL}pain": 0}
    denied = test.filter(like="no pain", axis=0).filter(like=LABEL)
    assert (denied == 0).all(axis=None)
    assert set(examples.splits["train"]) == {"id", "text", "patient", "category", *labels_of(test).columns}


def test_judged_notes_are_whole_and_patients_without_a_symptom_are_among_them(examples: LabelledExamples) -> None:
    for split in ("validation", "test"):
        frame = examples.splits[split]
        assert frame.groupby("patient").size().isin([4, 5]).all()  # all sentences of a note
    patients = [set(frame["patient"]) for frame in examples.splits.values()]
    assert sum(map(len, patients)) == len(set.union(*patients))
    silent = {str(i) for i in range(0, 70, 7)}
    assert silent & patients[SPLITS.index("test")]


def test_training_has_the_asked_share_of_others_and_denying_ones_are_half_of_them(some_notes: Path) -> None:
    for negatives in (0.5, 1.0):
        settings = LabelSettings(task="multilabel", symptoms=("fever", "cough", "pain"), negatives=negatives)
        train = make_examples(units_of(some_notes), settings).splits["train"]
        reports = (labels_of(train) > 0).any(axis=1)
        assert (~reports).sum() == round(negatives * reports.sum())
        denying = train["text"].str.contains("no pain") & ~reports
        assert denying.sum() == pytest.approx((~reports).sum() / 2, abs=1)


def test_few_test_texts_are_whole_patients(some_notes: Path) -> None:
    settings = LabelSettings(task="multilabel", symptoms=("fever", "cough", "pain"), most_test=100)
    splits = make_examples(units_of(some_notes), settings).splits
    assert len(splits["test"]) <= 100
    assert len(splits["validation"]) <= 50
    assert splits["validation"].groupby("patient").size().isin([4, 5]).all()


def test_patients_of_a_large_table_are_whole_or_mention_a_symptom(some_notes: Path) -> None:
    units = units_of(some_notes, share=0.5).to_pandas()
    mentions = units["mentions"].map(len) > 0
    whole = {name for name in map(str, range(70)) if is_whole(name, 0.5)}
    assert 20 <= len(whole) <= 50
    assert set(units.loc[~mentions, "patient"]) == whole
    examples = make_examples(
        pa.Table.from_pandas(units, schema=units_of(some_notes).schema), MULTILABEL, whole_share=0.5
    )
    for split in ("validation", "test"):
        assert set(examples.splits[split]["patient"]) <= whole


def test_the_same_seed_gives_the_same_examples(some_notes: Path) -> None:
    units = units_of(some_notes)
    first, again, other = (make_examples(units, MULTILABEL, seed=seed).fingerprint() for seed in (0, 0, 1))
    assert first == again != other


def test_silent_patients_are_dealt_by_the_shares_and_groups_stay_together() -> None:
    groups = np.repeat(np.arange(100), 2)  # pairs of patients
    dealt = np.zeros(200, bool)
    dealt[:20] = True
    split = deal_silent_patients(np.where(dealt, 1, 0).astype(np.int8), groups, dealt, (0.7, 0.1, 0.2), seed=0)
    assert (split[:20] == 1).all()
    assert (split.reshape(-1, 2)[:, 0] == split.reshape(-1, 2)[:, 1]).all()
    assert np.bincount(split[20:]).tolist() == [126, 18, 36]


def test_where_nothing_else_is_there_all_others_deny() -> None:
    reports, mentions = np.array([True, False, False, False]), np.array([True, True, True, True])
    random = np.random.default_rng(0)
    assert len(training_texts(reports, mentions, 2.0, random)) == 3
    assert len(training_texts(reports, reports, 10.0, random)) == 4
    assert texts_of_some_patients(np.array([5, 5, 5]), 1, random).all()  # one patient at least
