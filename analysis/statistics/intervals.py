"""Intervals of figures: the bootstrap over patients, bias-corrected and accelerated (BCa)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, quantile, t

from analysis.statistics.resampling import METRICS, Variation

LEVEL = 0.95


@dataclass(frozen=True)
class Intervals:
    """Figures with their intervals, all (1 + classes, metrics). NaN: not defined.

    Attributes:
        undefined: in how many resamples a figure was not defined, because a class was missing; the interval is that
            of the others.
    """

    point: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    undefined: NDArray[np.int64]


def figure_intervals(variation: Variation, level: float = LEVEL) -> Intervals:
    """BCa intervals (Efron 1987) of one model's accuracy, precision, recall, F1 and AUROC, overall and by class.

    The level is widened as the t distribution is against the normal, since the bootstrap of few patients is too
    narrow (Hesterberg 2015, "expanded percentile"). A figure of exactly 0 or 1, which no resample varies, has an exact
    interval (:func:`exact_width`).
    """
    patients = len(variation.jackknife)
    reach = t.ppf((1 + level) / 2, patients - 1) * np.sqrt(patients / (patients - 1))
    low, high = bca(variation, reach)
    width = exact_width(variation.patients_with, level)
    perfect, nothing = variation.point == 1, variation.point == 0
    return Intervals(
        variation.point,
        low=np.where(perfect, 1 - width, np.where(nothing, 0.0, low)),
        high=np.where(nothing, width, np.where(perfect, 1.0, high)),
        undefined=np.isnan(variation.replicates).sum(axis=0),
    )


def bca(variation: Variation, reach: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of the BCa interval, both (1 + classes, metrics). NaN where no resample differs.

    ``scipy.stats.bootstrap`` gives the same from the same resamples, but figure by figure (with all of them computed
    again for each), and no interval once one resample is not defined.

    Args:
        reach: how many standard deviations a normal figure's interval would reach to each side; 1.96 for 95 %.
    """
    replicates = variation.replicates
    with np.errstate(divide="ignore", invalid="ignore"):
        below = (replicates < variation.point).sum(axis=0) + (replicates <= variation.point).sum(axis=0)
        bias = norm.ppf(below / (2 * (~np.isnan(replicates)).sum(axis=0)))
        jackknife = variation.jackknife
        pulls = np.nansum(jackknife, axis=0) / (~np.isnan(jackknife)).sum(axis=0) - jackknife
        acceleration = np.nansum(pulls**3, axis=0) / (6 * np.nansum(pulls**2, axis=0) ** 1.5)
        moved = [bias - reach, bias + reach]
        ends = np.stack([norm.cdf(bias + z / (1 - acceleration * z)) for z in moved])
    low, high = quantile(replicates, ends, axis=0, nan_policy="omit")
    return low, high


def exact_width(patients_with: NDArray[np.int64], level: float = LEVEL) -> NDArray[np.float64]:
    """(1 + classes, metrics) how far from 1 a figure may be that is 1 on the test set (from 0, if it is 0).

    The exact (Clopper–Pearson) bound on the share of patients with an error when none of the patients has one; in macro
    figures, whose classes count alike, the mean of that over the classes.
    """
    with np.errstate(divide="ignore"):
        of_patients = 1 - ((1 - level) / 2) ** (1 / patients_with)
    width = np.repeat(of_patients[:, None], len(METRICS), axis=1)
    width[0, 1:] = of_patients[1:][patients_with[1:] > 0].mean()
    return width
