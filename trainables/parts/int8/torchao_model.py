"""INT8 on a GPU: torchao's kernels, compiled by torch.compile. Needs the extra ``gpu``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict, unflatten_tensor_state_dict
from torchao.quantization import Int8Tensor, MappingType, PerRow, PerTensor
from torchao.quantization.quantize_.workflows import QuantizeTensorToInt8Kwargs
from transformers import PreTrainedModel

from clinical_notes.batches import TrialData
from trainables.parts.agreement import agreement, validation_logits
from trainables.parts.deployed import TorchRunner, size_of, write_card
from trainables.parts.int8.activation_ranges import Range, activation_ranges, linear_paths
from trainables.parts.int8.grid import STATIC, FakeWeight, Int8Options
from trainables.parts.int8.sensitivity import encoder_linear_paths
from trainables.parts.model import stored

_TILE = 8
"""cuBLAS's INT8 product needs a multiple of eight features, and more than 16 rows."""
_LEAST_LENGTH = 24


class TorchaoRunner(TorchRunner):
    """An INT8 model of torchao's.

    Texts are padded to a multiple of eight tokens, and far enough that one text fills the kernels' smallest batch.
    """

    def logits(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        width = max(_LEAST_LENGTH, -(-input_ids.shape[1] // _TILE) * _TILE)
        padding = ((0, 0), (0, width - input_ids.shape[1]))
        filler = self.model.config.pad_token_id or 0
        return super().logits(
            np.pad(input_ids, padding, constant_values=filler), np.pad(attention_mask, padding, constant_values=0)
        )


def unsupported(model: PreTrainedModel) -> list[str]:
    """Paths of the Linear layers that its INT8 kernels can't run: odd widths, and the head, with one row per text."""
    encoder = set(encoder_linear_paths(model))
    return [path for path in linear_paths(model) if path not in encoder or _odd(model.get_submodule(path))]


def _odd(linear: nn.Module) -> bool:
    assert isinstance(linear, nn.Linear)
    return bool(linear.in_features % _TILE or linear.out_features % _TILE)


def to_int8(
    model: PreTrainedModel, options: Int8Options, fp32_layers: Sequence[str], ranges: Mapping[str, Range] | None
) -> None:
    """Round weights to the INT8 grid, in place, for torchao's kernels.

    Args:
        ranges: of each Linear's inputs, by path; None: each run finds them for each token.
    """
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear) and path not in fp32_layers:
            activations = _Activations(PerRow()) if ranges is None else _fixed_range(ranges[path], module.weight.device)
            module.weight = _frozen(_int8_weight(module.weight, options, activations))
        elif isinstance(module, nn.Embedding) and options.embeddings:
            table = Int8Tensor.from_hp(module.weight.detach(), PerTensor(), MappingType.ASYMMETRIC)
            module.weight = _frozen(table)


def _frozen(tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


@dataclass(frozen=True)
class _Activations:
    """How a layer's inputs are rounded.

    Attributes:
        scale, zero_point: of a fixed range; None: each run finds them for each token.
    """

    granularity: PerRow | PerTensor
    scale: torch.Tensor | None = None
    zero_point: torch.Tensor | None = None


def _int8_weight(weight: torch.Tensor, options: Int8Options, activations: _Activations) -> Int8Tensor:
    scale = FakeWeight(options.per_channel, options.reduce_range).scale(weight).reshape(-1, 1)
    return Int8Tensor.from_hp(
        weight.detach(),
        PerRow() if options.per_channel else PerTensor(),
        scale=scale,
        act_quant_kwargs=QuantizeTensorToInt8Kwargs(activations.granularity, MappingType.ASYMMETRIC),
        act_quant_scale=activations.scale,
        act_quant_zero_point=activations.zero_point,
    )


def _fixed_range(limits: Range, device: torch.device) -> _Activations:
    low, high = limits
    scale = (high - low) / 255 or 1.0
    zero = min(max(round(-128 - low / scale), -128), 127)
    return _Activations(
        PerTensor(),
        torch.full((1, 1, 1), scale, device=device),
        torch.full((1, 1, 1), zero, dtype=torch.int8, device=device),
    )


def write_int8_gpu(
    model: PreTrainedModel,
    directory: Path,
    data: TrialData,
    options: Int8Options,
    fp32_layers: Sequence[str],
    reference: NDArray[np.float32],
) -> None:
    """As ``int8.write_int8``, for torchao's kernels; ``fp32_layers`` hold all that are ``unsupported``."""
    size = size_of(model, data)
    ranges = activation_ranges(model, data, options.calibration) if options.scheme == STATIC else None
    to_int8(model, options, fp32_layers, ranges)
    stored.save_config(model, directory)
    state = model.state_dict()
    int8 = {name: tensor for name, tensor in state.items() if isinstance(tensor, Int8Tensor)}
    tensors, notes = flatten_tensor_state_dict(int8)
    tensors |= {name: tensor for name, tensor in state.items() if name not in int8}
    save_file(
        {name: tensor.cpu().contiguous() for name, tensor in tensors.items()},
        directory / stored.OWN_WEIGHTS_FILE,
        notes,
    )
    zeros = sum(int((tensor.qdata == tensor.zero_point).sum()) for tensor in int8.values())
    zeros += sum(int((tensor == 0).sum()) for name, tensor in model.named_parameters() if name not in int8)
    write_card(
        directory,
        data,
        replace(size, nonzero_parameters=size.parameters - zeros),
        "torchao",
        stored.OWN_WEIGHTS_FILE,
        scheme=options.scheme,
        fp32_layers=fp32_layers,
        agreement=agreement(reference, validation_logits(load_int8(directory, model.device), data), data.task),
        int8=options.facts(),
    )


def load_int8(directory: Path, device: torch.device) -> TorchaoRunner:
    """Read what ``write_int8_gpu`` wrote; on a GPU it is compiled at its first run."""
    with safe_open(directory / stored.OWN_WEIGHTS_FILE, framework="pt", device=str(device)) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        int8, rest = unflatten_tensor_state_dict(tensors, file.metadata())
    model = stored.empty_model(directory).requires_grad_(False)
    model.to(device)  # type: ignore[arg-type]
    model.load_state_dict(int8 | rest, assign=True)
    if device.type == "cuda":
        model.compile(dynamic=True)
    return TorchaoRunner(model)
