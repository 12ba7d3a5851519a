"""A smaller model cut out of a teacher's weights; a stock configuration describes it."""

import copy

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from trainables.parts.model import encoder
from trainables.parts.model.structured import heads_of, magnitude, neurons_of

RESIDUAL = "residual"

Axes = tuple[str | None, ...]
"""For each axis of a tensor the name of a width that can be cut, or None (tokens, positions, classes)."""


def student_of(
    teacher: PreTrainedModel, *, depth_ratio: float, layers: str, width_ratio: float = 1.0
) -> PreTrainedModel:
    """A new model with a share of the teacher's layers and width, built from its weights.

    Args:
        depth_ratio: share of its layers, rounded down; at least one is kept.
        layers: which of them: see ``chosen_layers``.
        width_ratio: see ``narrow``.
    """
    depth = len(encoder.layer_list(teacher))
    kept = max(1, int(depth_ratio * depth))
    student = copy.deepcopy(teacher)
    if kept < depth:
        encoder.keep_layers(student, chosen_layers(depth, kept, layers))
    return narrow(student, width_ratio) if width_ratio < 1.0 else student


def chosen_layers(depth: int, student_depth: int, choice: str) -> list[int]:
    """Indices of the teacher's layers that the student copies: ``first``, ``last`` or ``spread`` evenly."""
    if choice == "first":
        return list(range(student_depth))
    if choice == "last":
        return list(range(depth - student_depth, depth))
    return [round(i) for i in np.linspace(0, depth - 1, student_depth)] if student_depth > 1 else [depth - 1]


@torch.no_grad()
def narrow(model: PreTrainedModel, ratio: float) -> PreTrainedModel:
    """A copy, on the CPU, with the share ``ratio`` of attention heads, residual dimensions and feed-forward neurons.

    Heads keep their size, so that there are as many residual dimensions as kept heads times head size. Shares are
    rounded down, but at least one is kept. The most important stay: heads and neurons of each layer, and the
    dimensions between pooler and logits, by the squared magnitude of the weights that their removal removes;
    residual dimensions, which all layers share, as ``residual_importance`` says.

    Raises:
        ValueError: the embeddings' width is not that of the layers (ELECTRA's small models).
    """
    config = narrowed_config(model.config, ratio)
    state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    axes = axes_of(model)
    kept = _kept(model, config, state, axes)
    return encoder.build_model(config, {name: _cut(tensor, axes[name], kept) for name, tensor in state.items()})


def narrowed_config(config: PreTrainedConfig, ratio: float) -> PreTrainedConfig:
    """The stock configuration of ``narrow``'s result; raises as it does."""
    if getattr(config, "embedding_size", config.hidden_size) != config.hidden_size:
        raise ValueError(
            f"embeddings {config.embedding_size} wide before layers {config.hidden_size} wide cannot be narrowed; "
            "narrow the space to smaller_in: depth"
        )
    neurons = encoder.layer_names(config).neurons_option
    narrowed = copy.deepcopy(config)
    narrowed.num_attention_heads = max(1, int(ratio * config.num_attention_heads))
    narrowed.hidden_size = narrowed.num_attention_heads * encoder.head_size(config)
    setattr(narrowed, neurons, max(1, int(ratio * getattr(config, neurons))))
    if hasattr(config, "embedding_size"):
        narrowed.embedding_size = narrowed.hidden_size
    return narrowed


def axes_of(model: PreTrainedModel) -> dict[str, Axes]:
    """The axes of every tensor of the model's state, by its name."""
    linears = _linear_axes(model)
    axes: dict[str, Axes] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            axes[f"{path}.weight"] = (None, RESIDUAL)
        elif isinstance(module, nn.LayerNorm):
            axes[f"{path}.weight"] = axes[f"{path}.bias"] = (RESIDUAL,)
        elif isinstance(module, nn.Linear):
            axes[f"{path}.weight"] = linears[module]
            axes[f"{path}.bias"] = linears[module][:1]
    return axes


