"""Baseline: all weights fine-tuned with cross-entropy."""

from torch import nn

from trainables.base import Trial
from trainables.parts.model import encoder

_LEAST_WARMUP = 0.1
"""Of the steps of a further cycle: a trained model takes harm from a full learning rate at once."""


class BaselineTrial(Trial):
    """The encoder with a classification head, nothing compressed.

    With a teacher, which is the same configuration after an earlier cycle, training continues from its model.
    """

    @property
    def warmup_ratio(self) -> float:
        return super().warmup_ratio if self.teacher_folder is None else max(super().warmup_ratio, _LEAST_WARMUP)

    def build_model(self) -> nn.Module:
        if self.teacher_folder is None:
            return super().build_model()
        model = self.load_teacher()
        encoder.set_dropout(model, self.hyperparameters["dropout"])
        return model
