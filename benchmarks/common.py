"""What several benchmarks share: an encoder by name, examples of synthetic or given notes, sides that take turns."""

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from clinical_notes.batches import TrialData, tokenise
from run_folder.errors import InputError
from run_folder.folder import Folder
from run_folder.settings import EMBEDDED_MODEL, SYNTHETIC
from trainables.base import TrainSettings, Trial, TrialConfig
from trainables.parts.model.encoder import EncoderWeights, layer_names
from tune_jobs.check_settings import run_settings
from tune_jobs.preparing.create_run import make_run_examples
from tune_jobs.preparing.pretrained import load_pretrained

T = TypeVar("T")

BERT_BASE = "bert-base"
"""The option's name for BERT-base's shape with random weights, with the embedded encoder's tokenizer."""


def add_input_options(parser: argparse.ArgumentParser) -> None:
    """Options for the encoder, notes, threads and output."""
    parser.add_argument(
        "--model",
        default=EMBEDDED_MODEL,
        help=f"as launch takes it, or {BERT_BASE} for its shape with random weights (default: the embedded MiniLM)",
    )
    parser.add_argument("--layers", type=int, help="cut the encoder to its first layers (default: all)")
    parser.add_argument("--notes", default=SYNTHETIC, help="a table or folder of notes")
    parser.add_argument("--patients", type=int, default=300, help="of the synthetic notes (default 300)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of both sides (default: all cores)")
    parser.add_argument("--json", type=Path, help="write the figures here")


def encoder_of(
    model: str, layers: int | None, symptoms: Sequence[str]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A classifier with a new head, and its tokenizer; a model that does not fit ends the benchmark with a line."""
    if model != BERT_BASE:
        try:
            return load_pretrained(model, layers, symptoms, seed=0)
        except InputError as error:
            raise SystemExit(f"error: {error}") from None
    _, tokenizer = load_pretrained(EMBEDDED_MODEL, 1, symptoms, seed=0)
    return random_model(BertConfig(vocab_size=len(tokenizer)), layers or 12, symptoms), tokenizer


def random_model(config: PreTrainedConfig, layers: int, symptoms: Sequence[str]) -> PreTrainedModel:
    """A classifier of this shape but for its depth."""
    values: dict[str, Any] = {
        **config.to_dict(),
        layer_names(config).depth_option: layers,
        "id2label": dict(enumerate(symptoms)),
        "label2id": {name: label for label, name in enumerate(symptoms)},
    }
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(type(config).from_dict(values))
    return model


def inputs_of(
    options: argparse.Namespace, unit: Literal["note", "sentence"], max_length: int
) -> tuple[TrialData, PreTrainedModel, PreTrainedTokenizerBase]:
    """Training and validation examples of the options' notes, and the options' encoder."""
    settings = run_settings(
        task="multiclass", notes=options.notes, patients=options.patients, unit=unit, split=(0.8, 0.1, 0.1)
    )
    examples = make_run_examples(settings, workers=1)
    model, tokenizer = encoder_of(options.model, options.layers, examples.symptoms)
    frames = examples.splits["train"], examples.splits["validation"]
    return trial_data(*frames, examples.symptoms, tokenizer, max_length), model, tokenizer


def trial_data(
    train: pd.DataFrame,
    validation: pd.DataFrame,
    symptoms: tuple[str, ...],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> TrialData:
    """What a trial sees of these examples."""
    train_examples, validation_examples = (
        tokenise(
            tokenizer,
            list(frame["id"]),
            list(frame["text"]),
            np.array([symptoms.index(name) for name in frame["symptom"]]),
            max_length,
        )
        for frame in (train, validation)
    )
    pad = tokenizer.pad_token_id
    unknown = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else pad
    return TrialData(train_examples, validation_examples, symptoms, None, pad, unknown)


def start_trial(
    cls: type[Trial],
    hyperparameters: Mapping[str, Any],
    data: TrialData,
    model: PreTrainedModel,
    settings: TrainSettings,
    teacher: Path | None = None,
    seed: int = 0,
) -> Trial:
    """A trial of a strategy; ``teacher`` is the folder of its teacher's trial."""
    config = TrialConfig(hyperparameters, seed, Folder(teacher) if teacher else None)
    return cls(config, data, EncoderWeights.of(model), settings)


def in_turn(sides: Mapping[str, Callable[[], T]], examples: int, rounds: int) -> tuple[dict[str, Any], dict[str, T]]:
    """Examples per second of two sides (medians of the rounds), how many times more the first has, last results.

    The side that begins changes from round to round. The ratio is the median of the rounds' ratios.

    Args:
        examples: in each round of each side.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    results: dict[str, T] = {}
    for number in range(rounds):
        for name in list(sides)[:: -1 if number % 2 else 1]:
            start = time.perf_counter()
            results[name] = sides[name]()
            seconds[name].append(time.perf_counter() - start)
    ours, other = (np.array(of_side) for of_side in seconds.values())
    figures = {
        "examples": examples,
        "examples_per_second": {name: examples / float(np.median(s)) for name, s in seconds.items()},
        "ratio": float(np.median(other / ours)),
    }
    return figures, results
