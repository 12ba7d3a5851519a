"""What a model reads when it predicts is what its training examples were."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from transformers import AutoTokenizer

from clinical_notes.annotate import Annotator, annotate_notes
from clinical_notes.batches import MASK
from clinical_notes.examples import make_examples
from clinical_notes.inputs import InputMaker, InputSettings
from clinical_notes.lexicon import load_lexicon
from clinical_notes.notes import read_notes
from clinical_notes.windows import WindowMaker
from run_folder.settings import LabelSettings


@pytest.mark.parametrize("mentions", ["keep", "mask"])
@pytest.mark.parametrize(("unit", "raw"), [("sentence", False), ("note", False), ("note", True)])
def test_every_training_example_is_made_again(
    notes: Path, model_folder: Path, unit: str, raw: bool, mentions: str
) -> None:
    lexicon = load_lexicon()
    units = pa.concat_tables(
        annotate_notes(read_notes(notes), Annotator(lexicon, unit, window_chars=200, raw_window=raw))  # type: ignore[arg-type]
    )
    examples = make_examples(units, LabelSettings(task="multiclass", unit=unit, mentions=mentions))  # type: ignore[arg-type]
    settings = InputSettings(examples.symptoms, unit, 200, raw, mentions, 40, lexicon)  # type: ignore[arg-type]
    maker = InputMaker(InputSettings.from_record(settings.record()), AutoTokenizer.from_pretrained(model_folder))
    texts = pd.concat(list(read_notes(notes))).set_index("note")["text"]
    train = examples.splits["train"]
    assert len(train) > 100
    for example, text in zip(train["id"], train["text"], strict=True):
        note, _, sentence = example.partition("-")
        if unit == "note":
            assert maker.text(texts[int(note)]) == text
        else:
            assert dict(maker.sentences(texts[int(note)]))[int(sentence)] == text


ROOM, STRIDE = 24, 8


@pytest.mark.parametrize("mentions", ["keep", "mask"])
@pytest.mark.parametrize("unit", ["sentence", "note"])
def test_a_multilabel_model_reads_what_its_examples_were(
    notes: Path, model_folder: Path, unit: str, mentions: str
) -> None:
    """Training has some sentences or windows of a note; validation and test have all, in order."""
    lexicon, tokenizer = load_lexicon(), AutoTokenizer.from_pretrained(model_folder)
    windows = WindowMaker(tokenizer, ROOM, STRIDE) if unit == "note" else None
    annotator = Annotator(lexicon, unit, whole_share=1.0, windows=windows)  # type: ignore[arg-type]
    units = pa.concat_tables(annotate_notes(read_notes(notes), annotator))
    labels = LabelSettings(task="multilabel", unit=unit, mentions=mentions, stride=STRIDE)  # type: ignore[arg-type]
    examples = make_examples(units, labels)
    settings = InputSettings(
        examples.symptoms,
        unit,
        0,
        False,
        mentions,
        ROOM,
        lexicon,
        task="multilabel",
        stride=STRIDE,  # type: ignore[arg-type]
    )
    maker = InputMaker(InputSettings.from_record(settings.record()), tokenizer)
    raw = pd.concat(list(read_notes(notes))).set_index("note")["text"]
    for split, frame in examples.splits.items():
        parts = frame["id"].str.partition("-")
        frame = frame.assign(note=parts[0].astype(int), place=parts[2].astype(int)).sort_values(["note", "place"])
        for note, of_note in frame.groupby("note"):
            read = maker.inputs(raw[note])
            if split != "train":
                assert read == list(of_note["text"])
            elif unit == "note":
                assert [read[place] for place in of_note["place"]] == list(of_note["text"])
            else:
                assert set(of_note["text"]) <= set(read)
        assert frame["note"].nunique() > 4
        assert frame["text"].str.contains(MASK, regex=False).any() == (mentions == "mask")
        assert not frame["text"].str.contains(rf"\b{examples.symptoms[0]}\b").any() or mentions == "keep"
