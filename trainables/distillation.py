"""Distillation: a smaller student learns from the best baseline (Hinton et al. 2015; Wang et al. 2021)."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from trainables.base import Trial, TrialError
from trainables.parts.model import encoder
from trainables.parts.model.student import student_of
from trainables.parts.training.teaching import last_projections, relation_heads, relation_loss


class DistillationTrial(Trial):
    """A student of fewer layers than the teacher, narrower ones, or both, cut out of the teacher's weights."""

    needs_teacher = True
    reads_teacher_logits = True

    def build_model(self) -> nn.Module:
        teacher = self.load_teacher()
        student = student_of(
            teacher,
            depth_ratio=self.hyperparameters.get("depth_ratio", 1.0),
            layers=self.hyperparameters.get("layers", "spread"),
            width_ratio=self.hyperparameters.get("width_ratio", 1.0),
        )
        depth, is_narrower = len(encoder.layer_list(teacher)), student.config.hidden_size < teacher.config.hidden_size
        if len(encoder.layer_list(student)) == depth and not is_narrower:
            raise TrialError(f"the student would be as large as its teacher (layers: {depth})")
        encoder.set_dropout(student, self.hyperparameters["dropout"])
        self._live_teacher = teacher.eval().requires_grad_(False) if self._matches_relations else None
        self._relation_heads = relation_heads(teacher.config, student.config)
        return student

    @property
    def _matches_relations(self) -> bool:
        return bool(self.hyperparameters["matching"] == "relations")

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Logits; where relations are matched, the teacher runs too, and both's vectors are kept for ``loss``."""
        if self._live_teacher is None:
            return super().forward(batch)
        assert isinstance(self.model, PreTrainedModel)
        with torch.no_grad(), last_projections(self._live_teacher) as teacher:
            self._live_teacher.base_model(**batch)
        with last_projections(self.model) as student:
            logits = super().forward(batch)
        self._vectors = student, teacher, batch["attention_mask"]
        return logits

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, index: NDArray[np.int64]) -> torch.Tensor:
        loss = self.distilled(logits, super().loss(logits, labels, index), index)
        if self._live_teacher is not None:
            loss = loss + self.hyperparameters["matching_weight"] * relation_loss(*self._vectors, self._relation_heads)
        return loss
