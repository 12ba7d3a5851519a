"""Pruning: gradual while training (Zhu & Gupta 2017), of heads and neurons (structured) or of single weights."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils import prune
from transformers import PreTrainedModel

from trainables.base import StrategyTrainable
from trainables.parts.deployed import deploy_torch
from trainables.parts.model import encoder, structured
from trainables.parts.model.encoder import Layer
from trainables.parts.model.structured import mask_of, raw_weight


def prunable(model: PreTrainedModel) -> list[nn.Linear]:
    """The Linear layers of the encoder; a threshold over all would empty a classifier that is not trained yet."""
    return [getattr(layer, part) for layer in encoder.layers_of(model) for part in Layer.__dataclass_fields__]


@torch.no_grad()
def mask_smallest(linears: Sequence[nn.Linear], ratio: float) -> None:
    """Mask the ``ratio`` smallest of all weights of these layers; those masked before count as 0."""
    magnitudes = [(raw_weight(linear) * mask_of(linear)).abs() for linear in linears]
    together = torch.cat([magnitude.flatten() for magnitude in magnitudes])
    threshold = together.kthvalue(max(1, round(ratio * len(together)))).values
    for linear, magnitude in zip(linears, magnitudes, strict=True):
        mask_of(linear).copy_(magnitude > threshold)


class PruningTrainable(StrategyTrainable):
    """Weights are masked a little more at a time; the deployed model has them removed, or packed away.

    ``recovery`` says what the weights that are left learn from: the labels, or the teacher's logits too.
    """

    needs_teacher = True
    reads_teacher_logits = True

    def build_model(self) -> nn.Module:
        self._ratio_schedule = structured.RatioSchedule(self._target, self.hyperparameters["schedule_end"])
        teacher = self.load_teacher()
        model = teacher if self.hyperparameters["start"] == "baseline" else self.encoder.build()
        encoder.set_dropout(model, self.hyperparameters["dropout"])
        if self._structured:
            structured.install_masks(model)
        else:
            structured.install_ratio(model)
            for linear in prunable(model):
                structured.install_mask(linear, linear.weight.shape)
        return model

    @property
    def _structured(self) -> bool:
        return bool(self.hyperparameters["scheme"] == "structured")

    @property
    def _target(self) -> float:
        return float(self.hyperparameters["ratio" if self._structured else "sparsity"])

    @property
    def selectable(self) -> bool:
        return float(structured.ratio_of(self.model)) >= self._target

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, index: NDArray[np.int64]) -> torch.Tensor:
        hard_loss = super().loss(logits, labels, index)
        return hard_loss if self.hyperparameters["recovery"] == "labels" else self.distilled(logits, hard_loss, index)

    def before_step(self, done: float) -> None:
        """Raise the pruned ratio where the schedule says so."""
        ratio = self._ratio_schedule.rise(self.model, done)
        if ratio is not None:
            self._prune(ratio)

    def _prune(self, ratio: float) -> None:
        assert isinstance(self.model, PreTrainedModel)
        if self._structured:
            structured.update_masks(self.model, ratio, structured.IMPORTANCES[self.hyperparameters["importance"]])
            return
        linears = prunable(self.model)
        for share in [linears] if self.hyperparameters["scope"] == "global" else [[linear] for linear in linears]:
            mask_smallest(share, ratio)
        structured.ratio_of(self.model).fill_(ratio)

    def after_backward(self) -> None:
        if self._structured and self.hyperparameters["importance"] == "taylor":
            assert isinstance(self.model, PreTrainedModel)
            structured.accumulate_taylor(self.model)

    def deploy(self, directory: Path) -> None:
        assert isinstance(self.model, PreTrainedModel)
        if self._structured:
            structured.cut(self.model)
        else:
            delattr(self.model, structured.RATIO)
            for linear in prunable(self.model):
                prune.remove(linear, "weight")
        scheme = self.hyperparameters["scheme"]
        deploy_torch(self.model, directory, self.data, packed=not self._structured, scheme=scheme)
