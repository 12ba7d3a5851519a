"""Which layers of an encoder lose most precision on the INT8 grid."""

from collections import defaultdict

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from clinical_notes.batches import TrialData
from trainables.parts.int8.activation_ranges import linear_paths, observe
from trainables.parts.int8.grid import FakeUnsigned, FakeWeight, Int8Options
from trainables.parts.model.encoder import layer_list


def encoder_linear_paths(model: PreTrainedModel) -> list[str]:
    """Paths of the Linear modules in the encoder's layers, without those of the head."""
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
