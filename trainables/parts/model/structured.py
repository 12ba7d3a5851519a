"""Structured pruning: attention heads and feed-forward neurons, masked a few more at a time and then cut out.

A mask lies on the columns of each layer's two output projections, so that a masked head or neuron contributes
exactly nothing.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import prune
from transformers import PreTrainedModel

from trainables.parts.model.encoder import Layer, head_size, layers_of
from trainables.parts.model.masks import RATIO, install_mask, install_ratio, mask_of, ratio_of, raw_weight
from trainables.parts.model.surgery import slice_layer

DECAY = 0.99
"""The share of a Taylor score that remains after one more batch."""
SCORE = "taylor_score"
"""Name of the buffer of an output projection that holds its Taylor scores."""


@dataclass(frozen=True)
class Groups:
    """The heads, or the feed-forward neurons, of one layer.

    Attributes:
        inward: Linear modules whose rows compute them.
        outward: the output projection, whose columns read them.
        size: rows, and columns, of one.
    """

    inward: tuple[nn.Linear, ...]
    outward: nn.Linear
    size: int


Importance = Callable[[Groups], torch.Tensor]
"""(groups,) importance of each head or neuron."""


def heads_of(layer: Layer, size: int) -> Groups:
    """The attention heads of a layer; ``size`` is that of a head."""
    return Groups((layer.query, layer.key, layer.value), layer.attention_output, size)


def neurons_of(layer: Layer) -> Groups:
    """The feed-forward neurons of a layer."""
    return Groups((layer.feed_forward_in,), layer.feed_forward_out, 1)


def _groups_of(model: PreTrainedModel) -> Iterator[Groups]:
    size = head_size(model.config)
    for layer in layers_of(model):
        yield heads_of(layer, size)
        yield neurons_of(layer)


class Structured:
    """Masks the least important heads and neurons of each layer; the deployed model has them removed.

    Args:
        importance: a key of ``IMPORTANCES``.
    """

    packed = False

    def __init__(self, importance: str) -> None:
        self._importance = importance

    def install(self, model: PreTrainedModel) -> None:
        """Make every head and neuron maskable, all kept, in place."""
        install_masks(model)

    def learn_importance(self, model: PreTrainedModel) -> None:
        """Called when the gradients of a batch are in the model."""
        if self._importance == "taylor":
            accumulate_taylor(model)

    def prune_to(self, model: PreTrainedModel, ratio: float) -> None:
        """Mask the share ``ratio`` of each layer's heads and neurons."""
        update_masks(model, ratio, IMPORTANCES[self._importance])

    def finish(self, model: PreTrainedModel) -> None:
        """Remove the masked heads and neurons, and all that ``install`` installed, in place."""
        cut(model)


# Masks


def install_masks(model: PreTrainedModel) -> None:
    """Make every head and neuron maskable, all kept, in place."""
    install_ratio(model)
    for groups in _groups_of(model):
        columns = groups.outward.in_features
        install_mask(groups.outward, (columns,))
        groups.outward.register_buffer(SCORE, raw_weight(groups.outward).new_zeros(columns // groups.size))


@torch.no_grad()
def update_masks(model: PreTrainedModel, ratio: float, importance: Importance) -> None:
    """Mask the ``ratio`` least important heads and neurons of each layer, those masked before among them."""
    for groups in _groups_of(model):
        kept = keep_most_important(importance(groups), _kept(groups), ratio)
        mask_of(groups.outward).copy_(kept.repeat_interleave(groups.size))
    ratio_of(model).fill_(ratio)


def keep_most_important(importance: torch.Tensor, kept: torch.Tensor, ratio: float) -> torch.Tensor:
    """Keep all except the share ``ratio`` that is least important, and at least one.

    Args:
        importance: (n,).
        kept: (n,) boolean: what is kept so far; the rest is not kept again.

    Returns: (n,) boolean.
    """
    removed = min(int(ratio * len(importance) + 0.5), len(importance) - 1)
    order = torch.argsort(importance.masked_fill(~kept, -math.inf), stable=True)
    still = kept.clone()
    still[order[:removed]] = False
    return still


def _kept(groups: Groups) -> torch.Tensor:
    """(groups,) boolean: not masked."""
    return mask_of(groups.outward)[:: groups.size]


# Importances


def magnitude(groups: Groups) -> torch.Tensor:
    """(groups,) squared magnitude of the weights that removing each group removes."""
    rows = [linear.weight.detach().square().sum(dim=1) for linear in groups.inward]
    columns = raw_weight(groups.outward).detach().square().sum(dim=0)
    return torch.stack([*rows, columns]).sum(dim=0).view(-1, groups.size).sum(dim=1)


def taylor(groups: Groups) -> torch.Tensor:
    """(groups,) squared change of the loss when each is removed, to first order, over the last batches.

    It is the squared derivative of the loss by a group's mask, that is, of the sum over its columns of weight times
    gradient (Molchanov et al. 2019, first order, on gates; Michel et al. 2019 take its absolute value for heads).
    Before the first batch it is the magnitude.
    """
    score = groups.outward.get_buffer(SCORE)
    return score if bool(score.any()) else magnitude(groups)


IMPORTANCES: Mapping[str, Importance] = {"magnitude": magnitude, "taylor": taylor}
"""Choices of the search, by name."""


@torch.no_grad()
def accumulate_taylor(model: PreTrainedModel) -> None:
    """Bring the Taylor scores up to date with a batch whose gradients are in the model."""
    for groups in _groups_of(model):
        weight = raw_weight(groups.outward)
        assert weight.grad is not None
        derivative = (weight * weight.grad).sum(dim=0).view(-1, groups.size).sum(dim=1)
        groups.outward.get_buffer(SCORE).lerp_(derivative.square(), 1 - DECAY)


# Cutting


def cut(model: PreTrainedModel) -> None:
    """Remove the masked heads and neurons, and all that ``install_masks`` installed, in place."""
    delattr(model, RATIO)
    size = head_size(model.config)
    for layer in layers_of(model):
        heads, neurons = (_uninstall(groups) for groups in (heads_of(layer, size), neurons_of(layer)))
        slice_layer(layer, heads, neurons, size)


def _uninstall(groups: Groups) -> list[int]:
    """Remove the mask; returns the indices that it kept."""
    kept: list[int] = _kept(groups).nonzero().flatten().tolist()
    prune.remove(groups.outward, "weight")
    delattr(groups.outward, SCORE)
    return kept
