"""Combined: distil, prune while the student learns, then quantize what is left."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainables.base import Trial
from trainables.parts.agreement import validation_logits
from trainables.parts.deployed import TorchRunner
from trainables.parts.int8.grid import Int8Options
from trainables.parts.int8.sensitivity import most_sensitive
from trainables.parts.int8.write_int8 import write_int8
from trainables.parts.model import encoder
from trainables.parts.model.masks import RatioSchedule, ratio_of
from trainables.parts.model.structured import Structured
from trainables.parts.model.student import student_of
from trainables.parts.model.surgery import trim_vocabulary


class CombinedTrial(Trial):
    """A student that loses heads and neurons as it learns from its teacher, deployed as an INT8 graph.

    ``vocabulary`` = "corpus" keeps only the word embeddings of the training texts' tokens, which changes nothing for
    texts of those tokens; every other token is read as the unknown one.
    """

    needs_teacher = True
    reads_teacher_logits = True

    def build_model(self) -> nn.Module:
        self._pruning = Structured(self.hyperparameters["importance"])
        self._ratio_schedule = RatioSchedule(self.hyperparameters["ratio"], self.hyperparameters["schedule_end"])
        student = student_of(
            self.load_teacher(), depth_ratio=self.hyperparameters["depth_ratio"], layers=self.hyperparameters["layers"]
        )
        encoder.set_dropout(student, self.hyperparameters["dropout"])
        if self.hyperparameters["vocabulary"] == "corpus":
            trim_vocabulary(student, self.data.training_tokens, self.data.unknown_token_id)
        self._pruning.install(student)
        return student

    @property
    def selectable(self) -> bool:
        return float(ratio_of(self.model)) >= float(self.hyperparameters["ratio"])

    def before_step(self, done: float) -> None:
        """Raise the pruned ratio where the schedule says so."""
        ratio = self._ratio_schedule.rise(self.model, done)
        if ratio is not None:
            self._pruning.prune_to(self.transformer, ratio)

    def after_backward(self) -> None:
        self._pruning.learn_importance(self.transformer)

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, index: NDArray[np.int64]) -> torch.Tensor:
        return self.distilled(logits, super().loss(logits, labels, index), index)

    def write_model(self, directory: Path) -> None:
        self._pruning.finish(self.transformer)
        options = Int8Options.of(self.hyperparameters, reduce_range=self.settings.reduce_range, per_token=False)
        before = validation_logits(TorchRunner(self.transformer), self.data)
        fp32_layers = most_sensitive(self.transformer, self.data, options)
        write_int8(self.transformer, directory, self.data, options, fp32_layers, before)
