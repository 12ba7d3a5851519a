"""Size and speed of what compression deploys, against the FP32 model, all run by ONNX Runtime with one thread.

    python -m benchmarks.compression --json compression.json

BERT-base shape with random weights, since neither figure depends on what the weights are. The models take turns in one
process; run it on an otherwise idle machine.
"""

import argparse
import copy
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from analysis.evaluation.costs import machine, time_models
from clinical_notes.batches import TokenisedExamples, TrialData
from run_folder.records import to_plain
from trainables.parts.agreement import validation_logits
from trainables.parts.deployed import ONNX_FILE, OnnxRunner, TorchRunner, int8_overflows
from trainables.parts.int8.grid import Int8Options
from trainables.parts.int8.onnx_export import export_onnx
from trainables.parts.int8.write_int8 import write_int8
from trainables.parts.model import encoder, structured
from trainables.parts.model.student import student_of

VOCABULARY = 28_996
"""The size of Bio_ClinicalBERT's vocabulary."""

REACH = {
    "INT8 dynamic": (0.27, 2.0, 1.6),
    "INT8 static": (0.27, 2.0, 1.6),
    "half of heads and neurons": (0.62, 1.7, 1.7),
    "student, 6 layers": (0.62, 1.85, 1.85),
    "student, 3 layers": (0.42, 3.3, 3.3),
    "6 layers, half pruned, INT8": (0.11, 6.0, 4.5),
}
"""Aims: largest share of bytes, then smallest speed-up with VNNI or AMX, and with AVX2 alone."""


def base_model(layers: int, width: int) -> PreTrainedModel:
    """BERT's shape; its heads are 64 wide."""
    torch.manual_seed(0)
    sizes = {"hidden_size": width, "num_attention_heads": width // 64, "intermediate_size": 4 * width}
    return BertForSequenceClassification(
        BertConfig(vocab_size=VOCABULARY, num_hidden_layers=layers, num_labels=5, **sizes)
    ).eval()


def some_data(length: int) -> TrialData:
    """Random texts, from which static quantization takes its ranges."""
    generator = np.random.default_rng(0)
    texts = TokenisedExamples(
        ids=np.array([str(i) for i in range(16)]),
        tokens=generator.integers(0, VOCABULARY, 16 * length).astype(np.int32),
        offsets=np.arange(17, dtype=np.int64) * length,
        labels=np.zeros(16, np.int64),
    )
    return TrialData(texts, texts, ("a", "b", "c", "d", "e"), None, pad_token_id=0, unknown_token_id=100)


def half_pruned(model: PreTrainedModel) -> PreTrainedModel:
    pruned = copy.deepcopy(model)
    structured.install_masks(pruned)
    structured.update_masks(pruned, 0.5, structured.magnitude)
    structured.cut(pruned)
    return pruned


def student(model: PreTrainedModel, depth: int) -> PreTrainedModel:
    return student_of(model, depth_ratio=depth / len(encoder.layer_list(model)), layers="spread")


def artifacts(model: PreTrainedModel, data: TrialData) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Name and how to write it into a folder."""
    depth = len(encoder.layer_list(model))

    def options(scheme: str) -> Int8Options:
        return Int8Options(scheme, per_channel=True, embeddings=True, fp32_share=0.0, reduce_range=int8_overflows())

    def fp32(made: PreTrainedModel) -> Callable[[Path], object]:
        return lambda folder: export_onnx(made, folder / ONNX_FILE)

    def int8(made: PreTrainedModel, scheme: str) -> Callable[[Path], object]:
        reference = validation_logits(TorchRunner(made), data)
        return lambda folder: write_int8(made, folder, data, options(scheme), [], reference)

    yield "FP32", fp32(model)
    yield "INT8 dynamic", int8(model, "ptq_dynamic")
    yield "INT8 static", int8(model, "ptq_static")
    yield "half of heads and neurons", fp32(half_pruned(model))
    yield f"student, {depth // 2} layers", fp32(student(model, depth // 2))
    yield f"student, {depth // 4} layers", fp32(student(model, depth // 4))
    yield f"{depth // 2} layers, half pruned, INT8", int8(half_pruned(student(model, depth // 2)), "ptq_dynamic")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768, help="a multiple of 64")
    parser.add_argument("--length", type=int, default=64, help="tokens of each text")
    parser.add_argument("--seconds", type=float, default=8.0, help="of measuring, per model")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    console = Console(width=110)
    data, model = some_data(options.length), base_model(options.layers, options.width)
    with tempfile.TemporaryDirectory() as temporary:
        files: dict[str, Path] = {}
        for number, (name, write) in enumerate(artifacts(model, data)):
            folder = Path(temporary) / str(number)
            folder.mkdir()
            write(folder)
            files[name] = folder / ONNX_FILE
        sizes = {name: path.stat().st_size for name, path in files.items()}
        models = {name: OnnxRunner(path, threads=1) for name, path in files.items()}
        times = time_models(models, np.full(16, options.length), seconds_per_model=options.seconds)
    vnni = not int8_overflows()
    table = Table(title=f"One text of {options.length} tokens, one thread, {machine()}", title_justify="left")
    for column in ("artifact", "MB", "bytes ×", "reach", "ms", "p95", "faster ×", "reach", "texts/s (32)", "×"):
        table.add_column(column, justify="left" if column == "artifact" else "right")
    record = {}
    for name, found in times.items():
        bytes_ratio = sizes[name] / sizes["FP32"]
        faster = times["FP32"].latency_median / found.latency_median
        throughput = found.throughput / times["FP32"].throughput
        most, with_vnni, without = REACH.get(name, (1.0, 1.0, 1.0))
        least = with_vnni if vnni else without
        table.add_row(
            name, f"{sizes[name] / 1e6:.1f}", f"{bytes_ratio:.3f}", f"≤ {most:g}",
            f"{found.latency_median * 1e3:.1f}", f"{found.latency_p95 * 1e3:.1f}",
            f"{faster:.2f}", f"≥ {least:g}", f"{found.throughput:.0f}", f"{throughput:.2f}",
        )  # fmt: skip
        record[name] = {"bytes": sizes[name], "bytes_ratio": bytes_ratio, "faster": faster, **to_plain(found)}
    console.print(table)
    if options.json:
        options.json.write_text(
            json.dumps({"machine": machine(), "length": options.length, "models": record}, indent=2)
        )


if __name__ == "__main__":
    main()
