"""Quantization: a real INT8 model, after training (PTQ) or after training for its grid (QAT)."""

from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from trainables.base import StrategyTrainable
from trainables.parts import encoder
from trainables.parts.deployed import ONNX_FILE, deploy_onnx, size_of
from trainables.parts.onnx_export import export_onnx, quantize_onnx


class FakeWeight(nn.Module):
    """Symmetric INT8 grid of ONNX Runtime's weights, one scale per output channel or per tensor."""

    def __init__(self, per_channel: bool, reduce_range: bool) -> None:
        super().__init__()
        self.per_channel = per_channel
        self.limit = 64 if reduce_range else 127

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        largest = weight.detach().abs()
        largest = largest.amax(dim=1) if self.per_channel else largest.amax()
        scale = (largest / self.limit).clamp_min(torch.finfo(torch.float32).tiny)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        if self.per_channel:
            return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -self.limit, self.limit)
        return torch.fake_quantize_per_tensor_affine(weight, scale, zero, -self.limit, self.limit)


class FakeUnsigned(nn.Module):
    """Asymmetric UINT8 grid of ONNX Runtime's activations and embeddings: one scale from the tensor's range with 0."""

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        low, high = tensor.detach().amin().clamp_max(0.0), tensor.detach().amax().clamp_min(0.0)
        scale = ((high - low) / 255).clamp_min(torch.finfo(torch.float32).tiny)
        zero = (-low / scale).round().clamp(0, 255).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(tensor, scale, zero, 0, 255)


def insert_fake_quantization(
    model: nn.Module, *, per_channel: bool, embeddings: bool, reduce_range: bool
) -> list[RemovableHandle]:
    """Put every Linear (weights and inputs) and, if asked, every embedding on the INT8 grid, in place.

    Returns: the hooks to remove again.
    """
    grid = FakeUnsigned()
    hooks = []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            parametrize.register_parametrization(module, "weight", FakeWeight(per_channel, reduce_range))
            hooks.append(module.register_forward_pre_hook(lambda _, inputs: (grid(inputs[0]), *inputs[1:])))
        elif isinstance(module, nn.Embedding) and embeddings:
            parametrize.register_parametrization(module, "weight", FakeUnsigned())
    return hooks


def remove_fake_quantization(model: nn.Module, hooks: list[RemovableHandle]) -> None:
    """Leave the trained FP32 weights, which the export then rounds to the same grid."""
    for hook in hooks:
        hook.remove()
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)


class QuantizationTrainable(StrategyTrainable):
    """``ptq_dynamic`` quantizes the best baseline and trains nothing; ``qat`` trains it on the INT8 grid first."""

    needs_teacher = True

    @property
    def epochs(self) -> int:
        return self.settings.epochs if self.hyperparameters["scheme"] == "qat" else 0

    def build_model(self) -> nn.Module:
        model = self.load_teacher()
        self._hooks: list[RemovableHandle] = []
        if self.epochs:
            encoder.set_dropout(model, self.hyperparameters["dropout"])
            self._hooks = insert_fake_quantization(
                model,
                per_channel=self.hyperparameters["per_channel"],
                embeddings=self.hyperparameters["quantize_embeddings"],
                reduce_range=self.settings.reduce_range,
            )
        return model

    def deploy(self, directory: Path) -> None:
        model = self.model
        assert isinstance(model, PreTrainedModel)
        remove_fake_quantization(model, self._hooks)
        size = size_of(model, self.data)
        full = directory / "fp32.onnx"
        export_onnx(model, full)
        zeros = quantize_onnx(
            full,
            directory / ONNX_FILE,
            per_channel=self.hyperparameters["per_channel"],
            embeddings=self.hyperparameters["quantize_embeddings"],
            reduce_range=self.settings.reduce_range,
        )
        full.unlink()
        deploy_onnx(directory, model, {**size, "nonzero_parameters": size["parameters"] - zeros}, self.data)
