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
            more than ``MOST_UNITS`` patients a group of them. Of a multilabel task it is (units, models, 1 + classes,
            2, 2), counts of reported and said: first of whole texts, which count as reported, and as said where every
            symptom is right, then of each symptom.
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
        if self.confusions.ndim == 5:
            return np.asarray(self.confusions[:, 0, 1:, 1].sum(axis=-1))
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
    labels: NDArray[np.int64] | NDArray[np.bool_],
    patients: NDArray[Any],
    probabilities: NDArray[np.floating],
    said: NDArray[np.bool_] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Resampled:
    """Bootstrap and jackknife over patients, the same draws for all models.

    A patient's examples stay together, since they are alike; each resample is a weight per patient (how often it was
    drawn), and all figures follow from weights. The order of the rows does not matter. More than ``MOST_UNITS``
    patients are drawn in groups, put together at random.

    Args:
        labels: (n,) class indices, or of a multilabel task (n, classes) whether each is reported.
        patients: (n,) whose example each is.
        probabilities: (models, n, classes).
        said: of a multilabel task: (models, n, classes) whether the model says that it is reported.

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
    weighing = _Weighing(labels, numbers, probabilities, said)
    units = weighing.units
    draws = random.multinomial(units, np.full(units, 1 / units), size=resamples)
    weights = np.concatenate([np.ones((1, units)), draws, 1 - np.eye(units)])
    figures = weighing.figures(weights)
    return Resampled(count, figures[0], figures[1 : 1 + resamples], figures[1 + resamples :], weighing.confusions)


def figures_of_confusions(
    confusions: NDArray[np.float64], present: NDArray[np.bool_], *, multilabel: bool = False
) -> NDArray[np.float64]:
    """(..., 1 + classes, 4) all metrics but AUROC of counts, which are as in ``Resampled.confusions``.

    Macro averages run over the ``present`` (classes,) classes, and are not defined where one of these has no example.
    A class that is never predicted has precision 0, as in scikit-learn with ``zero_division=0``.
    """
    if multilabel:
        whole, each = confusions[..., 0, :, :], confusions[..., 1:, :, :]
        hits, actual, predicted = each[..., 1, 1], each[..., 1, :].sum(-1), each[..., 1].sum(-1)
        total, right = whole.sum((-1, -2))[..., None], whole[..., 1, 1]
    else:
        hits = np.diagonal(confusions, axis1=-2, axis2=-1)
        actual, predicted = confusions.sum(-1), confusions.sum(-2)
        total, right = actual.sum(-1, keepdims=True), hits.sum(-1)
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
    overall[..., 0] = right / total[..., 0]
    return np.concatenate([overall[..., None, :], of_classes], axis=-2)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN where there is nothing to divide by."""
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))


class _Weighing:
    """What figures need from predictions, so that only the patients' weights change."""

    def __init__(
        self,
        labels: NDArray[np.int64] | NDArray[np.bool_],
        units: NDArray[np.int64],
        probabilities: NDArray[np.floating],
        said: NDArray[np.bool_] | None,
    ) -> None:
        self.models, examples, self.classes = probabilities.shape
        if not len(labels) == len(units) == examples:
            raise ValueError(f"{len(labels)} labels, {len(units)} patients, {examples} predictions")
        self._numbers, self._probabilities = units, probabilities
        self.units = int(units.max()) + 1
        models = np.arange(self.models)[:, None]
        self._multilabel = said is not None
        if said is None:
            self._reported = labels[:, None] == np.arange(self.classes)
            shape: tuple[int, ...] = (self.units, self.models, self.classes, self.classes)
            self.confusions = _counts(shape, units, models, labels, probabilities.argmax(axis=-1))
        else:
            self._reported = labels.astype(bool)
            right = (said == self._reported).all(axis=-1, keepdims=True)
            answers = np.concatenate([right, said], axis=-1).astype(np.int64)
            truth = np.concatenate([np.ones_like(self._reported[:, :1]), self._reported], axis=-1).astype(np.int64)
            shape = (self.units, self.models, 1 + self.classes, 2, 2)
            questions = np.arange(1 + self.classes)
            self.confusions = _counts(shape, units[:, None], models[..., None], questions, truth, answers)
        self._present = self._reported.any(axis=0)
        self._has_area = self._present & ~self._reported.all(axis=0)

    def figures(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """(rows, models, 1 + classes, metrics) of (rows, units) weights."""
        flat = self.confusions.reshape(self.units, -1)
        confusions = (weights @ flat).reshape(-1, *self.confusions.shape[1:])
        areas = np.stack(
            [
                np.stack(
                    [self._areas(scores[:, c], self._reported[:, c], weights) for c in range(self.classes)], axis=-1
                )
                for scores in self._probabilities
            ],
            axis=1,
        )
        defined = self._has_area
        macro = areas[..., defined].mean(-1, keepdims=True) if defined.any() else np.full((*areas.shape[:2], 1), np.nan)
        areas = np.concatenate([macro, areas], axis=-1)
        figures = figures_of_confusions(confusions, self._present, multilabel=self._multilabel)
        return np.concatenate([figures, areas[..., None]], axis=-1)

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


def _counts(shape: tuple[int, ...], *place: NDArray[Any]) -> NDArray[np.float64]:
    """How often each cell of an array of this shape is named."""
    cells = np.ravel_multi_index(np.broadcast_arrays(*place), shape)  # type: ignore[arg-type]
    return np.bincount(cells.ravel(), minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)


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
