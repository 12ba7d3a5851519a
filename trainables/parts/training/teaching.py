"""What a student learns from its teacher, the run's best baseline: logits and relations of tokens."""

import contextlib
import functools
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel

from clinical_notes.batches import TrialData
from run_folder.folder import Folder
from trainables.parts.deployed import TorchRunner, predict
from trainables.parts.model import encoder

LOGITS_FILE = "train_logits.safetensors"
"""File in the teacher trial's folder with its logits for the training examples, computed once per run."""

PROJECTIONS = ("query", "key", "value")
"""Fields of ``encoder.Layer`` whose outputs are compared."""


def teacher_logits(folder: Folder, teacher: PreTrainedModel, data: TrialData) -> torch.Tensor:
    """The teacher's logits of the training examples, read from its trial's folder, or computed and kept there.

    Args:
        folder: of the teacher's trial.

    Returns: (training examples, classes).
    """
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / LOGITS_FILE
        if folder.exists(LOGITS_FILE):
            path.write_bytes(folder.read(LOGITS_FILE))
            return load_file(path)["logits"]
        logits = torch.from_numpy(predict(TorchRunner(teacher).logits, data.train, data.pad_token_id))
        save_file({"logits": logits}, path)
        folder.write(LOGITS_FILE, path.read_bytes())
    return logits


def distillation_loss(
    soft_loss: torch.Tensor, hard_loss: torch.Tensor, alpha: float, temperature: float
) -> torch.Tensor:
    """``alpha * CE + (1 - alpha) * T² * KL(teacher_T ‖ student_T)``, the paper's equation.

    T² keeps the gradient's scale independent of the temperature T (Hinton et al. 2015, section 2).

    Args:
        soft_loss: () divergence from the teacher at the temperature.
        hard_loss: () cross-entropy with the labels.
        alpha: weight of ``hard_loss``, from 0 to 1.
        temperature: divides the logits of both.
    """
    return alpha * hard_loss + (1 - alpha) * temperature**2 * soft_loss


@contextlib.contextmanager
def last_projections(model: PreTrainedModel) -> Iterator[dict[str, torch.Tensor]]:
    """Collect the last layer's query, key and value vectors of the forward pass inside the block.

    Yields: by name, (batch, length, width) each, all heads side by side.
    """
    *_, layer = encoder.layers_of(model)
    vectors: dict[str, torch.Tensor] = {}
    with contextlib.ExitStack() as hooks:
        for part in PROJECTIONS:
            hook = functools.partial(_keep_output, vectors, part)
            hooks.callback(getattr(layer, part).register_forward_hook(hook).remove)
        yield vectors


def _keep_output(
    kept: dict[str, torch.Tensor], part: str, _module: nn.Module, _inputs: object, output: torch.Tensor
) -> None:
    kept[part] = output


def relation_heads(teacher: PreTrainedConfig, student: PreTrainedConfig) -> int:
    """Number of relation heads: the teacher's attention heads, or the next smaller number that divides both widths."""
    common = math.gcd(teacher.hidden_size, student.hidden_size)
    return max(heads for heads in range(1, teacher.num_attention_heads + 1) if common % heads == 0)


def relation_loss(
    student: Mapping[str, torch.Tensor], teacher: Mapping[str, torch.Tensor], attention_mask: torch.Tensor, heads: int
) -> torch.Tensor:
    """MiniLMv2's multi-head self-attention relation distillation (Wang et al. 2021, arXiv:2012.15828).

    The vectors of all attention heads are joined and split again into ``heads`` relation heads of size d. A relation is
    ``softmax(X Xᵀ / √d)``, and the loss ``KL(teacher ‖ student)``, averaged over relation heads and positions, is
    summed over queries, keys and values. Padding is left out.

    Args:
        student, teacher: as ``last_projections`` gives them; the widths may differ.
        attention_mask: (batch, length), 0 where padded.
    """
    inside = attention_mask.bool()
    losses = []
    for part in PROJECTIONS:
        divergence = functional.kl_div(
            _log_relations(student[part].float(), inside, heads),
            _log_relations(teacher[part].float(), inside, heads),
            reduction="none",
            log_target=True,
        ).sum(dim=-1)
        losses.append((divergence.mean(dim=1) * inside).sum() / inside.sum())
    return torch.stack(losses).sum()


def _log_relations(vectors: torch.Tensor, inside: torch.Tensor, heads: int) -> torch.Tensor:
    """(batch, heads, length, length), rows over all positions that are inside."""
    split = vectors.unflatten(-1, (heads, -1)).transpose(1, 2)
    scores = split @ split.mT / math.sqrt(split.shape[-1])
    # Not -inf: the divergence would be inf - inf at padding.
    outside = ~inside[:, None, None, :]
    return functional.log_softmax(scores.masked_fill(outside, torch.finfo(scores.dtype).min), dim=-1)
