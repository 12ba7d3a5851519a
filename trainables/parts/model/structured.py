"""Structured pruning: attention heads and feed-forward neurons, masked a few more at a time and then cut out.

A mask lies on the columns of each layer's two output projections, so that a masked head or neuron contributes
exactly nothing. All state is in the model's buffers, so that a checkpoint of the model carries it.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.utils import prune
from transformers import PreTrainedModel

from trainables.parts.model.encoder import Layer, head_size, layers_of
from trainables.parts.model.surgery import slice_layer

STAGES = 10
"""The pruned ratio rises this many times on its way to the target."""
DECAY = 0.99
"""What a Taylor score keeps of itself from one batch to the next."""
RATIO, SCORE = "pruned_ratio", "taylor_score"
"""Buffers of the model and of each output projection."""


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
"""(groups,) how much each would be missed."""


def heads_of(layer: Layer, size: int) -> Groups:
    return Groups((layer.query, layer.key, layer.value), layer.attention_output, size)


def neurons_of(layer: Layer) -> Groups:
    return Groups((layer.feed_forward_in,), layer.feed_forward_out, 1)


def _groups_of(model: PreTrainedModel) -> Iterator[Groups]:
    size = head_size(model.config)
    for layer in layers_of(model):
        yield heads_of(layer, size)
        yield neurons_of(layer)


# Schedule


def scheduled_ratio(target: float, end: float, done: float) -> float:
    """Ratio that is due: cubic from 0 to ``target`` (Zhu & Gupta 2017, equation 1), in ``STAGES`` equal spans.

    Args:
        end: fraction of training at which the target is reached; 0: at once.
        done: fraction of training done.
    """
    passed = min(done / end, 1.0) if end > 0 else 1.0
    stage = math.floor(passed * STAGES) / STAGES
    return float(target * (1 - (1 - stage) ** 3))


def ratio_of(model: nn.Module) -> torch.Tensor:
    """() float64 ratio to which the model is masked."""
    return model.get_buffer(RATIO)


@dataclass
class RatioSchedule:
    """``scheduled_ratio`` over one training.

    Asks the model for its ratio only where the schedule rises: on a GPU, asking waits for all that is under way.
    """

    target: float
    end: float
    _due: float = field(default=-1.0, init=False)

    def rise(self, model: nn.Module, done: float) -> float | None:
        """The ratio to mask to now; None where the model is masked so far already."""
        ratio = scheduled_ratio(self.target, self.end, done)
        if ratio <= self._due:
            return None
        self._due = ratio
        return ratio if ratio > ratio_of(model) else None


# Masks


def install_mask(linear: nn.Linear, shape: Sequence[int]) -> None:
    """Multiply the weight by a mask of booleans, all kept, wherever it is read; PyTorch's ``prune`` does it.

    Args:
        shape: of the mask: the weight's, or one that broadcasts to it.
    """
    prune.identity(linear, "weight")
    mask = torch.ones(tuple(shape), dtype=torch.bool, device=raw_weight(linear).device)
    linear.register_buffer("weight_mask", mask)  # a byte per entry where prune's own has four per weight


def mask_of(linear: nn.Linear) -> torch.Tensor:
    return linear.get_buffer("weight_mask")


def raw_weight(linear: nn.Linear) -> nn.Parameter:
    """The weight that is trained, under a mask or without one."""
    return linear.get_parameter("weight_orig" if prune.is_pruned(linear) else "weight")


def install_ratio(model: PreTrainedModel) -> None:
    model.register_buffer(RATIO, torch.zeros((), dtype=torch.float64, device=model.device))


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
    """(n,) boolean: all but the ``ratio`` least important, of those ``kept`` so far, and at least one."""
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
    """Squared magnitude of the weights that a removal takes away."""
    rows = [linear.weight.detach().square().sum(dim=1) for linear in groups.inward]
    columns = raw_weight(groups.outward).detach().square().sum(dim=0)
    return torch.stack([*rows, columns]).sum(dim=0).view(-1, groups.size).sum(dim=1)


def taylor(groups: Groups) -> torch.Tensor:
    """Squared change of the loss that a removal makes, to first order, over the last batches.

    It is the squared derivative of the loss by a group's mask, that is, of the sum over its columns of weight times
    gradient (Molchanov et al. 2019, first order, on gates; Michel et al. 2019 take its absolute value for heads).
    Before the first batch it is the magnitude.
    """
    score = groups.outward.get_buffer(SCORE)
    return score if bool(score.any()) else magnitude(groups)


IMPORTANCES: Mapping[str, Importance] = {"magnitude": magnitude, "taylor": taylor}
"""Searched choices."""


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
    """Take the mask away; returns the indices that it kept."""
    kept: list[int] = _kept(groups).nonzero().flatten().tolist()
    prune.remove(groups.outward, "weight")
    delattr(groups.outward, SCORE)
    return kept
