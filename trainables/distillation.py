"""Distillation: a shallower student learns from the best baseline's logits (Hinton et al. 2015)."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from trainables import encoder
from trainables.base import StrategyTrainable
from trainables.deployed import TorchDeployed, predict

LOGITS_FILE = "train_logits.safetensors"
"""In the teacher trial's folder: its logits for the training examples, written once per run."""


def chosen_layers(depth: int, student_depth: int, choice: str) -> list[int]:
    """Indices of the teacher's layers that the student copies: ``first``, ``last`` or ``spread`` evenly."""
    if choice == "first":
        return list(range(student_depth))
    if choice == "last":
        return list(range(depth - student_depth, depth))
    return [round(i) for i in np.linspace(0, depth - 1, student_depth)] if student_depth > 1 else [depth - 1]


def distillation_loss(
    student: torch.Tensor, teacher: torch.Tensor, hard_loss: torch.Tensor, alpha: float, temperature: float
) -> torch.Tensor:
    """``alpha * CE + (1 - alpha) * T² * KL(teacher_T ‖ student_T)``, the paper's equation.

    T² keeps the gradient's scale independent of the temperature T (Hinton et al. 2015, section 2).

    Args:
        student, teacher: logits (batch, classes).
        hard_loss: cross-entropy with the labels.
    """
    soft_loss = functional.kl_div(
        functional.log_softmax(student / temperature, dim=-1),
        functional.log_softmax(teacher / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    return alpha * hard_loss + (1 - alpha) * temperature**2 * soft_loss


class DistillationTrainable(StrategyTrainable):
    """A student made of some of the teacher's layers."""

    needs_teacher = True
    first_trial_prepares = True  # the teacher's logits

    def build_model(self) -> nn.Module:
        teacher = self.load_teacher()
        self.teacher_logits = self._logits_of(teacher)
        depth = len(encoder.layer_list(teacher))
        student_depth = max(1, int(self.hyperparameters["depth_ratio"] * depth))  # rounded down: always a smaller one
        encoder.keep_layers(teacher, chosen_layers(depth, student_depth, self.hyperparameters["layers"]))
        encoder.set_dropout(teacher, self.hyperparameters["dropout"])
        return teacher

    def _logits_of(self, teacher: PreTrainedModel) -> torch.Tensor:
        """(training examples, classes): read from the teacher's folder, or computed and left there."""
        assert self.teacher_folder is not None
        if self.teacher_folder.exists(LOGITS_FILE):
            with tempfile.TemporaryDirectory() as temporary:
                path = Path(temporary) / LOGITS_FILE
                path.write_bytes(self.teacher_folder.read(LOGITS_FILE))
                return load_file(path)["logits"]
        live = TorchDeployed(teacher.to(self.settings.device), {})  # type: ignore[arg-type]
        logits = torch.from_numpy(predict(live.logits, self.data.train, self.data.pad_token_id))
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / LOGITS_FILE
            save_file({"logits": logits}, path)
            self.teacher_folder.write(LOGITS_FILE, path.read_bytes())
        return logits

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, index: NDArray[np.int64]) -> torch.Tensor:
        return distillation_loss(
            logits,
            self.teacher_logits[torch.from_numpy(index)].to(logits.device),
            super().loss(logits, labels, index),
            self.hyperparameters["alpha"],
            self.hyperparameters["temperature"],
        )
