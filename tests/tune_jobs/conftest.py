"""A tiny model folder, and notes of a few synthetic patients."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from clinical_notes.synthetic import write_synthetic_notes
from tests.conftest import VOCABULARY, tiny_model

_WORDS = [
    "fever",
    "fevers",
    "pain",
    "edema",
    "swelling",
    "cough",
    "bleeding",
    "no",
    "denies",
    "but",
    "has",
    "without",
    "reports",
    "and",
    "or",
    "if",
    "pt",
    "the",
    "patient",
    "resolved",
    "mother",
    "had",
    "with",
    "of",
    "for",
    "on",
    "at",
    "in",
    "is",
    "to",
    "he",
    "she",
    "hemorrhage",
    "oozing",
    "discomfort",
    "aching",
    "pyrexia",
    "coughing",
]


def save_tiny_model(folder: Path) -> Path:
    """A BERT of random weights with a word tokenizer, as ``save_pretrained`` leaves them."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: i for i, word in enumerate([*special, *_WORDS])}
    assert len(vocabulary) <= VOCABULARY
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]",
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    tiny_model("bert").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("notes") / "NOTEEVENTS.csv.gz"
    write_synthetic_notes(path, patients=50, seed=1)
    return path
