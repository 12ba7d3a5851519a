"""How near two models' logits of the same texts are."""

import numpy as np
from numpy.typing import NDArray

from clinical_notes.batches import TrialData
from run_folder.results import Agreement
from trainables.parts.deployed import Runner, predict
from trainables.parts.tasks import TASKS


def agreement(reference: NDArray[np.float32], logits: NDArray[np.float32], task: str = "multiclass") -> Agreement:
    """How near two models' logits (n, classes) of the same texts are."""
    return Agreement(
        max_logit_difference=float(np.abs(logits - reference).max()),
        same_predictions=float(TASKS[task].same(logits, reference).mean()),
    )


def validation_logits(model: Runner, data: TrialData) -> NDArray[np.float32]:
    """(n, classes) logits of the validation texts; their labels are not read."""
    return predict(model.logits, data.validation, data.pad_token_id)
