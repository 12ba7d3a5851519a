"""Combined: distil, prune while the student learns, then quantize what is left."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from trainables.base import StrategyTrainable
from trainables.parts.agreement import validation_logits
from trainables.parts.deployed import TorchDeployed
from trainables.parts.int8.grid import Int8Options
from trainables.parts.int8.onnx_model import write_int8
from trainables.parts.int8.sensitivity import most_sensitive
from trainables.parts.model import encoder, structured
from trainables.parts.model.student import student_of
from trainables.parts.model.surgery import trim_vocabulary


class CombinedTrainable(StrategyTrainable):
    """A student that loses heads and neurons as it learns from its teacher, deployed as an INT8 graph.

    ``vocabulary`` = "corpus" keeps the word embeddings of the training texts' tokens alone, which changes nothing for
    texts of those tokens; every other token is read as the unknown one.
    """

    needs_teacher = True
    reads_teacher_logits = True

    def build_model(self) -> nn.Module:
        self._ratio_schedule = structured.RatioSchedule(
            self.hyperparameters["ratio"], self.hyperparameters["schedule_end"]
        )
        student = student_of(
            self.load_teacher(), depth_ratio=self.hyperparameters["depth_ratio"], layers=self.hyperparameters["layers"]
        )
        encoder.set_dropout(student, self.hyperparameters["dropout"])
        if self.hyperparameters["vocabulary"] == "corpus":
            trim_vocabulary(student, self.data.training_tokens, self.data.unknown_token_id)
        structured.install_masks(student)
        return student

    @property
    def _student(self) -> PreTrainedModel:
        assert isinstance(self.model, PreTrainedModel)
        return self.model

    @property
    def selectable(self) -> bool:
        return float(structured.ratio_of(self._student)) >= float(self.hyperparameters["ratio"])

    def before_step(self, done: float) -> None:
        """Raise the pruned ratio where the schedule says so."""
        ratio = self._ratio_schedule.rise(self._student, done)
        if ratio is not None:
            structured.update_masks(self._student, ratio, structured.IMPORTANCES[self.hyperparameters["importance"]])

    def after_backward(self) -> None:
        if self.hyperparameters["importance"] == "taylor":
            structured.accumulate_taylor(self._student)

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, index: NDArray[np.int64]) -> torch.Tensor:
        return self.distilled(logits, super().loss(logits, labels, index), index)

    def deploy(self, directory: Path) -> None:
        structured.cut(self._student)
        options = Int8Options.of(self.hyperparameters, reduce_range=self.settings.reduce_range, per_token=False)
        before = validation_logits(TorchDeployed(self._student, {}), self.data)
        fp32_layers = most_sensitive(self._student, self.data, options)
        write_int8(self._student, directory, self.data, options, fp32_layers, before)
