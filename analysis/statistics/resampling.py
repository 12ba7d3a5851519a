"""The figures of models on one test set, and how they vary when its patients are drawn again.

Intervals, differences and means over seeds are all made of :class:`Resampled`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

METRICS = ("accuracy", "precision", "recall", "f1", "auroc")
"""Last axis of figures. On the axis before it, 0 is overall (macro averages) and 1 + c is class c against the rest."""
RESAMPLES = 5_000

_AT_A_TIME = 2**17
"""Weights handled together, so that they stay in a CPU's cache."""


@dataclass(frozen=True)
class Variation:
    """Figures of one model, or of a linear combination of models. NaN: not defined, as in :class:`Resampled`.

    Attributes:
        point: (1 + classes, metrics).
        replicates: (resamples, 1 + classes, metrics), of patients drawn with replacement.
        jackknife: (patients, 1 + classes, metrics), without one patient each.
        patients_with: (1 + classes,) patients with an example; of class c at 1 + c, of any at 0.
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
        point: (models, 1 + classes, metrics).
        replicates: (resamples, models, 1 + classes, metrics), of patients drawn with replacement.
        jackknife: (patients, models, 1 + classes, metrics), without one patient each.
        confusions: (patients, models, classes, classes) counts of true and predicted class.
    """

    point: NDArray[np.float64]
    replicates: NDArray[np.float64]
    jackknife: NDArray[np.float64]
    confusions: NDArray[np.float64]

    @property
    def patients(self) -> int:
        return len(self.confusions)

    @property
    def examples_of_classes(self) -> NDArray[np.float64]:
        """(patients, classes)."""
        return np.asarray(self.confusions[:, 0].sum(axis=-1))

    def mean(self, models: Sequence[int]) -> Variation:
        """Of the mean over these models (seeds of one strategy, or a single model)."""
        chosen = list(models)
        with_class = (self.examples_of_classes > 0).sum(axis=0)
        return Variation(
            self.point[chosen].mean(axis=0),
            self.replicates[:, chosen].mean(axis=1),
            self.jackknife[:, chosen].mean(axis=1),
            np.concatenate([[self.patients], with_class]).astype(np.int64),
        )

    def difference(self, models: Sequence[int], others: Sequence[int]) -> Variation:
        """Of the mean over ``models`` minus the mean over ``others``, on the same draws of patients."""
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
    drawn), and all figures follow from weights. The order of the rows does not matter.

    Args:
        labels: (n,) class indices.
        patients: (n,) whose example each is.
        probabilities: (models, n, classes).

    Raises:
        ValueError: fewer than two patients, or shapes that do not fit.
    """
    weighing = _Weighing(labels, patients, probabilities)
    count = weighing.patients
    if count < 2:
        raise ValueError("figures of fewer than two patients cannot be resampled")
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    blocks = np.array_split(np.arange(count), min(count, 8))  # of the patients left out, since a row each is large
    return Resampled(
        point=weighing.figures(np.ones((1, count)))[0],
        replicates=weighing.figures(draws.astype(np.float64)),
        jackknife=np.concatenate(
            [weighing.figures((np.arange(count) != block[:, None]).astype(np.float64)) for block in blocks]
        ),
        confusions=weighing.confusions,
    )


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
    """What figures need of predictions, so that only the patients' weights change."""

    def __init__(self, labels: NDArray[np.int64], patients: NDArray[Any], probabilities: NDArray[np.floating]) -> None:
        self.models, examples, self.classes = probabilities.shape
        if not len(labels) == len(patients) == examples:
            raise ValueError(f"{len(labels)} labels, {len(patients)} patients, {examples} predictions")
        names, self._numbers = np.unique(patients, return_inverse=True)
        self.patients = len(names)
        shape = (self.patients, self.models, self.classes, self.classes)
        models = np.arange(self.models)[:, None]
        cells = np.ravel_multi_index((self._numbers, models, labels, probabilities.argmax(axis=-1)), shape)
        self.confusions = np.bincount(cells.ravel(), minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)
        self._present = np.bincount(labels, minlength=self.classes) > 0
        self._areas = [[_Area(scores[:, c], labels == c) for c in range(self.classes)] for scores in probabilities]

    def figures(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """(rows, models, 1 + classes, metrics) of (rows, patients) weights."""
        rows = max(1, _AT_A_TIME // len(self._numbers))
        return np.concatenate([self._figures(weights[i : i + rows]) for i in range(0, len(weights), rows)])

    def _figures(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        flat = self.confusions.reshape(self.patients, -1)
        confusions = (weights @ flat).reshape(-1, self.models, self.classes, self.classes)
        of_examples = np.ascontiguousarray(weights.T)[self._numbers]
        areas = np.stack(
            [np.stack([area.weighted(of_examples) for area in areas], axis=-1) for areas in self._areas], axis=1
        )
        defined = self._present & (self._present.sum() > 1)
        macro = areas[..., defined].mean(-1, keepdims=True) if defined.any() else np.full((*areas.shape[:2], 1), np.nan)
        areas = np.concatenate([macro, areas], axis=-1)
        return np.concatenate([figures_of_confusions(confusions, self._present), areas[..., None]], axis=-1)


class _Area:
    """Area under the ROC curve of one class, as the share of pairs in order (ties count half), weighted."""

    def __init__(self, scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> None:
        self._positives, negatives = np.flatnonzero(positive), np.flatnonzero(~positive)
        self._negatives = negatives[np.argsort(scores[negatives], kind="stable")]
        ranked = scores[self._negatives]
        self._below = np.searchsorted(ranked, scores[self._positives], "left")
        self._not_above = np.searchsorted(ranked, scores[self._positives], "right")

    def weighted(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """(columns,) areas of (examples, columns) weights."""
        positives = weights[self._positives]
        passed = np.zeros((len(self._negatives) + 1, weights.shape[1]))
        np.cumsum(weights[self._negatives], axis=0, out=passed[1:])
        pairs = np.einsum("ij,ij->j", positives, passed[self._below] + passed[self._not_above])
        return _ratio(pairs, 2 * positives.sum(0) * passed[-1])
