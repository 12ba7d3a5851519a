"""Weights that are masked a few more at a time while a model is trained: the masks, and when they grow.

All state is in the model's buffers, so that a checkpoint of the model carries it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.utils import prune
from transformers import PreTrainedModel

STAGES = 10
"""Number of steps in which the pruned ratio rises to its target."""
RATIO = "pruned_ratio"
"""Name of the model's buffer that holds the ratio to which it is masked."""


def scheduled_ratio(target: float, end: float, done: float) -> float:
    """The ratio to mask at this point of training.

    It rises from 0 to ``target`` by a cubic (Zhu & Gupta 2017, equation 1), in ``STAGES`` equal stages.

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
    """``scheduled_ratio`` during one training.

    Reads the model's ratio only where the schedule rises: on a GPU, reading it waits for all running kernels.
    """

    target: float
    end: float
    _due: float = field(default=-1.0, init=False)

    def rise(self, model: nn.Module, done: float) -> float | None:
        """The ratio to mask now; None where the model is masked to it already."""
        ratio = scheduled_ratio(self.target, self.end, done)
        if ratio <= self._due:
            return None
        self._due = ratio
        return ratio if ratio > ratio_of(model) else None


def install_mask(linear: nn.Linear, shape: Sequence[int]) -> None:
    """Multiply the weight by a mask of booleans, all kept, wherever it is read; PyTorch's ``prune`` does it.

    Args:
        shape: of the mask: the weight's, or one that broadcasts to it.
    """
    prune.identity(linear, "weight")
    mask = torch.ones(tuple(shape), dtype=torch.bool, device=raw_weight(linear).device)
    linear.register_buffer("weight_mask", mask)  # a byte per entry where prune's own has four per weight


def mask_of(linear: nn.Linear) -> torch.Tensor:
    """The boolean mask of a layer's weight: True where it is kept."""
    return linear.get_buffer("weight_mask")


def raw_weight(linear: nn.Linear) -> nn.Parameter:
    """The weight that is trained, under a mask or without one."""
    return linear.get_parameter("weight_orig" if prune.is_pruned(linear) else "weight")


def install_ratio(model: PreTrainedModel) -> None:
    """Add the buffer with the ratio to which the model is masked, 0."""
    model.register_buffer(RATIO, torch.zeros((), dtype=torch.float64, device=model.device))
