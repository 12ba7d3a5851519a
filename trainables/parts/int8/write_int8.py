"""The INT8 model that ONNX Runtime's kernels run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from clinical_notes.batches import TrialData
from trainables.parts.agreement import agreement, validation_logits
from trainables.parts.deployed import ONNX_FILE, OnnxRunner, size_of, write_card
from trainables.parts.int8.activation_ranges import activation_ranges, linear_paths
from trainables.parts.int8.grid import STATIC, Int8Options
from trainables.parts.int8.onnx_export import export_onnx, quantize_onnx
from trainables.parts.model import stored


def write_int8(
    model: PreTrainedModel,
    directory: Path,
    data: TrialData,
    options: Int8Options,
    fp32_layers: Sequence[str],
    reference: NDArray[np.float32],
    graph: Path | None = None,
) -> None:
    """Write an FP32 model, whatever its shape, as the INT8 model to deploy.

    Args:
        model: its weights are rounded to the grid now; moved to the CPU if exported.
        directory: exists.
        data: training texts calibrate; validation texts tell how near the INT8 model is to ``reference``.
        fp32_layers: as ``most_sensitive`` chose them, or fewer or more.
        reference: ``validation_logits`` of the model that the INT8 model is compared with: after training on the grid
            the fake-quantized one (how well training simulated the kernels), else the FP32 one (what quantization did).
        graph: what ``export_onnx`` wrote of this very model; None: it is exported now.
    """
    size = size_of(model, data)
    ranges = activation_ranges(model, data, options.calibration) if options.scheme == STATIC else None
    exported, target = directory / "fp32.onnx", directory / ONNX_FILE
    if graph is None:
        export_onnx(model, exported)
    zeros = quantize_onnx(
        graph or exported,
        target,
        [path for path in linear_paths(model) if path not in fp32_layers],
        per_channel=options.per_channel,
        embeddings=options.embeddings,
        reduce_range=options.reduce_range,
        ranges=ranges,
    )
    exported.unlink(missing_ok=True)
    stored.save_config(model, directory)
    write_card(
        directory,
        data,
        replace(size, nonzero_parameters=size.parameters - zeros),
        "onnxruntime",
        ONNX_FILE,
        scheme=options.scheme,
        fp32_layers=fp32_layers,
        agreement=agreement(reference, validation_logits(OnnxRunner(target, torch.get_num_threads()), data), data.task),
        int8=options.facts(),
    )
