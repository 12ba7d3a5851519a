"""A tiny model folder, and runs of seconds with it."""

import io
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from analysis.evaluation.evaluate import evaluate
from run_folder.folder import Folder
from run_folder.run import Run, open_run
from run_folder.settings import RunSettings
from search_spaces import STRATEGIES
from tests.conftest import VOCABULARY, tiny_model
from tune_jobs.check_settings import run_settings
from tune_jobs.execution import Execution
from tune_jobs.preparing.create_run import Prepared, create_run
from tune_jobs.searching.run_search import search

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


FAST = {strategy: {"batch_size": 32} for strategy in STRATEGIES}


def settings_for(model_folder: Path, **changes: object) -> RunSettings:
    """Settings of a run of seconds."""
    values = {
        "patients": 50, "model": str(model_folder), "max_length": 40, "trials": 5, "epochs": 3, "space": FAST,
        "task": "multiclass", "cycles": 0,
    }  # fmt: skip
    return run_settings(**{**values, **changes})  # type: ignore[arg-type]


def quiet() -> Console:
    """A console that writes to memory."""
    return Console(file=io.StringIO(), width=100)


@dataclass(frozen=True)
class FinishedRun:
    """A searched and evaluated run, what its trials received, and what was printed."""

    run: Run
    prepared: Prepared
    printed: str


def finished_run(folder: Folder, settings: RunSettings, top: int = 1) -> FinishedRun:
    """Search and evaluate on a local cluster."""
    prepared = create_run(folder, settings, workers=1)
    console = quiet()
    search(folder, settings, prepared, Execution(), console)
    run = open_run(folder)
    evaluate(run, top)
    assert isinstance(console.file, io.StringIO)
    return FinishedRun(run, prepared, console.file.getvalue())
