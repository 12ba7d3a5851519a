"""Seconds of our training loop against what it replaces: padding to 256, a live teacher, a training per trial.

    python -m benchmarks.training --json training.json

Both sides take turns, epoch by epoch, with the same examples, weights, batch size and threads; what the weights are
costs nothing. Run it on an otherwise idle machine.
"""

import argparse
import contextlib
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, TensorDataset
from transformers import PreTrainedModel, get_scheduler

from analysis.evaluation.costs import machine
from benchmarks.common import add_input_options, in_turn, inputs_of, random_model, start_trial
from clinical_notes.batches import TokenisedExamples, TrialData
from search_spaces import paper_configuration
from trainables import base
from trainables import quantization as quantizing
from trainables.base import TrainSettings, Trial
from trainables.baseline import BaselineTrial
from trainables.distillation import DistillationTrial
from trainables.parts.deployed import deploy_torch, int8_overflows
from trainables.parts.int8 import write_int8 as writing
from trainables.parts.model import encoder
from trainables.parts.model.encoder import EncoderWeights
from trainables.quantization import QuantizationTrial

REACH = {"notes": 3.0, "sentences": 6.0, "distillation": 1.5}
"""Aim: smallest ratio of examples per second."""

Figures = dict[str, Any]


class PlainTrainer:
    """The paper author's loop: every text padded to one length, random batches, AdamW, cosine schedule."""

    def __init__(
        self, data: TrialData, model: PreTrainedModel, padded: int, settings: TrainSettings, values: Mapping[str, Any]
    ) -> None:
        torch.manual_seed(0)
        self.device = settings.device
        self.model: Any = EncoderWeights.of(model).build().to(torch.device(self.device))
        encoder.set_dropout(self.model, values["dropout"])
        batch = values["batch_size"]
        self.examples = len(data.train)
        self.train = DataLoader(_padded(data.train, padded, data.pad_token_id), batch, shuffle=True)
        self.validation = DataLoader(_padded(data.validation, padded, data.pad_token_id), batch)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=values["learning_rate"], weight_decay=values["weight_decay"]
        )
        self.schedule = get_scheduler(values["lr_schedule"], self.optimizer, 0, settings.epochs * len(self.train))

    def epoch(self) -> float:
        """Train on all examples once, then predict the validation ones; returns the mean training loss."""
        total = 0.0
        self.model.train()
        for ids, mask, labels in self.train:
            loss = self.model(
                input_ids=ids.to(self.device), attention_mask=mask.to(self.device), labels=labels.to(self.device)
            ).loss
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            total += loss.item() * len(labels)
        self.model.eval()
        with torch.no_grad():
            for ids, mask, _ in self.validation:
                self.model(input_ids=ids.to(self.device), attention_mask=mask.to(self.device)).logits.argmax(-1).cpu()
        return total / self.examples


def _padded(examples: TokenisedExamples, width: int, pad_token_id: int) -> TensorDataset:
    ids = np.full((len(examples), width), pad_token_id, np.int64)
    inside = np.arange(width) < examples.lengths[:, None]
    ids[inside] = examples.tokens
    return TensorDataset(
        torch.from_numpy(ids), torch.from_numpy(inside.astype(np.int64)), torch.from_numpy(examples.labels)
    )


class LiveTeacher(DistillationTrial):
    """Distillation whose teacher runs on every batch."""

    reads_teacher_logits = False

    def build_model(self) -> torch.nn.Module:
        self._teacher = self.load_teacher().to(torch.device(self.settings.device)).eval().requires_grad_(False)
        return super().build_model()

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        with torch.no_grad():
            self._live_logits = self._teacher(**batch).logits.float()
        return super().forward(batch)

    def teacher_logits_of(self, index: NDArray[np.int64]) -> torch.Tensor:
        return self._live_logits


def epoch_of(trial: Trial) -> Callable[[], float]:
    """Train an epoch; gives its mean training loss."""
    return lambda: trial.epoch().train_loss


def epochs_of(sides: Mapping[str, Callable[[], float]], data: TrialData, rounds: int) -> Figures:
    figures, losses = in_turn(sides, len(data.train), rounds)
    return {**figures, "train_loss": losses, "mean_length": float(data.train.lengths.mean())}


def padding(data: TrialData, model: PreTrainedModel, padded: int, settings: TrainSettings) -> Figures:
    """Epochs of our baseline and of the plain loop."""
    values = paper_configuration("baseline")
    ours = start_trial(BaselineTrial, values, data, model, settings)
    plain = PlainTrainer(data, model, padded, settings, values)
    sides = {"ours": epoch_of(ours), f"padded to {padded}": plain.epoch}
    return epochs_of(sides, data, settings.epochs)


def distillation(data: TrialData, teacher: PreTrainedModel, settings: TrainSettings, home: Path) -> Figures:
    """Epochs with the teacher's stored logits and with a live teacher; the student has half of its layers."""
    deploy_torch(teacher, home / "teacher" / "deployed", data)
    values = paper_configuration("distillation")
    begun = time.perf_counter()
    stored = start_trial(DistillationTrial, values, data, teacher, settings, home / "teacher")
    first = time.perf_counter() - begun
    live = start_trial(LiveTeacher, values, data, teacher, settings, home / "teacher")
    sides = {"stored logits": epoch_of(stored), "live teacher": epoch_of(live)}
    return {**epochs_of(sides, data, settings.epochs), "first_set_up_seconds": first}


