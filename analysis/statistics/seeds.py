"""Several trainings (seeds) of one strategy: what varies by training, and what by the patients of the test set."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t

from analysis.statistics.intervals import LEVEL, Intervals, figure_intervals
from analysis.statistics.resampling import Resampled


@dataclass(frozen=True)
class Variance:
    """The variance of an estimate, by its source; each (1 + classes, metrics)."""

    patients: NDArray[np.float64]
    training: NDArray[np.float64]
    degrees_of_freedom: NDArray[np.float64]

    @property
    def total(self) -> NDArray[np.float64]:
        """(1 + classes, metrics) the sum of both parts."""
        return self.patients + self.training


def total_variance(
    resampled: Resampled,
    of_patients: NDArray[np.float64],
    degrees_of_freedom: ArrayLike,
    strategies: Sequence[Sequence[int]],
) -> Variance:
    """Add what training contributes to the variance of means over seeds.

    Seeds and patients are crossed: every model is tested on the same patients. The jackknife over patients holds all
    of an estimate's variance but the seeds' own, σ²/k for k seeds. σ² is the variance over the seeds' figures on the
    test set, less what the test set's chance gives to each seed differently (at least 0). The degrees of freedom are
    Satterthwaite's, with the seeds' variance as uncertain as it is before that is taken off.

    Args:
        of_patients: (1 + classes, metrics) the jackknife variance of the estimate.
        degrees_of_freedom: (metrics,) or one for all, of that variance.
        strategies: for each mean over seeds in the estimate, its models; none, if training is not to count.
    """
    training, uncertainty = np.zeros(of_patients.shape), of_patients**2 / np.asarray(degrees_of_freedom)
    for models in strategies:
        seeds = len(models)
        over_seeds = resampled.point[list(models)].var(axis=0, ddof=1)
        training = training + np.maximum(over_seeds - _of_chance(resampled, models), 0.0) / seeds
        uncertainty = uncertainty + (over_seeds / seeds) ** 2 / (seeds - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Variance(of_patients, training, (of_patients + training) ** 2 / uncertainty)


def _of_chance(resampled: Resampled, models: Sequence[int]) -> NDArray[np.float64]:
    """(1 + classes, metrics) the part of the variance over seeds that is due to the patients of the test set."""
    apart = [resampled.difference([one], models).variance for one in models]
    return np.asarray(np.sum(apart, axis=0) / (len(models) - 1))


@dataclass(frozen=True)
class SeedFigures:
    """Mean figures over seeds, all (1 + classes, metrics).

    Attributes:
        intervals: of the mean.
        deviation: standard deviation over the seeds on this test set; NaN for one seed.
        of_training: whether the intervals account for training; with one seed they do not.
    """

    intervals: Intervals
    deviation: NDArray[np.float64]
    of_training: bool


def figures_over_seeds(resampled: Resampled, models: Sequence[int], level: float = LEVEL) -> SeedFigures:
    """Mean figures of one strategy's models (one per seed) with intervals that account for patients and training.

    With several seeds the BCa interval over patients is stretched by what training adds, in both directions alike. A
    bootstrap of seeds as well would draw from too few of them and be too narrow.
    """
    mean = resampled.mean(models)
    found = figure_intervals(mean, level)
    if len(models) == 1:
        return SeedFigures(found, np.full(found.point.shape, np.nan), of_training=False)
    variance = total_variance(resampled, mean.variance, resampled.units - 1, [models])
    upper = (1 + level) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        stretch = np.sqrt(variance.total / variance.patients) * (
            t.ppf(upper, variance.degrees_of_freedom) / t.ppf(upper, resampled.units - 1)
        )
    stretch = np.where(np.isfinite(stretch), stretch, 1.0)
    stretched = Intervals(
        found.point,
        np.maximum(found.point - stretch * (found.point - found.low), 0.0),
        np.minimum(found.point + stretch * (found.high - found.point), 1.0),
        found.undefined,
    )
    return SeedFigures(stretched, resampled.point[list(models)].std(axis=0, ddof=1), of_training=True)
