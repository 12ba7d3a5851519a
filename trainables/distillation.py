"""Distillation: a shallower student learns from the best baseline's logits (Hinton et al. 2015)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainables.base import StrategyTrainable
from trainables.parts import encoder
from trainables.parts.teaching import distillation_loss


def chosen_layers(depth: int, student_depth: int, choice: str) -> list[int]:
    """Indices of the teacher's layers that the student copies: ``first``, ``last`` or ``spread`` evenly."""
    if choice == "first":
        return list(range(student_depth))
    if choice == "last":
        return list(range(depth - student_depth, depth))
    return [round(i) for i in np.linspace(0, depth - 1, student_depth)] if student_depth > 1 else [depth - 1]


class DistillationTrainable(StrategyTrainable):
    """A student made of some of the teacher's layers."""

    needs_teacher = True
    reads_teacher_logits = True

    def build_model(self) -> nn.Module:
        teacher = self.load_teacher()
        depth = len(encoder.layer_list(teacher))
        student_depth = max(1, int(self.hyperparameters["depth_ratio"] * depth))  # rounded down: always a smaller one
        encoder.keep_layers(teacher, chosen_layers(depth, student_depth, self.hyperparameters["layers"]))
        encoder.set_dropout(teacher, self.hyperparameters["dropout"])
        return teacher

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, index: NDArray[np.int64]) -> torch.Tensor:
        return distillation_loss(
            logits,
            self.teacher_logits_of(index),
            super().loss(logits, labels, index),
            self.hyperparameters["alpha"],
            self.hyperparameters["temperature"],
        )
