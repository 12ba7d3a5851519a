"""From notes to labelled, split examples."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clinical_notes.annotate import Annotator, annotate_notes
from clinical_notes.examples import SPLITS, LabelledExamples, make_examples
from clinical_notes.lexicon import load_lexicon
from clinical_notes.mentions import MentionFinder
from clinical_notes.notes import read_notes
from clinical_notes.synthetic import write_synthetic_notes
from clinical_notes.units import write_units
from run_folder.errors import InputError
from run_folder.settings import LabelSettings


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    path = tmp_path_factory.mktemp("notes") / "NOTEEVENTS.csv.gz"
    write_synthetic_notes(path, patients=60, seed=4)
    return pd.concat(list(read_notes(path)), ignore_index=True)


def units_of(notes: pd.DataFrame, unit: str = "sentence", workers: int = 1, **options: object) -> pa.Table:
    annotator = Annotator(load_lexicon(), unit, **options)  # type: ignore[arg-type]
    return pa.concat_tables(annotate_notes([notes], annotator, workers))


def frame_of(*texts: str, patients: list[str] | None = None) -> pd.DataFrame:
    n = len(texts)
    return pd.DataFrame(
        {"note": range(n), "patient": patients or [str(i) for i in range(n)], "category": "x", "text": texts}
    )


@pytest.fixture(scope="module")
def sentence_examples(notes: pd.DataFrame) -> LabelledExamples:
    return make_examples(units_of(notes), LabelSettings(task="multiclass"))


def test_examples_carry_the_columns_that_they_are_grouped_by() -> None:
    notes = frame_of(*["Fever. Cough. Has fever again."] * 30).assign(group_SEX=["F", "M"] * 15, group_AGE="40")
    splits = make_examples(
        units_of(notes), LabelSettings(task="multiclass", symptoms=2), group_by=("SEX", "AGE")
    ).splits
    for frame in splits.values():
        assert list(frame["group_SEX"]) == ["FM"[int(patient) % 2] for patient in frame["patient"]]
        assert set(frame["group_AGE"]) == {"40"}
    assert (
        "group_SEX" not in make_examples(units_of(notes), LabelSettings(task="multiclass", symptoms=2)).splits["test"]
    )


def test_no_patient_is_on_two_sides(sentence_examples: LabelledExamples) -> None:
    patients = [set(sentence_examples.splits[split]["patient"]) for split in SPLITS]
    assert sum(map(len, patients)) == len(set.union(*patients))


def test_the_split_has_the_asked_sizes_and_every_symptom_in_proportion(sentence_examples: LabelledExamples) -> None:
    sizes = {split: len(frame) for split, frame in sentence_examples.splits.items()}
    total = sum(sizes.values())
    assert sizes["train"] / total == pytest.approx(0.7, abs=0.08)
    assert sizes["test"] / total == pytest.approx(0.2, abs=0.06)
    shares = [frame["symptom"].value_counts(normalize=True) for frame in sentence_examples.splits.values()]
    for symptom in sentence_examples.symptoms:
        assert max(s[symptom] for s in shares) < 2 * min(s[symptom] for s in shares)


def test_a_sentence_that_affirms_two_symptoms_is_no_example_and_negated_ones_do_not_count() -> None:
    texts = ["Fever and cough today. Edema, no fever. Pain. Cough. Bleeding. Fever."] * 40
    examples = make_examples(units_of(frame_of(*texts)), LabelSettings(task="multiclass"))
    train = examples.splits["train"]
    assert dict(train.drop_duplicates("text")[["text", "symptom"]].to_numpy()) == {
        "edema no fever": "edema",
        "pain": "pain",
        "cough": "cough",
        "bleeding": "bleeding",
        "fever": "fever",
    }


def test_a_note_that_is_given_twice_is_read_once() -> None:
    texts = [f"Visit {i}. Has fever. Has cough." for i in range(40)]
    patients = [str(i) for i in range(40)]
    once = make_examples(units_of(frame_of(*texts, patients=patients)), LabelSettings(task="multiclass", symptoms=2))
    again = [f" {text}\r\n" for text in texts]
    twice = make_examples(
        units_of(frame_of(*texts, *again, patients=patients * 2)), LabelSettings(task="multiclass", symptoms=2)
    )
    assert twice.fingerprint() == once.fingerprint()


@pytest.mark.parametrize("seed", range(5))
def test_patients_who_share_a_note_are_on_one_side(seed: int) -> None:
    """As mother and child, or one person under two identifiers; and whoever shares another note with one of them."""
    texts = [f"Visit {i}. Has fever. Has cough." for i in range(120)]
    shared = {10: texts[0], 11: texts[0], 50: texts[0], 51: texts[1]}
    patients = [str(i) for i in range(120)]
    notes = frame_of(*texts, *shared.values(), patients=[*patients, *map(str, shared)])
    examples = make_examples(units_of(notes), LabelSettings(task="multiclass", symptoms=2), seed=seed)
    side = {patient: split for split in SPLITS for patient in examples.splits[split]["patient"]}
    assert side["0"] == side["10"] == side["11"] == side["50"]
    assert side["1"] == side["51"]
    assert {split: sum(of == split for of in side.values()) for split in SPLITS} == {
        "train": pytest.approx(84, abs=4), "validation": pytest.approx(12, abs=4), "test": pytest.approx(24, abs=4),
    }  # fmt: skip
    assert examples.standard_texts == 0


def test_a_text_that_everybody_has_does_not_tie_all_patients_together() -> None:
    texts = [f"Visit {i}. Has fever. Has cough." for i in range(60)]
    patients = [str(i) for i in range(60)]
    notes = frame_of(*texts, *["Normal ECG. Fever."] * 60, patients=patients * 2)
    examples = make_examples(units_of(notes), LabelSettings(task="multiclass", symptoms=2))
    assert {split: frame["patient"].nunique() for split, frame in examples.splits.items()} == {
        "train": 42, "validation": 6, "test": 12,
    }  # fmt: skip
    assert examples.standard_texts == 1


def test_a_note_is_labelled_by_the_symptom_affirmed_first() -> None:
    texts = ["Denies pain. Has cough. Fever later."] * 25 + ["Fever, then cough."] * 25
    settings = LabelSettings(task="multiclass", unit="note", symptoms=("cough", "fever"))
    examples = make_examples(units_of(frame_of(*texts), "note"), settings)
    assert dict(examples.splits["train"].drop_duplicates("text")[["text", "symptom"]].to_numpy()) == {
        "denies pain has cough fever later": "cough",
        "fever then cough": "fever",
    }
    kept = LabelSettings(task="multiclass", unit="note", symptoms=("pain", "fever"), negated="keep")
    examples = make_examples(units_of(frame_of(*texts), "note"), kept)
    assert set(examples.splits["train"]["symptom"]) == {"pain", "fever"}


def test_the_window_of_a_note_is_cut_at_a_word_and_labels_lie_inside() -> None:
    texts = ["Fever " + "word " * 300 + "cough."] * 40 + ["Cough " + "word " * 300] * 40
    units = units_of(frame_of(*texts), "note", window_chars=100)
    assert all(len(text) <= 100 and text.split()[-1] == "word" for text in units["text"].to_pylist())
    assert {m["concept"] for mentions in units["mentions"].to_pylist() for m in mentions} == {"fever", "cough"}
    assert all(len(mentions) == 1 for mentions in units["mentions"].to_pylist())


def test_the_paper_authors_window_is_the_start_of_the_note_as_written() -> None:
    units = units_of(frame_of("Fever, [**2151-1-1**]: NOT cough " + "x" * 50), "note", window_chars=30, raw_window=True)
    assert units["text"].to_pylist() == ["fever, [**2151-1-1**]: not cou"]


def test_masking_hides_every_class_name(notes: pd.DataFrame) -> None:
    units = units_of(notes)
    masked = make_examples(units, LabelSettings(task="multiclass", mentions="mask"))
    kept = make_examples(units, LabelSettings(task="multiclass"))
    finder = MentionFinder(load_lexicon())
    for frame in masked.splits.values():
        assert frame["text"].str.contains("[SYMPTOM]", regex=False).all()
        assert not {m.concept for text in frame["text"] for m in finder.find(text)} & set(masked.symptoms)
    assert list(masked.splits["test"]["id"]) == list(kept.splits["test"]["id"])


def test_balancing_cuts_every_class_to_the_rarest(notes: pd.DataFrame) -> None:
    examples = make_examples(units_of(notes), LabelSettings(task="multiclass", balance=True))
    for frame in examples.splits.values():
        assert frame["symptom"].value_counts().nunique() == 1


def test_classes_are_chosen_on_the_training_patients_alone(notes: pd.DataFrame) -> None:
    units = units_of(notes)
    reference = make_examples(units, LabelSettings(task="multiclass"))
    test_patients = set(reference.splits["test"]["patient"])
    is_test = [patient in test_patients for patient in units["patient"].to_pylist()]
    # Many more mentions of a rare concept in the test patients alone must not make it a class.
    mentions = units["mentions"].to_pylist()
    rash = {"concept": "rash", "assertion": "affirmed", "start": 0, "end": 1}
    flooded = [
        [*found, *[rash] * 50] if test and any(m["assertion"] == "affirmed" for m in found) else found
        for found, test in zip(mentions, is_test, strict=True)
    ]
    column = pa.array(flooded, type=units.schema.field("mentions").type)
    changed = units.set_column(units.schema.get_field_index("mentions"), "mentions", column)
    assert make_examples(changed, LabelSettings(task="multiclass")).symptoms == reference.symptoms


def test_labels_do_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from tune_jobs.preparing.create_run import make_run_examples
from tune_jobs.check_settings import run_settings
print(make_run_examples(run_settings(task="multiclass", patients=40, seed=3), workers=1).fingerprint())
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed, "PATH": ""}, stdout=subprocess.PIPE
        )
        for seed in ("1", "2")
    ]
    prints = {process.communicate()[0] for process in processes}
    assert len(prints) == 1
    assert prints != {b""}


def test_the_number_of_workers_changes_nothing(notes: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clinical_notes.annotate.ROWS_PER_TASK", 60)
    assert units_of(notes, workers=2).equals(units_of(notes, workers=1))


@pytest.mark.parametrize("unit", ["sentence", "note"])
def test_units_on_the_disk_make_the_same_examples(
    notes: pd.DataFrame, unit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clinical_notes.units._ROWS_PER_BATCH", 97)
    frame = notes.assign(group_SEX="F")
    annotator = Annotator(load_lexicon(), unit)  # type: ignore[arg-type]
    settings = LabelSettings(task="multiclass", unit=unit, mentions="mask", hold_back=2, balance=True)  # type: ignore[arg-type]
    with (tmp_path / "units.parquet").open("w+b") as units:
        write_units(annotate_notes([frame[:50], frame[50:51], frame[51:]], annotator), units)
        assert pq.ParquetFile(units).num_row_groups > 1
        there, here = (make_examples(made, settings, group_by=("SEX",)) for made in (units, units_of(frame, unit)))
    assert (there.symptoms, there.held_back) == (here.symptoms, here.held_back)
    for split in SPLITS:
        pd.testing.assert_frame_equal(there.splits[split], here.splits[split])


def test_the_seed_decides_the_split(notes: pd.DataFrame) -> None:
    units = units_of(notes)
    fingerprints = [
        make_examples(units, LabelSettings(task="multiclass"), seed=seed).fingerprint() for seed in (0, 0, 1)
    ]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


@pytest.mark.parametrize(
    ("texts", "settings", "words"),
    [
        (["Nothing here."] * 30, LabelSettings(task="multiclass"), ["no symptom"]),
        (
            ["Fever. Cough."] * 30,
            LabelSettings(task="multiclass"),
            ["symptoms: 5 were asked for", "only 2", "fever", "cough"],
        ),
        (
            ["Fever. Cough."] * 3,
            LabelSettings(task="multiclass", symptoms=2),
            ["patients that mention a symptom: 3", "at least 10"],
        ),
        (
            ["Fever. Cough."] * 30 + ["Edema."],
            LabelSettings(task="multiclass", symptoms=("fever", "cough", "edema")),
            ["edema (1 examples of 1 patients"],
        ),
        (
            ["Fever. Cough."] * 30,
            LabelSettings(task="multiclass", symptoms=2, split=(0.7, 0.2, 0.2)),
            ["split", "add up to 1"],
        ),
    ],
)
def test_too_little_is_said_with_names_and_counts(texts: list[str], settings: LabelSettings, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        make_examples(units_of(frame_of(*texts)), settings)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_the_choice_of_the_symptoms_says_how_firm_it_is() -> None:
    # Cough leads headache by one patient, so that chance decides between them; nobody else comes near fever.
    texts = [*["Fever. Fever."] * 40, *["Cough."] * 21, *["Headache."] * 20, "Rash."]
    units = units_of(frame_of(*texts))
    settings = LabelSettings(task="multiclass", symptoms=2, split=(0.8, 0.1, 0.1))
    examples = make_examples(units, settings, seed=3)
    choice = examples.choice
    assert choice is not None
    assert choice.shares["fever"] == 1
    (other,) = {"cough", "headache"} & set(examples.symptoms)
    assert 0.3 < choice.shares[other] < 0.95
    assert choice.runner_up in {"cough", "headache"} - {other}
    assert choice.shares[other] + choice.runner_up_share == pytest.approx(1)
    assert not choice.is_firm
    assert choice.in_words().startswith("among the 2 most frequent in 1,000 resamples of the training patients: ")
    assert "fever" not in choice.in_words()
    assert make_examples(units, settings, seed=3).choice == choice
    named = make_examples(
        units, LabelSettings(task="multiclass", symptoms=("fever", "cough"), split=(0.8, 0.1, 0.1)), seed=3
    )
    assert named.choice is None


def test_a_symptom_that_leads_by_far_is_firmly_chosen() -> None:
    texts = [*["Fever."] * 60, *["Cough."] * 40, *["Rash."] * 10]
    choice = make_examples(units_of(frame_of(*texts)), LabelSettings(task="multiclass", symptoms=2), seed=1).choice
    assert choice is not None
    assert choice.is_firm
    assert choice.in_words().endswith("patients: each 100 %; next: rash 0 %")
