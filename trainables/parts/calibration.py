"""A temperature per symptom, by which a deployed model's logits are divided (Guo et al. 2017)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit

from trainables.parts.deployed import Runner

_LOG_TEMPERATURE = (np.log(0.05), np.log(20.0))
_LEAST = 1e-12
"""Probabilities are kept this far from 0 and 1, where a logarithm ends."""

OfTexts = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Probabilities of what a model reads, (inputs, columns), to those of the texts, (texts, columns)."""


def fit_temperatures(
    reported: NDArray[np.bool_], logits: NDArray[np.floating], of_texts: OfTexts
) -> NDArray[np.float64]:
    """(symptoms,) temperatures of the least log loss of ``sigmoid(logit / temperature)``, between 0.05 and 20.

    1 where no text, or every text, reports the symptom. Labels are drawn in as Platt's (1999, section 2.2): without
    that, a symptom without a mistake would have the least temperature, and new texts probabilities of 0 and 1.

    Args:
        reported: (texts, symptoms), of validation examples only.
        logits: (inputs, symptoms).
        of_texts: the identity, where each text is one input.
    """
    return np.array([_fitted(*column, of_texts) for column in zip(reported.T, logits.T, strict=True)])


def _fitted(reported: NDArray[np.bool_], logits: NDArray[np.floating], of_texts: OfTexts) -> float:
    yes, no = int(reported.sum()), int((~reported).sum())
    if not yes or not no:
        return 1.0
    labels = np.where(reported, (yes + 1) / (yes + 2), 1 / (no + 2))
    column = logits[:, None].astype(np.float64)

    def loss(log_temperature: float) -> float:
        said = of_texts(expit(column / np.exp(log_temperature)))[:, 0].clip(_LEAST, 1 - _LEAST)
        return -float((labels * np.log(said) + (1 - labels) * np.log1p(-said)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=_LOG_TEMPERATURE, method="bounded").x))


def logit_scale(temperatures: Mapping[str, float] | None, symptoms: Sequence[str]) -> NDArray[np.float32] | None:
    """(symptoms,) what logits are multiplied by; None where there are no temperatures.

    Args:
        temperatures: by symptom.
        symptoms: in the order of the logits.
    """
    if temperatures is None:
        return None
    return np.array([1 / temperatures[symptom] for symptom in symptoms], np.float32)


@dataclass(frozen=True)
class Calibrated:
    """A model whose logits are divided by its temperatures, as those of its exported graph are.

    Attributes:
        scale: (symptoms,), see ``logit_scale``.
    """

    runner: Runner
    scale: NDArray[np.float32]

    def logits(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """(batch, symptoms) of inputs (batch, length)."""
        return self.runner.logits(input_ids, attention_mask) * self.scale
