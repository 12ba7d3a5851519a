"""Export to ONNX and INT8 quantization by ONNX Runtime."""

import ast
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.calibrate import TensorsData, save_tensors_data
from torch import nn
from transformers import PreTrainedModel

from trainables.parts.int8.activation_ranges import Range
from trainables.parts.quiet import quiet

_PRODUCTS = ("MatMul", "Gemm")
_SCOPES = "pkg.torch.onnx.name_scopes"
"""Key under which the exporter notes the modules that a node comes from, outermost first, and its operator last."""


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
    with quiet():
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


def scale_graph(source: Path, target: Path, scale: NDArray[np.float32]) -> None:
    """Write a graph whose logits are those of ``source``, multiplied.

    Args:
        scale: (classes,).
    """
    model = onnx.load(source)
    for node in model.graph.node:
        node.output[:] = ["logits_before_scale" if name == "logits" else name for name in node.output]
        node.input[:] = ["logits_before_scale" if name == "logits" else name for name in node.input]
    model.graph.initializer.append(numpy_helper.from_array(scale, "logit_scale"))
    model.graph.node.append(onnx.helper.make_node("Mul", ["logits_before_scale", "logit_scale"], ["logits"]))
    onnx.save(model, target)


def linear_nodes(graph: onnx.GraphProto, paths: Collection[str]) -> dict[str, onnx.NodeProto]:
    """The matrix product of each Linear module, by the module's path.

    The exporter's notes tell them. The names of weights cannot: it transposes, renames and merges weights.

    Raises:
        ValueError: a module has no product in the graph, or several.
    """
    nodes: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        scopes = [prop.value for prop in node.metadata_props if prop.key == _SCOPES]
        if node.op_type not in _PRODUCTS or not scopes:
            continue
        path = ast.literal_eval(scopes[0])[-2].removeprefix("model.")
        if path in nodes:
            raise ValueError(f"{path} has several products in the exported graph")
        if path in paths:
            nodes[path] = node
    missing = set(paths) - set(nodes)
    if missing:
        raise ValueError(f"{min(missing)} has no product in the exported graph")
    return nodes


def strip_notes(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes: a hundredth of BERT-base's INT8 file, and this machine's paths."""
    del model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]


def quantize_onnx(
    source: Path,
    target: Path,
    linears: Collection[str],
    *,
    per_channel: bool,
    embeddings: bool,
    reduce_range: bool,
    ranges: Mapping[str, Range] | None,
) -> int:
    """Write the INT8 graph of what ``export_onnx`` wrote.

    Attention's products of two activations stay FP32: in INT8 they were no faster, and the logits further off.

    Args:
        linears: paths of the Linear modules to quantize.
        per_channel: one scale per output feature, not per weight.
        embeddings: quantize embedding tables too.
        reduce_range: 7-bit weights.
        ranges: of each Linear's inputs, by path, fixed from now on (static); None: found at each run (dynamic).

    Returns: how many weights became 0.
    """
    model = onnx.load(source)
    nodes = linear_nodes(model.graph, linears)
    kept = {node.name for node in nodes.values()}
    options = {
        "op_types_to_quantize": [*_PRODUCTS, "Gather"] if embeddings else list(_PRODUCTS),
        "nodes_to_exclude": [n.name for n in model.graph.node if n.op_type in _PRODUCTS and n.name not in kept],
        "per_channel": per_channel,
        "reduce_range": reduce_range,
        "weight_type": QuantType.QInt8,
    }
    strip_notes(model)
    if ranges is None:
        with quiet():
            quantize_dynamic(model, target, **options)
        return _zeros(onnx.load(target))
    found = {node.input[0]: tuple(map(np.float32, ranges[path])) for path, node in nodes.items()}
    _quantize_static(model, target, found, options)
    quantized = onnx.load(target)
    _spare_others(quantized.graph, kept, found)
    onnx.save(quantized, target)
    return _zeros(quantized)


def _quantize_static(
    model: onnx.ModelProto, target: Path, ranges: Mapping[str, Sequence[np.float32]], options: Mapping[str, Any]
) -> None:
    """With the given ranges of the products' inputs, by tensor name."""
    with quiet(), tempfile.TemporaryDirectory() as temporary:
        cache = Path(temporary) / "ranges.json"  # its way to be given ranges
        save_tensors_data(TensorsData(CalibrationMethod.MinMax, dict(ranges)), cache)
        quantize_static(
            model,
            target,
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            # FP32 outputs: as fast as INT8 ones, which the addition of the bias would widen again.
            extra_options={"OpTypesToExcludeOutputQuantization": list(_PRODUCTS)},
            calibration_cache_path=cache,
            **options,
        )


def _spare_others(graph: onnx.GraphProto, kept: Collection[str], inputs: Collection[str]) -> None:
    """Let only these products read their rounded inputs: ONNX Runtime gives them to FP32 layers and residuals too."""
    rounded = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    exact = {
        node.output[0]: rounded[node.input[0]]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and rounded.get(node.input[0]) in inputs
    }
    for node in graph.node:
        if node.name not in kept:
            node.input[:] = [exact.get(name, name) for name in node.input]


def _zeros(model: onnx.ModelProto) -> int:
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    zeros = 0
    for name, array in tensors.items():
        if array.ndim == 2 and name.endswith("_quantized"):
            symmetric = array.dtype == np.int8
            zeros += int(
                (array == (0 if symmetric else tensors[name.removesuffix("_quantized") + "_zero_point"])).sum()
            )
        elif array.ndim and array.dtype == np.float32:
            zeros += int((array == 0).sum())
    return zeros