def _linear_axes(model: PreTrainedModel) -> dict[nn.Module, Axes]:
    """(written, read) of each Linear module."""
    axes: dict[nn.Module, Axes] = {}
    for number, layer in enumerate(encoder.layers_of(model)):
        heads, neurons = _heads(number), _neurons(number)
        for linear in (layer.query, layer.key, layer.value):
            axes[linear] = (heads, RESIDUAL)
        axes[layer.attention_output] = (RESIDUAL, heads)
        axes[layer.feed_forward_in] = (neurons, RESIDUAL)
        axes[layer.feed_forward_out] = (RESIDUAL, neurons)
    # What is left are the pooler and the classifier's layers: each reads what the one before it wrote.
    *hidden, last = (m for _, m in _in_running_order(model) if isinstance(m, nn.Linear) and m not in axes)
    read = RESIDUAL
    for number, linear in enumerate(hidden):
        axes[linear] = (f"pooled.{number}", read)
        read = f"pooled.{number}"
    axes[last] = (None, read)
    return axes


def _heads(layer: int) -> str:
    return f"heads.{layer}"


def _neurons(layer: int) -> str:
    return f"neurons.{layer}"


def _kept(
    model: PreTrainedModel, config: PreTrainedConfig, state: dict[str, torch.Tensor], axes: dict[str, Axes]
) -> dict[str, torch.Tensor]:
    """Indices to keep of each width, ascending; ``config`` is the narrowed one."""
    size = encoder.head_size(config)
    neurons = getattr(config, encoder.layer_names(config).neurons_option)
    kept: dict[str, torch.Tensor] = {}
    for number, layer in enumerate(encoder.layers_of(model)):
        heads = _largest(magnitude(heads_of(layer, size)).cpu(), config.num_attention_heads)
        kept[_heads(number)] = (heads[:, None] * size + torch.arange(size)).flatten()
        kept[_neurons(number)] = _largest(magnitude(neurons_of(layer)).cpu(), neurons)
    kept[RESIDUAL] = _largest(residual_importance(model, axes).cpu(), config.hidden_size)
    for axis in {axis for names in axes.values() for axis in names if axis is not None} - kept.keys():
        kept[axis] = _largest(_magnitude(axis, state, axes), config.hidden_size)
    return kept


def residual_importance(model: PreTrainedModel, axes: dict[str, Axes]) -> torch.Tensor:
    """(residual dimensions,) squared magnitude of the weights that read each, times the gain that they read it with.

    The gain is that of the layer norm before. Without it the measure misleads: where gains are small, weights are
    large, and a student of those dimensions learns less than one of dimensions drawn at random.
    """
    importance = torch.zeros(model.config.hidden_size, device=model.device)
    for path, module in _in_running_order(model):
        if isinstance(module, nn.LayerNorm):
            gain = module.weight.square()
        elif isinstance(module, nn.Linear) and axes[f"{path}.weight"][1] == RESIDUAL:
            importance += gain * module.weight.square().sum(dim=0)
    return importance


def _in_running_order(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    """Modules by path, the encoder's before the head's; XLM-R and CamemBERT register their head first."""
    encoder_path = f"{model.base_model_prefix}."
    return sorted(model.named_modules(), key=lambda named: not named[0].startswith(encoder_path))


def _magnitude(axis: str, state: dict[str, torch.Tensor], axes: dict[str, Axes]) -> torch.Tensor:
    """(width,) summed squares of the parameters at each index of an axis."""
    sums = [
        tensor.square().movedim(position, 0).reshape(tensor.shape[position], -1).sum(dim=1)
        for name, tensor in state.items()
        for position, found in enumerate(axes[name])
        if found == axis
    ]
    return torch.stack(sums).sum(dim=0)


def _largest(importance: torch.Tensor, n: int) -> torch.Tensor:
    """Indices of the n largest, ascending."""
    return importance.argsort(descending=True, stable=True)[:n].sort().values


def _cut(tensor: torch.Tensor, axes: Axes, kept: dict[str, torch.Tensor]) -> torch.Tensor:
    for position, axis in enumerate(axes):
        if axis is not None:
            tensor = tensor.index_select(position, kept[axis])
    return tensor
