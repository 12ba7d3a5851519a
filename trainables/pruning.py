"""Pruning: gradual while training (Zhu & Gupta 2017), of heads and neurons (structured) or of single weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainables.base import Hyperparameters, Trial
from trainables.parts.deployed import deploy_torch
from trainables.parts.model import encoder
from trainables.parts.model.masks import RatioSchedule, ratio_of
from trainables.parts.model.structured import Structured
from trainables.parts.model.unstructured import Unstructured


class PruningTrial(Trial):
    """Weights are masked a little more at a time; the deployed model has them removed, or packed as zeros.

    ``recovery`` says what the remaining weights learn from: the labels, or the teacher's logits too.
    """

    needs_teacher = True
    reads_teacher_logits = True
    scheme_notes: ClassVar[Mapping[str, str]] = {
        "unstructured": "its zeros cost no disk, but a CPU's dense kernels run no faster for them."
    }

    @classmethod
    def starts_from_teacher(cls, hyperparameters: Hyperparameters) -> bool:
        return bool(hyperparameters["start"] == "baseline")

    def build_model(self) -> nn.Module:
        self._scheme: Structured | Unstructured
        if self.hyperparameters["scheme"] == "structured":
            self._scheme, target = Structured(self.hyperparameters["importance"]), self.hyperparameters["ratio"]
        else:
            self._scheme, target = Unstructured(self.hyperparameters["scope"]), self.hyperparameters["sparsity"]
        self._ratio_schedule = RatioSchedule(float(target), self.hyperparameters["schedule_end"])
        teacher = self.load_teacher()
        model = teacher if self.hyperparameters["start"] == "baseline" else self.encoder.build()
        encoder.set_dropout(model, self.hyperparameters["dropout"])
        self._scheme.install(model)
        return model

    @property
    def selectable(self) -> bool:
        return float(ratio_of(self.model)) >= self._ratio_schedule.target

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, index: NDArray[np.int64]) -> torch.Tensor:
        hard_loss = super().loss(logits, labels, index)
        return hard_loss if self.hyperparameters["recovery"] == "labels" else self.distilled(logits, hard_loss, index)

    def before_step(self, done: float) -> None:
        """Raise the pruned ratio where the schedule says so."""
        ratio = self._ratio_schedule.rise(self.model, done)
        if ratio is not None:
            self._scheme.prune_to(self.transformer, ratio)

    def after_backward(self) -> None:
        self._scheme.learn_importance(self.transformer)

    def write_model(self, directory: Path) -> None:
        self._scheme.finish(self.transformer)
        scheme = self.hyperparameters["scheme"]
        deploy_torch(self.transformer, directory, self.data, packed=self._scheme.packed, scheme=scheme)