PARTS: Sequence[tuple[str, ModuleType, str]] = (
    ("calibration", writing, "activation_ranges"),
    ("export", writing, "export_onnx"),
    ("export", quantizing, "teacher_graph"),
    ("export", writing, "quantize_onnx"),
    ("evaluation", quantizing, "validation_logits"),
    ("evaluation", writing, "validation_logits"),
    ("evaluation", base, "predict"),
)
"""Name of each part of a trial, and the functions that do it."""
NAMES = ("calibration", "export", "evaluation")

TRIALS = {
    "first PTQ, dynamic": "ptq_dynamic",
    "PTQ dynamic": "ptq_dynamic",
    "PTQ static": "ptq_static",
    "QAT": "qat",
}
"""Trials in order: the first exports the baseline's graph, which the other PTQ trials of its run read."""


@contextlib.contextmanager
def parts_timed() -> Iterator[dict[str, float]]:
    """Seconds of each of ``PARTS`` within the block."""
    seconds: dict[str, float] = defaultdict(float)

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **more: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments, **more)
            seconds[part] += time.perf_counter() - start
            return result

        return run

    with contextlib.ExitStack() as stack:
        for part, module, name in PARTS:
            stack.enter_context(mock.patch.object(module, name, timed(part, getattr(module, name))))
        yield seconds


def quantization(data: TrialData, model: PreTrainedModel, settings: TrainSettings, home: Path) -> dict[str, Figures]:
    """Whole trials of the same baseline: some that quantize after training, and one that trains for the grid."""
    deploy_torch(model, home / "baseline" / "deployed", data)
    found = {}
    for name, scheme in TRIALS.items():
        values = {**paper_configuration("quantization"), "scheme": scheme}
        start = time.perf_counter()
        with parts_timed() as seconds:
            trial = start_trial(QuantizationTrial, values, data, model, settings, home / "baseline")
            while not trial.is_trained:
                trial.epoch()
            seconds.clear()  # an epoch's validation is part of training
            deployed = trial.deploy(home / name / "deployed")
        found[name] = {
            "epochs": len(trial.results),
            "validation_f1": deployed.validation.f1,
            "seconds": time.perf_counter() - start,
            "parts": {
                "training": sum(epoch.seconds for epoch in trial.results),
                **dict.fromkeys(NAMES, 0.0),
                **seconds,
            },
        }
    return found


def epochs_table(found: Mapping[str, Figures], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in (
        "one epoch of",
        "examples",
        "mean length",
        "ours: examples/s",
        "other side",
        "examples/s",
        "×",
        "reach",
    ):
        table.add_column(column, justify="left" if column in ("one epoch of", "other side") else "right")
    for name, figures in found.items():
        (_, ours), (other, theirs) = figures["examples_per_second"].items()
        table.add_row(
            name, str(figures["examples"]), f"{figures['mean_length']:.0f}", f"{ours:.1f}", other, f"{theirs:.1f}",
            f"{figures['ratio']:.2f}", f"≥ {REACH[name]:g}",
        )  # fmt: skip
    return table


def trials_table(found: Mapping[str, Figures]) -> Table:
    table = Table(title="Whole trials of one baseline, seconds", title_justify="left")
    parts = ("training", *NAMES)
    for column in ("trial", "epochs", *parts, "other", "all", "QAT is ×"):
        table.add_column(column, justify="left" if column == "trial" else "right")
    for name, figures in found.items():
        seconds = [figures["parts"][part] for part in parts]
        table.add_row(
            name, str(figures["epochs"]), *(f"{s:.2f}" for s in (*seconds, figures["seconds"] - sum(seconds))),
            f"{figures['seconds']:.2f}", f"{found['QAT']['seconds'] / figures['seconds']:.1f}",
        )  # fmt: skip
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_input_options(parser)
    parser.add_argument("--padded", type=int, default=256, help="tokens that the plain loop pads to (default 256)")
    parser.add_argument("--teacher-layers", type=int, default=12, help="the student has half of them (default 12)")
    parser.add_argument("--rounds", type=int, default=3, help="epochs of each side (default 3)")
    parser.add_argument("--epochs", type=int, default=5, help="of the trained trial (default 5, as a search's)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where both sides train")
    parser.add_argument(
        "--precision", choices=["auto", "float32", "bfloat16"], default="auto", help="of our forward passes"
    )
    parser.add_argument("--only", default="", help="the comparisons whose names hold this")
    options = parser.parse_args(arguments)
    wanted = [name for name in (*REACH, "quantization") if options.only in name]
    epochs: dict[str, Figures] = {}
    record: dict[str, Any] = {"machine": machine(), "model": options.model, "threads": options.threads}
    settings = TrainSettings(options.rounds, options.threads, options.device, int8_overflows(), options.precision)
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as temporary:
        for name in wanted:
            home = Path(temporary) / name
            data, model, _ = inputs_of(options, "note" if name == "notes" else "sentence", options.padded)
            if name == "quantization":
                record[name] = quantization(data, model, replace(settings, epochs=options.epochs), home)
            elif name == "distillation":
                teacher = random_model(model.config, options.teacher_layers, data.symptoms)
                epochs[name] = distillation(data, teacher, settings, home)
            else:
                epochs[name] = padding(data, model, options.padded, settings)
    record["epochs"] = epochs
    if epochs:
        console.print(epochs_table(epochs, f"{options.model}, {options.threads} threads, {machine()}"))
    if "distillation" in epochs:
        seconds = epochs["distillation"]["first_set_up_seconds"]
        console.print(f"The run's first distillation trial takes {seconds:.1f} s to set up, with the teacher's logits.")
    if "quantization" in record:
        console.print(trials_table(record["quantization"]))
    if options.json:
        options.json.write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
