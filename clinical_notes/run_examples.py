"""What a run was created from: its labelled examples as models read them, its lexicon, and how it reads a text."""

from dataclasses import replace

import numpy as np
from transformers import PreTrainedTokenizerBase

from clinical_notes.batches import TokenisedExamples, tokenise
from clinical_notes.inputs import InputSettings
from clinical_notes.lexicon import Lexicon
from run_folder.errors import InputError
from run_folder.names import LEXICON_FILE, NOTE
from run_folder.records import from_json
from run_folder.run import Run


def tokenised_examples(run: Run, split: str, tokenizer: PreTrainedTokenizerBase) -> TokenisedExamples:
    """The examples of a split, tokenised.

    Args:
        split: train, validation or test.
        tokenizer: of the run's model.
    """
    examples = run.examples(split)
    found = tokenise(
        tokenizer,
        list(examples["id"]),
        list(examples["text"]),
        run.labels(examples),
        run.settings.model.max_length,
    )
    return replace(found, notes=examples[NOTE].to_numpy(np.str_)) if run.settings.labels.in_windows else found


def input_settings(run: Run) -> InputSettings:
    """How the run's models read a text."""
    labels = run.settings.labels
    return InputSettings(
        symptoms=run.symptoms,
        unit=labels.unit,
        window_chars=labels.window_chars,
        raw_window=labels.raw_window,
        mentions=labels.mentions,
        max_length=run.settings.model.max_length,
        lexicon=run_lexicon(run),
        task=labels.task,
        stride=labels.stride,
        note_rule=labels.note_rule,
    )


def run_lexicon(run: Run) -> Lexicon:
    """The lexicon that the run's notes were searched with. Raises: InputError: it is missing or damaged."""
    where = f"{run.folder}: {LEXICON_FILE}"
    try:
        record = from_json(run.folder.read(LEXICON_FILE), dict[str, dict[str, tuple[str, ...]]], where)
        return Lexicon.from_record(record)
    except (FileNotFoundError, TypeError):
        raise InputError(f"{where} is missing or damaged; restore it from a copy of the run") from None
