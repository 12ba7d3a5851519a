"""Sentences per second of ``symptune predict`` with an INT8 model, against a transformers pipeline with the FP32 one.

    python -m benchmarks.prediction --json prediction.json

A baseline is trained briefly and quantized (dynamically, embeddings too). The sides take turns, part by part. Ours
reads a CSV file, cleans, labels and writes a CSV file; the pipeline gets the same sentences, cleaned, as a list in
memory, in batches of 32. Run it on an otherwise idle machine.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedTokenizerBase, pipeline

from analysis.evaluation.costs import machine
from analysis.models.export import FORMAT, INPUT_FILE, METRICS_FILE
from analysis.models.label_texts import ExportedModel, LabelFormat, label, rows_of_file, writer_to
from benchmarks.common import add_input_options, in_turn, inputs_of, start_trial
from clinical_notes.annotate import cleaned_sentences
from clinical_notes.inputs import InputSettings
from clinical_notes.lexicon import load_lexicon
from clinical_notes.mentions import MentionFinder
from clinical_notes.notes import read_notes
from clinical_notes.synthetic import synthetic_notes
from clinical_notes.tables.columns import TEXTS_ALONE, NoteColumns
from run_folder.names import DEPLOYED
from run_folder.settings import SYNTHETIC
from search_spaces import paper_configuration
from trainables.base import TrainSettings, Trial
from trainables.baseline import BaselineTrial
from trainables.parts.deployed import PREDICT_BATCH, int8_overflows, sha256
from trainables.quantization import QuantizationTrial

REACH = 5.0
"""Aim: smallest ratio of sentences per second."""
MAX_LENGTH = 128
"""The default of ``launch --max-length``."""


def sentences_of(notes: str, count: int) -> list[str]:
    """``count`` cleaned sentences; if a file has fewer, they are repeated."""
    finder = MentionFinder(load_lexicon(None))

    def cleaned() -> Iterator[str]:
        texts = (
            (note.text for _, note in synthetic_notes(count, seed=1))
            if notes == SYNTHETIC
            else (text for frame in read_notes(notes, columns=NoteColumns(patient=None)) for text in frame["text"])
        )
        return (sentence for text in texts for _, sentence, _ in cleaned_sentences(text, finder) if sentence)

    found = list(islice(cleaned(), count))
    return list(islice(cycle(found), count))


def make_models(options: argparse.Namespace, home: Path) -> tuple[Path, Path]:
    """Folders of the FP32 baseline and of its INT8 export."""
    data, model, tokenizer = inputs_of(options, "sentence", MAX_LENGTH)
    settings = TrainSettings(epochs=options.epochs, threads=options.threads, reduce_range=int8_overflows())
    values = {**paper_configuration("baseline"), "learning_rate": options.learning_rate}
    finish(start_trial(BaselineTrial, values, data, model, settings), home / "baseline" / DEPLOYED)
    values = {**paper_configuration("quantization"), "scheme": "ptq_dynamic", "quantize_embeddings": True}
    finish(start_trial(QuantizationTrial, values, data, model, settings, home / "baseline"), home / "int8" / DEPLOYED)
    tokenizer.model_max_length = MAX_LENGTH
    tokenizer.save_pretrained(home / "baseline" / "deployed")
    write_export(home / "int8" / "deployed", home / "export", tokenizer, data.symptoms)
    return home / "baseline" / "deployed", home / "export"


def finish(trial: Trial, directory: Path) -> None:
    """Train a trial and deploy it to ``directory``."""
    while not trial.is_trained:
        trial.epoch()
    trial.deploy(directory)


def write_export(deployed: Path, to: Path, tokenizer: PreTrainedTokenizerBase, symptoms: tuple[str, ...]) -> None:
    """As much of an exported folder as labelling reads."""
    shutil.copytree(deployed, to)
    tokenizer.save_pretrained(to)
    settings = InputSettings(symptoms, "sentence", 1000, False, "keep", MAX_LENGTH, load_lexicon(None))
    (to / INPUT_FILE).write_text(json.dumps(settings.record()))
    record = {
        "format": FORMAT,
        "model": json.loads((to / "deployed.json").read_text()),
        "settings": {"reduce_range": int8_overflows()},
        "sha256": {path.name: sha256(path) for path in to.iterdir()},
    }
    (to / METRICS_FILE).write_text(json.dumps(record))


def compare(sentences: list[str], baseline: Path, exported: Path, rounds: int, threads: int) -> dict[str, Any]:
    """Label the sentences by both sides, in ``rounds`` parts."""
    torch.set_num_threads(threads)
    start = time.perf_counter()
    model = ExportedModel(exported, threads)
    ours_start = time.perf_counter() - start
    start = time.perf_counter()
    classify: Any = pipeline("text-classification", model=str(baseline), tokenizer=str(baseline), device="cpu")
    pipeline_start = time.perf_counter() - start
    size = len(sentences) // rounds
    parts = [sentences[number * size : (number + 1) * size] for number in range(rounds)]
    files = [exported.parent / f"part-{number}.csv" for number in range(rounds)]
    for path, part in zip(files, parts, strict=True):
        pd.DataFrame({"TEXT": part}).to_csv(path, index=False)
    ours, theirs = iter(files), iter(parts)
    labels: dict[str, list[str | None]] = {"ours": [], "pipeline": []}

    def predict() -> None:
        path = next(ours)
        with writer_to(path.with_suffix(".out.csv")) as writer:
            label(model, rows_of_file(path, TEXTS_ALONE), writer, LabelFormat())

    def run_pipeline() -> None:
        found = classify(next(theirs), batch_size=PREDICT_BATCH, truncation=True, max_length=MAX_LENGTH)
        labels["pipeline"] += [one["label"] for one in found]

    figures, _ = in_turn({"symptune predict, INT8": predict, "pipeline, FP32": run_pipeline}, size, rounds)
    for path in files:
        labels["ours"] += pd.read_csv(path.with_suffix(".out.csv"))["symptom"].tolist()
    same = sum(a == b for a, b in zip(labels["ours"], labels["pipeline"], strict=True))
    return {
        **figures,
        "rounds": rounds,
        "sentences": len(labels["ours"]),
        "same_symptom": same / len(labels["ours"]),
        "symptoms_named": len(set(labels["pipeline"])),
        "start_seconds": {"symptune predict, INT8": ours_start, "pipeline, FP32": pipeline_start},
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_input_options(parser)
    parser.add_argument("--sentences", type=int, default=100_000, help="to label (default 100,000)")
    parser.add_argument("--rounds", type=int, default=5, help="parts that the sentences are cut into (default 5)")
    parser.add_argument("--epochs", type=int, default=1, help="that the baseline is trained (default 1)")
    parser.add_argument(
        "--learning-rate", type=float, default=3e-4, help="for small encoders (default 3e-4); BERT-base wants 3e-5"
    )
    options = parser.parse_args(arguments)
    sentences = sentences_of(options.notes, options.sentences)
    with tempfile.TemporaryDirectory() as temporary:
        baseline, exported = make_models(options, Path(temporary))
        figures = compare(sentences, baseline, exported, options.rounds, options.threads)
    console = Console(width=120)
    table = Table(title=f"{options.model}, {options.threads} threads, {machine()}", title_justify="left")
    for column in ("side", "sentences", "start, s", "sentences/s", "×", "reach"):
        table.add_column(column, justify="left" if column == "side" else "right")
    for number, (name, rate) in enumerate(figures["examples_per_second"].items()):
        ratio, reach = ("", "") if number else (f"{figures['ratio']:.2f}", f"≥ {REACH:g}")
        table.add_row(
            name, f"{figures['sentences']:,}", f"{figures['start_seconds'][name]:.2f}", f"{rate:.0f}", ratio, reach
        )  # fmt: skip
    console.print(table)
    named = figures["symptoms_named"]
    console.print(
        f"Both sides give the same symptom to {figures['same_symptom']:.2%} of the sentences; symptoms named: {named}"
        + (" (so that this says nothing: train longer)" if named == 1 else "")
    )
    if options.json:
        options.json.write_text(
            json.dumps({"machine": machine(), "model": options.model, "threads": options.threads, **figures}, indent=2)
        )


if __name__ == "__main__":
    main()
