"""Unstructured pruning: single weights, the smallest ones, masked a few more at a time."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils import prune
from transformers import PreTrainedModel

from trainables.parts.model import encoder
from trainables.parts.model.encoder import Layer
from trainables.parts.model.masks import RATIO, install_mask, install_ratio, mask_of, ratio_of, raw_weight


class Unstructured:
    """Masks the encoder's smallest weights; the deployed model has zeros in their places.

    Args:
        scope: "layer": the same share of each Linear layer; "global": the smallest of all layers together.
    """

    packed = True

    def __init__(self, scope: str) -> None:
        self._scope = scope

    def install(self, model: PreTrainedModel) -> None:
        """Make every weight of the encoder's Linear layers maskable, all kept, in place."""
        install_ratio(model)
        for linear in prunable(model):
            install_mask(linear, linear.weight.shape)

    def learn_importance(self, model: PreTrainedModel) -> None:
        """Nothing: magnitudes are read from the weights themselves."""

    def prune_to(self, model: PreTrainedModel, ratio: float) -> None:
        """Mask the share ``ratio`` of the weights."""
        linears = prunable(model)
        for together in [linears] if self._scope == "global" else [[linear] for linear in linears]:
            mask_smallest(together, ratio)
        ratio_of(model).fill_(ratio)

    def finish(self, model: PreTrainedModel) -> None:
        """Write zeros in place of the masked weights, and remove all that ``install`` installed."""
        delattr(model, RATIO)
        for linear in prunable(model):
            prune.remove(linear, "weight")


def prunable(model: PreTrainedModel) -> list[nn.Linear]:
    """The Linear layers of the encoder; a threshold over all would empty a classifier that is not trained yet."""
    return [getattr(layer, part) for layer in encoder.layers_of(model) for part in Layer.__dataclass_fields__]


@torch.no_grad()
def mask_smallest(linears: Sequence[nn.Linear], ratio: float) -> None:
    """Mask the share ``ratio`` of all weights of these layers, the smallest; those masked before count as 0."""
    magnitudes = [(raw_weight(linear) * mask_of(linear)).abs() for linear in linears]
    together = torch.cat([magnitude.flatten() for magnitude in magnitudes])
    threshold = together.kthvalue(max(1, round(ratio * len(together)))).values
    for linear, magnitude in zip(linears, magnitudes, strict=True):
        mask_of(linear).copy_(magnitude > threshold)
