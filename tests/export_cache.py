"""Exports of a model whose like this session has exported are copies with its weights: an export costs seconds."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

_PLAIN = (bool, float, int, str, tuple, type(None))
_TRANSPOSED = ".T"
_NO_PART_OF_A_GRAPH = {
    "_name_or_path", "_use_kernels", "architectures", "dtype", "id2label", "label2id", "name_or_path", "problem_type",
}  # fmt: skip
"""Of modules and their configuration; nor is dropout, since what is exported does not train."""


@dataclass(frozen=True)
class ExportCache:
    """Graphs that ``torch.onnx.export`` wrote, by the digest of all that it was given but the weights' values.

    A graph is kept where each of its weights is a parameter of the model as it is, or transposed; that is noted in the
    weight's description. Another model of the same digest then has the same graph with its own parameters.
    """

    folder: Path
    real: Callable[..., Any] = torch.onnx.export

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Exports of this process go through the cache."""
        with mock.patch.object(torch.onnx, "export", self.export):
            yield

    def export(self, model: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path, **options: Any) -> None:
        if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):
            self.real(model, inputs, path, **options)  # what a hook does no digest tells
            return
        parameters = {name: value.detach().numpy() for name, value in model.named_parameters()}
        kept = self.folder / digest(model, inputs, options, parameters)
        if kept.exists():
            graph = onnx.load_model(kept)
            fill(graph, parameters)
            onnx.save_model(graph, path)
            return
        self.real(model, inputs, path, **options)
        graph = onnx.load_model(path)
        if note_parameters(graph, parameters):
            written = kept.with_suffix(f".{os.getpid()}")  # processes write here next to each other
            written.write_bytes(graph.SerializeToString())
            written.replace(kept)


def note_parameters(model: onnx.ModelProto, parameters: dict[str, NDArray[Any]]) -> bool:
    """Describe each weight by the parameter that it is; whether there is one for all but single numbers."""
    known = {_key(value.T): name + _TRANSPOSED for name, value in parameters.items() if value.ndim == 2}
    known |= {_key(value): name for name, value in parameters.items()}
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR and _is_weight(numpy_helper.to_array(attribute.t)):
                return False
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        name = known.get(_key(array))
        if name is not None:
            tensor.doc_string = name
        elif _is_weight(array):
            return False
    return True


def fill(model: onnx.ModelProto, parameters: dict[str, NDArray[Any]]) -> None:
    """Put these parameters in their places."""
    for tensor in model.graph.initializer:
        if tensor.doc_string:
            value = parameters[tensor.doc_string.removesuffix(_TRANSPOSED)]
            value = value.T if tensor.doc_string.endswith(_TRANSPOSED) else value
            tensor.raw_data = np.ascontiguousarray(value).tobytes()
            tensor.ClearField("doc_string")


def _is_weight(array: NDArray[Any]) -> bool:
    return array.dtype.kind not in "biu" and array.size > 1


def _key(array: NDArray[Any]) -> tuple[str, tuple[int, ...], bytes]:
    return array.dtype.str, array.shape, np.ascontiguousarray(array).tobytes()


def digest(
    model: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    options: dict[str, Any],
    parameters: dict[str, NDArray[Any]],
) -> str:
    """SHA-256 of the modules' settings, configuration and buffers, the example inputs and the options.

    Of the parameters it tells types, shapes, which of them are equal and what a constant one is: the exporter merges
    equal weights, and leaves out what adds 0.
    """
    found = hashlib.sha256(repr((inputs, sorted(options.items()))).encode())
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            assert not module.training
            continue
        config = getattr(module, "config", None)
        described = config.to_dict() | {"attention": config._attn_implementation} if config is not None else {}
        settings = {key: value for key, value in sorted(vars(module).items()) if isinstance(value, _PLAIN)}
        parts = {key: value for key, value in (described | settings).items() if key not in _NO_PART_OF_A_GRAPH}
        parts = {key: parts[key] for key in sorted(parts) if "dropout" not in key}
        found.update(repr((name, type(module), module.extra_repr(), parts)).encode())
    for name, buffer in model.named_buffers():
        found.update(repr((name, buffer.dtype, tuple(buffer.shape))).encode())
        found.update(buffer.detach().contiguous().numpy().tobytes())
    first: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    for name, value in parameters.items():
        constant = float(value.flat[0]) if value.size and (value == value.flat[0]).all() else None
        found.update(repr((name, value.dtype, value.shape, constant, first.setdefault(_key(value), name))).encode())
    return found.hexdigest()
