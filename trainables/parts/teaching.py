"""What a student learns from its teacher, the run's best baseline."""

import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import PreTrainedModel

from clinical_notes.batches import TrialData
from clinical_notes.storage import Folder
from trainables.parts.deployed import TorchDeployed, predict

LOGITS_FILE = "train_logits.safetensors"
"""In the teacher trial's folder: its logits for the training examples, computed once per run."""


def teacher_logits(folder: Folder, teacher: PreTrainedModel, data: TrialData) -> torch.Tensor:
    """(training examples, classes): read from the teacher's folder, or computed and left there."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / LOGITS_FILE
        if folder.exists(LOGITS_FILE):
            path.write_bytes(folder.read(LOGITS_FILE))
            return load_file(path)["logits"]
        logits = torch.from_numpy(predict(TorchDeployed(teacher, {}).logits, data.train, data.pad_token_id))
        save_file({"logits": logits}, path)
        folder.write(LOGITS_FILE, path.read_bytes())
    return logits


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
