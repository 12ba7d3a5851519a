"""The figures of models on one test set, and how they vary when its patients are drawn again.

Intervals, differences and means over seeds are all computed from :class:`Resampled`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

METRICS = ("accuracy", "precision", "recall", "f1", "auroc")
"""The figures' last axis. On the axis before it, 0 is overall (macro averages), and 1 + c class c against the rest."""
OVERALL = "overall"
"""Name of the macro averages in tables whose other rows are symptoms."""
RESAMPLES = 5_000
MOST_UNITS = 1_000
"""Patients that are drawn, left out or swapped one by one; more are put into this many groups at random."""

_AT_A_TIME = 64
"""Units whose negative examples are counted together."""


@dataclass(frozen=True)
class Variation:
    """Figures of one model, or of a linear combination of models. NaN: not defined, as in :class:`Resampled`.

    Attributes:
        point: (1 + classes, metrics).
        replicates: (resamples, 1 + classes, metrics), of patients drawn with replacement.
        jackknife: (units, 1 + classes, metrics), without one unit each.
        patients_with: (1 + classes,) units with an example; of class c at 1 + c, of any at 0.
    """

    point: NDArray[np.float64]
    replicates: NDArray[np.float64]
    jackknife: NDArray[np.float64]
    patients_with: NDArray[np.int64]

    @property
    def variance(self) -> NDArray[np.float64]:
        """(1 + classes, metrics) by the jackknife over patients. NaN: a class has examples of one patient only."""
        count = len(self.jackknife)
        return np.asarray((count - 1) * self.jackknife.var(axis=0))


@dataclass(frozen=True)
class Resampled:
    """Figures of models on the same test set. NaN: not defined, since the class or every other one is absent.

    Attributes:
        patients: how many the test set has.
        point: (models, 1 + classes, metrics).
        replicates: (resamples, models, 1 + classes, metrics), of units drawn with replacement.
        jackknife: (units, models, 1 + classes, metrics), without one unit each.
        confusions: (units, models, classes, classes) counts of true and predicted class. A unit is a patient, or of
            more than ``MOST_UNITS`` patients a group of them.
    """

    patients: int
    point: NDArray[np.float64]
    replicates: NDArray[np.float64]
    jackknife: NDArray[np.float64]
    confusions: NDArray[np.float64]

    @property
    def units(self) -> int:
        """Patients, or groups of them, that are drawn."""
        return len(self.confusions)

    @property
    def examples_of_classes(self) -> NDArray[np.float64]:
        """(units, classes)."""
        return np.asarray(self.confusions[:, 0].sum(axis=-1))

    def mean(self, models: Sequence[int]) -> Variation:
        """The variation of the mean over these models (seeds of one strategy, or a single model)."""
        chosen = list(models)
        with_class = (self.examples_of_classes > 0).sum(axis=0)
        return Variation(
            self.point[chosen].mean(axis=0),
            self.replicates[:, chosen].mean(axis=1),
            self.jackknife[:, chosen].mean(axis=1),
            np.concatenate([[self.units], with_class]).astype(np.int64),
        )

    def difference(self, models: Sequence[int], others: Sequence[int]) -> Variation:
        """The variation of the mean over ``models`` minus the mean over ``others``, on the same draws of patients."""
        ours, theirs = self.mean(models), self.mean(others)
        return Variation(
            ours.point - theirs.point,
            ours.replicates - theirs.replicates,
            ours.jackknife - theirs.jackknife,
            ours.patients_with,
        )


