"""Whether a model's probabilities are what they say: calibration error, reliability, temperature."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

BINS = 10
_LOG_TEMPERATURE = (np.log(0.05), np.log(20.0))


@dataclass(frozen=True)
class Reliability:
    """Bins of the predicted class's probability, as many examples in each as ties allow; each (bins,) or fewer."""

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    examples: NDArray[np.int64]

    @property
    def expected_calibration_error(self) -> float:
        """The mean distance of confidence and accuracy, by examples (Naeini et al. 2015)."""
        return float(np.average(np.abs(self.confidence - self.accuracy), weights=self.examples))


def reliability(labels: NDArray[np.int64], probabilities: NDArray[np.floating], bins: int = BINS) -> Reliability:
    """The reliability curve of the predicted class, bins of equal mass.

    Bins of equal width leave most of them empty where a model is sure of itself, and their error is biased more
    (Nixon et al. 2019). Examples of the same confidence are in the same bin.

    Args:
        labels: (n,) class indices.
        probabilities: (n, classes).
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    edges = np.quantile(confidence, np.arange(1, bins) / bins, method="inverted_cdf")
    bin_of_example = np.searchsorted(edges, confidence, side="left")
    examples = np.bincount(bin_of_example, minlength=bins)
    filled = examples > 0
    sums = [np.bincount(bin_of_example, weights=values, minlength=bins)[filled] for values in (confidence, right)]
    return Reliability(sums[0] / examples[filled], sums[1] / examples[filled], examples[filled])


def fit_temperature(labels: NDArray[np.int64], probabilities: NDArray[np.floating]) -> float:
    """The temperature by which logits must be divided to make the labels likeliest (Guo et al. 2017).

    To be fitted on validation examples only. Between 0.05 and 20.

    Args:
        labels: (n,) class indices.
        probabilities: (n, classes).
    """
    logits = _logits(probabilities)

    def loss(log_temperature: float) -> float:
        rows = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(np.take_along_axis(rows, labels[:, None], axis=1).mean())

    return float(np.exp(minimize_scalar(loss, bounds=_LOG_TEMPERATURE, method="bounded").x))


def tempered(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """(n, classes) probabilities with their logits divided by the temperature; which is the largest stays."""
    return np.asarray(softmax(_logits(probabilities) / temperature, axis=1))


def _logits(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float64).tiny))
