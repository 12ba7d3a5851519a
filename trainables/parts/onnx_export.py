"""Export to ONNX and INT8 quantization by ONNX Runtime."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn
from transformers import PreTrainedModel


class _LogitsOnly(nn.Module):
    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def export_onnx(model: PreTrainedModel, path: Path) -> None:
    """Write an FP32 graph with inputs ``input_ids`` and ``attention_mask`` (batch, length), output ``logits``."""
    ids = torch.ones((2, 8), dtype=torch.int64)
    longest = model.config.max_position_embeddings
    dynamic = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=longest - 2)}  # RoBERTa keeps two
    with _quiet():
        torch.onnx.export(
            _LogitsOnly(model.cpu().eval()),  # type: ignore[arg-type]
            (ids, torch.ones_like(ids)),
            path,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamo=True,
            dynamic_shapes={"input_ids": dynamic, "attention_mask": dynamic},
            external_data=False,
            verbose=False,
        )


def quantize_onnx(source: Path, target: Path, *, per_channel: bool, embeddings: bool, reduce_range: bool) -> int:
    """Write the INT8 graph: weights quantized now, activations when it runs. Returns how many weights became 0."""
    with _quiet():
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"] if embeddings else ["MatMul", "Gemm"],
            per_channel=per_channel,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
        )
    return _zeros(onnx.load(target))


def _zeros(model: onnx.ModelProto) -> int:
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    zeros = 0
    for name, array in tensors.items():
        if array.ndim == 2 and name.endswith("_quantized"):
            zero_point = tensors.get(name.removesuffix("_quantized") + "_zero_point")
            zeros += int((array == (0 if zero_point is None else zero_point)).sum())
        elif array.ndim and array.dtype == np.float32:
            zeros += int((array == 0).sum())
    return zeros


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter and the quantizer speak of their own business on every channel they have."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
