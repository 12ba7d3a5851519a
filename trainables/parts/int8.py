"""INT8: its grid in training, the layers that it hurts most, and the model that ONNX Runtime's INT8 kernels run."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from clinical_notes.batches import TrialData
from trainables.parts.calibration import activation_ranges, linear_paths, observe
from trainables.parts.deployed import ONNX_FILE, Deployed, OnnxDeployed, deploy_onnx, predict, size_of
from trainables.parts.encoder import layer_list
from trainables.parts.onnx_export import export_onnx, quantize_onnx

STATIC = "ptq_static"


@dataclass(frozen=True)
class Int8Options:
    """How a model is put on the INT8 grid.

    Attributes:
        scheme: "ptq_static" fixes the activations' ranges by ``calibration``; any other finds them at each run.
        per_channel: weights have one scale per output feature, not per tensor.
        embeddings: embedding tables are quantized too.
        fp32_share: share of the encoder's Linear layers, the most sensitive, that stay FP32.
        reduce_range: 7-bit weights.
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


class FakeWeight(nn.Module):
    """Symmetric INT8 grid of ONNX Runtime's weights, one scale per output channel or per tensor."""

    def __init__(self, per_channel: bool, reduce_range: bool) -> None:
        super().__init__()
        self.per_channel = per_channel
        self.limit = 64 if reduce_range else 127

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


def encoder_linear_paths(model: PreTrainedModel) -> list[str]:
    """Paths of the Linear modules in the encoder's layers, the head's left out."""
    (prefix,) = (path for path, module in model.named_modules() if module is layer_list(model))
    return linear_paths(model.get_submodule(prefix), prefix)


def sensitivity(model: PreTrainedModel, data: TrialData, options: Int8Options) -> dict[str, float]:
    """Relative squared error of each of the encoder's Linear layers on the INT8 grid, by path.

    ``‖Q(x) Q(W)ᵀ − x Wᵀ‖² / ‖x Wᵀ‖²`` over the calibration batches, each layer seeing the FP32 model's inputs x.
    """
    paths = encoder_linear_paths(model)
    on_grid, inputs_on_grid = FakeWeight(options.per_channel, options.reduce_range), FakeUnsigned(options.per_token)
    noise: defaultdict[str, float] = defaultdict(float)
    signal: defaultdict[str, float] = defaultdict(float)

    def compare(path: str, inputs: torch.Tensor) -> None:
        weight = model.get_submodule(path).weight
        assert isinstance(weight, torch.Tensor)
        exact = functional.linear(inputs, weight)
        error = functional.linear(inputs_on_grid(inputs), on_grid(weight)) - exact
        noise[path] += float(error.square().sum())
        signal[path] += float(exact.square().sum())

    observe(model, paths, data, compare)
    return {path: noise[path] / signal[path] if signal[path] else 0.0 for path in paths}


def most_sensitive(model: PreTrainedModel, data: TrialData, options: Int8Options) -> list[str]:
    """Paths of the Linear layers that ``options.fp32_share`` leaves FP32, most sensitive first; at least one if any."""
    if not options.fp32_share:
        return []
    errors = sensitivity(model, data, options)
    return sorted(errors, key=lambda path: -errors[path])[: max(1, round(options.fp32_share * len(errors)))]


def agreement(reference: NDArray[np.float32], logits: NDArray[np.float32]) -> dict[str, float]:
    """How near two models' logits (n, classes) of the same texts are."""
    return {
        "max_logit_difference": float(np.abs(logits - reference).max()),
        "same_predictions": float((logits.argmax(axis=1) == reference.argmax(axis=1)).mean()),
    }


def validation_logits(deployed: Deployed, data: TrialData) -> NDArray[np.float32]:
    """(n, classes) logits of the validation texts; their labels are not looked at."""
    return predict(deployed.logits, data.validation, data.pad_token_id)


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
        reference: ``validation_logits`` of the model that the INT8 one stands for: after training on the grid the
            fake-quantized one (how well the training foresaw the kernels), else the FP32 one (what quantization did).
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
    deploy_onnx(
        directory,
        model,
        {**size, "nonzero_parameters": size["parameters"] - zeros},
        data,
        scheme=options.scheme,
        fp32_layers=list(fp32_layers),
        agreement=agreement(reference, validation_logits(OnnxDeployed(target, {}, torch.get_num_threads()), data)),
    )