def resample(
    labels: NDArray[np.int64],
    patients: NDArray[Any],
    probabilities: NDArray[np.floating],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Resampled:
    """Bootstrap and jackknife over patients, the same draws for all models.

    A patient's examples stay together, since they are alike; each resample is a weight per patient (how often it was
    drawn), and all figures follow from weights. The order of the rows does not matter. More than ``MOST_UNITS``
    patients are drawn in groups, put together at random.

    Args:
        labels: (n,) class indices.
        patients: (n,) whose example each is.
        probabilities: (models, n, classes).

    Raises:
        ValueError: fewer than two patients, or shapes that do not fit.
    """
    numbers = np.unique(patients, return_inverse=True)[1]
    count = int(numbers.max()) + 1
    if count < 2:
        raise ValueError("figures of fewer than two patients cannot be resampled")
    random = np.random.default_rng(seed)
    if count > MOST_UNITS:
        numbers = (random.permutation(count) % MOST_UNITS)[numbers]
    weighing = _Weighing(labels, numbers, probabilities)
    units = weighing.units
    draws = random.multinomial(units, np.full(units, 1 / units), size=resamples)
    weights = np.concatenate([np.ones((1, units)), draws, 1 - np.eye(units)])
    figures = weighing.figures(weights)
    return Resampled(count, figures[0], figures[1 : 1 + resamples], figures[1 + resamples :], weighing.confusions)


def figures_of_confusions(confusions: NDArray[np.float64], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(..., 1 + classes, 4) all metrics but AUROC of (..., classes, classes) counts of true and predicted class.

    Macro averages run over the ``present`` (classes,) classes, and are not defined where one of these has no example.
    A class that is never predicted has precision 0, as in scikit-learn with ``zero_division=0``.
    """
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)
    actual, predicted = confusions.sum(-1), confusions.sum(-2)
    total = actual.sum(-1, keepdims=True)
    of_classes = np.stack(
        [
            1 - (actual + predicted - 2 * hits) / total,
            np.where(actual > 0, hits / np.maximum(predicted, 1e-300), np.nan),
            _ratio(hits, actual),
            np.where(actual > 0, _ratio(2 * hits, actual + predicted), np.nan),
        ],
        axis=-1,
    )
    overall = of_classes[..., present, :].mean(-2)
    overall[..., 0] = hits.sum(-1) / total[..., 0]
    return np.concatenate([overall[..., None, :], of_classes], axis=-2)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN where there is nothing to divide by."""
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))


class _Weighing:
    """What figures need from predictions, so that only the patients' weights change."""

    def __init__(
        self, labels: NDArray[np.int64], units: NDArray[np.int64], probabilities: NDArray[np.floating]
    ) -> None:
        self.models, examples, self.classes = probabilities.shape
        if not len(labels) == len(units) == examples:
            raise ValueError(f"{len(labels)} labels, {len(units)} patients, {examples} predictions")
        self._labels, self._numbers, self._probabilities = labels, units, probabilities
        self.units = int(units.max()) + 1
        shape = (self.units, self.models, self.classes, self.classes)
        models = np.arange(self.models)[:, None]
        cells = np.ravel_multi_index((units, models, labels, probabilities.argmax(axis=-1)), shape)
        self.confusions = np.bincount(cells.ravel(), minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)
        self._present = np.bincount(labels, minlength=self.classes) > 0

    def figures(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """(rows, models, 1 + classes, metrics) of (rows, units) weights."""
        flat = self.confusions.reshape(self.units, -1)
        confusions = (weights @ flat).reshape(-1, self.models, self.classes, self.classes)
        areas = np.stack(
            [
                np.stack([self._areas(scores[:, c], self._labels == c, weights) for c in range(self.classes)], axis=-1)
                for scores in self._probabilities
            ],
            axis=1,
        )
        defined = self._present & (self._present.sum() > 1)
        macro = areas[..., defined].mean(-1, keepdims=True) if defined.any() else np.full((*areas.shape[:2], 1), np.nan)
        areas = np.concatenate([macro, areas], axis=-1)
        return np.concatenate([figures_of_confusions(confusions, self._present), areas[..., None]], axis=-1)

    def _areas(
        self, scores: NDArray[np.floating], positive: NDArray[np.bool_], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(rows,) areas under the ROC curve: the weighted share of pairs in order, ties counting half."""
        in_order = pairs_in_order(scores, positive, self._numbers, self.units)
        positives, negatives = (
            np.bincount(self._numbers[side], minlength=self.units) for side in (positive, ~positive)
        )
        pairs = np.einsum("ij,ij->i", weights @ in_order, weights)
        return _ratio(pairs, (weights @ positives) * (weights @ negatives))


def pairs_in_order(
    scores: NDArray[np.floating], positive: NDArray[np.bool_], units: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """(units, units) pairs of the one's positive and the other's negative example whose scores are in order.

    Ties count half. All arrays are (n,).
    """
    negatives = np.flatnonzero(~positive)
    negatives = negatives[np.argsort(scores[negatives], kind="stable")]
    below, not_above = (np.searchsorted(scores[negatives], scores[positive], side) for side in ("left", "right"))
    belongs = csr_array((np.full(len(below), 0.5), (units[positive], np.arange(len(below)))), (count, len(below)))
    found = np.empty((count, count))
    for start in range(0, count, _AT_A_TIME):
        block = np.arange(start, min(start + _AT_A_TIME, count))
        passed = np.zeros((len(negatives) + 1, len(block)))
        np.cumsum(units[negatives][:, None] == block, axis=0, out=passed[1:])
        found[:, block] = belongs @ (passed[below] + passed[not_above])
    return found
