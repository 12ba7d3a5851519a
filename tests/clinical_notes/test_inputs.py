"""What a model reads when it predicts is what its training examples were."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from transformers import AutoTokenizer

from clinical_notes.annotate import Annotator, annotate_notes
from clinical_notes.examples import make_examples
from clinical_notes.inputs import InputMaker, InputSettings
from clinical_notes.lexicon import load_lexicon
from clinical_notes.notes import read_notes
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
