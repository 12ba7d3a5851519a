"""Several trainings (seeds) of one strategy: what varies by training, and what by the patients of the test set."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from analysis.statistics.intervals import LEVEL, Intervals, figure_intervals
from analysis.statistics.resampling import Resampled


@dataclass(frozen=True)
class Variance:
    """Of an estimate, by its source; each (1 + classes, metrics)."""

    patients: NDArray[np.float64]
    training: NDArray[np.float64]
    degrees_of_freedom: NDArray[np.float64]

    @property
    def total(self) -> NDArray[np.float64]:
        return self.patients + self.training


def total_variance(
    resampled: Resampled, of_patients: NDArray[np.float64], strategies: Sequence[Sequence[int]]
) -> Variance:
    """Add what training contributes to the variance of means over seeds.

    Seeds and patients are crossed: every model is tested on the same patients. The jackknife over patients holds all
    of an estimate's variance but the seeds' own, σ²/k for k seeds; :func:`training_variance` estimates σ². The
    degrees of freedom are Satterthwaite's.

    Args:
        of_patients: (1 + classes, metrics) the jackknife variance of the estimate.
        strategies: for each mean over seeds in the estimate, its models; none, if training is not to count.
    """
    parts = [(training_variance(resampled, models) / len(models), len(models) - 1) for models in strategies]
    training = sum((part for part, _ in parts), np.zeros(of_patients.shape))
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = of_patients**2 / (resampled.patients - 1) + sum(part**2 / degrees for part, degrees in parts)
        degrees_of_freedom = (of_patients + training) ** 2 / weights
    return Variance(of_patients, training, degrees_of_freedom)


def training_variance(resampled: Resampled, models: Sequence[int]) -> NDArray[np.float64]:
    """(1 + classes, metrics) variance over trainings of the figure that a model has on all patients there are.

    The variance over seeds on the test set, less what the test set's chance gives to each seed differently.
    """
    seeds = len(models)
    of_chance = np.mean([resampled.difference([one], models).variance for one in models], axis=0) * seeds / (seeds - 1)
    return np.asarray(np.maximum(resampled.point[list(models)].var(axis=0, ddof=1) - of_chance, 0.0))


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
    variance = total_variance(resampled, mean.variance, [models])
    upper = (1 + level) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        stretch = np.sqrt(variance.total / variance.patients) * (
            t.ppf(upper, variance.degrees_of_freedom) / t.ppf(upper, resampled.patients - 1)
        )
    stretch = np.where(np.isfinite(stretch), stretch, 1.0)
    stretched = Intervals(
        found.point,
        np.maximum(found.point - stretch * (found.point - found.low), 0.0),
        np.minimum(found.point + stretch * (found.high - found.point), 1.0),
        found.undefined,
    )
    return SeedFigures(stretched, resampled.point[list(models)].std(axis=0, ddof=1), of_training=True)
