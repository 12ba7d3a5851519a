"""The INT8 grid: how a model is put on it while it is trained."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from run_folder.results import Int8Facts

STATIC = "ptq_static"


@dataclass(frozen=True)
class Int8Options:
    """How a model is put on the INT8 grid.

    Attributes:
        scheme: "ptq_static" fixes the activations' ranges by ``calibration``; any other finds them at each run.
        per_channel: weights have one scale per output feature, not per tensor.
        embeddings: embedding tables are quantized too.
        fp32_share: share of the encoder's Linear layers, the most sensitive, that stay FP32.
        reduce_range: 7-bit weights, on which no CPU's kernels saturate.
        calibration: how a static scheme finds ranges; see ``calibration.activation_ranges``.
        per_token: activations whose ranges are found at each run have one scale per token, as a GPU's kernels have it,
            not one per tensor.
    """

    scheme: str
    per_channel: bool
    embeddings: bool
    fp32_share: float
    reduce_range: bool
    calibration: str = "minmax"
    per_token: bool = False

    @classmethod
    def of(cls, hyperparameters: Mapping[str, Any], *, reduce_range: bool, per_token: bool) -> "Int8Options":
        """As the quantization space names them."""
        return cls(
            scheme=hyperparameters["scheme"],
            per_channel=hyperparameters["per_channel"],
            embeddings=hyperparameters["quantize_embeddings"],
            fp32_share=hyperparameters["fp32_layers"],
            reduce_range=reduce_range,
            calibration=hyperparameters.get("calibration", "minmax"),
            per_token=per_token,
        )

    def facts(self) -> Int8Facts:
        """What the card of a model on this grid says of it."""
        return Int8Facts(
            weight_bits=7 if self.reduce_range else 8,
            per_channel=self.per_channel,
            embeddings=self.embeddings,
            static=self.scheme == STATIC,
        )


class FakeWeight(nn.Module):
    """Symmetric INT8 grid of ONNX Runtime's weights, one scale per output channel or per tensor."""

    def __init__(self, per_channel: bool, reduce_range: bool) -> None:
        super().__init__()
        self.per_channel = per_channel
        self.limit = 64 if reduce_range else 127  # 2 · 255 · 64 < 2¹⁵: kernels without VNNI add two products in 16 bits

    def scale(self, weight: torch.Tensor) -> torch.Tensor:
        """(out,) or () step of the grid."""
        largest = weight.detach().abs()
        largest = largest.amax(dim=1) if self.per_channel else largest.amax()
        return (largest / self.limit).clamp_min(torch.finfo(torch.float32).tiny)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        scale = self.scale(weight)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        if self.per_channel:
            return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -self.limit, self.limit)
        return torch.fake_quantize_per_tensor_affine(weight, scale, zero, -self.limit, self.limit)


class FakeUnsigned(nn.Module):
    """Asymmetric UINT8 grid of ONNX Runtime's activations and embeddings: one scale from the tensor's range with 0.

    Args:
        per_token: one scale from the range of each token's features (the last dimension) with 0.
    """

    def __init__(self, per_token: bool = False) -> None:
        super().__init__()
        self.per_token = per_token

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        rows = tensor.reshape(-1, tensor.shape[-1])
        over = 1 if self.per_token else (0, 1)
        low, high = rows.detach().amin(dim=over).clamp_max(0.0), rows.detach().amax(dim=over).clamp_min(0.0)
        scale = ((high - low) / 255).clamp_min(torch.finfo(torch.float32).tiny)
        zero = (-low / scale).round().clamp(0, 255).to(torch.int32)
        if self.per_token:
            return torch.fake_quantize_per_channel_affine(rows, scale, zero, 0, 0, 255).reshape(tensor.shape)
        return torch.fake_quantize_per_tensor_affine(tensor, scale, zero, 0, 255)


def insert_fake_quantization(
    model: nn.Module, options: Int8Options, fp32_layers: Collection[str]
) -> list[RemovableHandle]:
    """Put Linear layers (weights and inputs) and, if asked, embeddings on the INT8 grid, in place.

    Args:
        fp32_layers: paths of the Linear layers to leave as they are.

    Returns: the hooks to remove again.
    """
    grid = FakeUnsigned(options.per_token)
    hooks = []
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear) and path not in fp32_layers:
            parametrize.register_parametrization(
                module, "weight", FakeWeight(options.per_channel, options.reduce_range)
            )
            hooks.append(module.register_forward_pre_hook(lambda _, inputs: (grid(inputs[0]), *inputs[1:])))
        elif isinstance(module, nn.Embedding) and options.embeddings:
            parametrize.register_parametrization(module, "weight", FakeUnsigned())
    return hooks


def remove_fake_quantization(model: nn.Module, hooks: Sequence[RemovableHandle]) -> None:
    """Leave the trained FP32 weights, which the export then rounds to the same grid."""
    for hook in hooks:
        hook.remove()
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
