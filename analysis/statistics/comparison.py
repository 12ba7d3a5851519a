"""A strategy against the baseline on the same test patients: how large the difference is, and whether it is chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, binom, binomtest, norm, rankdata, t

from analysis.statistics.intervals import LEVEL
from analysis.statistics.resampling import METRICS, Resampled, figures_of_confusions
from analysis.statistics.seeds import total_variance

PERMUTATIONS = 10_000


@dataclass(frozen=True)
class Differences:
    """Figures of a strategy minus the baseline's, all (1 + classes, metrics) if not said otherwise. NaN: not defined.

    Attributes:
        low, high: of the interval; NaN where the models' predictions leave nothing to differ.
        p: two-sided, of the t test that the interval belongs to; 1 where nothing differs.
        patients_variance: how much of the variance comes from which patients are in the test set.
        training_variance: and how much from training; 0 unless both sides have several seeds.
        degrees_of_freedom: of the t distribution.
        of_training: whether the interval accounts for training, so that it speaks of strategies and not of models.
    """

    point: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p: NDArray[np.float64]
    patients_variance: NDArray[np.float64]
    training_variance: NDArray[np.float64]
    degrees_of_freedom: NDArray[np.float64]
    of_training: bool

    @property
    def standard_error(self) -> NDArray[np.float64]:
        """(1 + classes, metrics) square root of the whole variance."""
        return np.asarray(np.sqrt(self.patients_variance + self.training_variance))


def compare(resampled: Resampled, models: Sequence[int], baseline: Sequence[int], level: float = LEVEL) -> Differences:
    """Mean figures of one strategy's models (one per seed) minus those of the baseline's, with t intervals.

    The variance is the jackknife's over patients, of the difference itself, so that what both find hard cancels out;
    with several seeds on both sides training adds its share (:func:`analysis.statistics.seeds.total_variance`). BCa
    intervals of differences are too narrow (``docs/statistics.md``): most patients do not differ at all. So the
    degrees of freedom are one less than the patients that do; for AUROC, in which nearly all do, than all.
    """
    of_training = min(len(models), len(baseline)) > 1
    difference = resampled.difference(models, baseline)
    degrees_of_freedom = _degrees_of_freedom(resampled, models, baseline)
    found = total_variance(
        resampled, difference.variance, degrees_of_freedom, [models, baseline] if of_training else []
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        standard_error = np.where(found.total > 0, np.sqrt(found.total), np.nan)
        reach = t.ppf((1 + level) / 2, found.degrees_of_freedom) * standard_error
        p = 2 * t.sf(np.abs(difference.point) / standard_error, found.degrees_of_freedom)
    return Differences(
        difference.point,
        difference.point - reach,
        difference.point + reach,
        np.where(found.total == 0, 1.0, p),
        found.patients,
        found.training,
        found.degrees_of_freedom,
        of_training,
    )


def _degrees_of_freedom(resampled: Resampled, models: Sequence[int], baseline: Sequence[int]) -> NDArray[np.float64]:
    """(metrics,) of the jackknife's variance, at least 1: few patients that differ tell little of how many do."""
    differing = int(differs(resampled, models, baseline).sum())
    return np.array([max(differing - 1, 1)] * 4 + [resampled.units - 1], np.float64)


def differs(resampled: Resampled, models: Sequence[int], baseline: Sequence[int]) -> NDArray[np.bool_]:
    """(units,) whether a unit is predicted otherwise, on the mean over seeds."""
    ours, theirs = (resampled.confusions[:, list(side)].mean(axis=1) for side in (models, baseline))
    return np.asarray((np.abs(ours - theirs) > 1e-9).reshape(len(ours), -1).any(axis=1))


MOST_CHANGED = 10
"""Units predicted otherwise, up to which their own variance says too little and ``FewChanges`` is used."""
_ENOUGH_CHANGED = 30
"""Units that another model must predict otherwise, for its changes to tell how much one does."""


@dataclass(frozen=True)
class FewChanges:
    """How far apart two models' macro F1 can be that predict few patients otherwise.

    At most the share of patients that are predicted otherwise, by its exact upper bound (Clopper & Pearson 1934), times
    the most that one change does. The latter is the largest effect that any model's change of a patient has on this
    test set: the bound holds as far as no change of this model would do more.

    Attributes:
        changed: units (see ``Resampled``) that are predicted otherwise.
        units: all of them.
        worst: the largest effect of a unit's change on macro F1, times ``units``.
    """

    changed: int
    units: int
    worst: float

    def reach(self, level: float = LEVEL) -> float:
        """The largest difference of macro F1 at a two-sided level."""
        return self.worst * float(beta.ppf((1 + level) / 2, self.changed + 1, self.units - self.changed))

    def p_beyond(self, margin: float) -> float:
        """One-sided p value against "the difference is the margin or more"."""
        return float(binom.cdf(self.changed, self.units, min(margin / self.worst, 1.0)))


def few_changes(resampled: Resampled, model: int, baseline: int) -> FewChanges | None:
    """See ``FewChanges``; None where many units are predicted otherwise, or no other model tells what a change does."""
    changes = [differs(resampled, [other], [baseline]) for other in range(len(resampled.point))]
    telling = [other for other, of in enumerate(changes) if other != model and of.sum() >= _ENOUGH_CHANGED]
    if changes[model].sum() > MOST_CHANGED or not telling:
        return None
    macro_f1 = METRICS.index("f1")
    point, without = resampled.point[:, 0, macro_f1], resampled.jackknife[:, :, 0, macro_f1]
    effects = resampled.units * ((point - point[baseline]) - (without - without[:, [baseline]]))
    worst = float(np.abs(effects[:, [model, *telling]]).max())
    return FewChanges(int(changes[model].sum()), resampled.units, worst) if np.isfinite(worst) and worst > 0 else None


def swap_test(
    resampled: Resampled, model: int, baseline: int, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> NDArray[np.float64]:
    """Paired permutation test: whose predictions are whose is swapped, for whole patients at random.

    Returns:
        (1 + classes, 4) two-sided p values of the differences in accuracy, precision, recall and F1, overall and by
        class; the data as they are count as one permutation, so none is 0 (Phipson & Smyth 2010). NaN: not defined.
    """
    ours, theirs = resampled.confusions[:, model], resampled.confusions[:, baseline]
    patients, multilabel = len(ours), ours.ndim == 4
    present = resampled.examples_of_classes.sum(axis=0) > 0
    swapped = np.random.default_rng(seed).integers(0, 2, (permutations, patients)).astype(np.float64)
    swapped[0] = 0
    moved = (swapped @ (theirs - ours).reshape(patients, -1)).reshape(-1, *ours.shape[1:])
    ours_now = figures_of_confusions(ours.sum(axis=0) + moved, present, multilabel=multilabel)
    theirs_now = figures_of_confusions(theirs.sum(axis=0) - moved, present, multilabel=multilabel)
    apart = np.abs(ours_now - theirs_now)
    as_extreme = (apart >= apart[0] - 1e-12).mean(axis=0)
    return np.where(np.isnan(apart[0]), np.nan, as_extreme)


@dataclass(frozen=True)
class McNemar:
    """Examples that one model alone has right, and the p value of such unequal numbers by chance."""

    only_model: int
    only_baseline: int
    p: float


def mcnemar(right: NDArray[np.bool_], baseline_right: NDArray[np.bool_]) -> McNemar:
    """McNemar's exact test of accuracy; both arguments are (n,) whether a model has an example right.

    It takes examples as independent, which those of one patient are not; :func:`swap_test` does not.
    """
    ours, theirs = int((right & ~baseline_right).sum()), int((~right & baseline_right).sum())
    p = binomtest(ours, ours + theirs).pvalue if ours + theirs else 1.0
    return McNemar(ours, theirs, float(p))


def delong(
    positive: NDArray[np.bool_], scores: NDArray[np.floating], patients: NDArray[Any] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AUROC of models on the same examples and its covariance (DeLong et al. 1988), by ranks (Sun & Xu 2014).

    Args:
        positive: (n,) whether the example is of the class.
        scores: (models, n).
        patients: (n,) whose example each is: the covariance is then that of clusters (Obuchowski 1997).

    Returns:
        (models,) areas and (models, models) covariance; NaN with fewer than two patients of either kind.
    """
    numbers = np.arange(len(positive)) if patients is None else np.unique(patients, return_inverse=True)[1]
    clusters = numbers.max() + 1
    ranks = rankdata(scores, axis=1)
    if not 0 < positive.sum() < len(positive):
        return np.full(len(scores), np.nan), np.full((len(scores), len(scores)), np.nan)
    above = (ranks[:, positive] - rankdata(scores[:, positive], axis=1)) / (~positive).sum()
    below = 1 - (ranks[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / positive.sum()
    areas = above.mean(axis=1)
    covariance, pulls = np.zeros((len(scores), len(scores))), []
    for side, components in ((positive, above), (~positive, below)):
        by_cluster = np.array(
            [np.bincount(numbers[side], row, minlength=clusters) for row in components - areas[:, None]]
        )
        pulls.append(by_cluster / side.sum())
        covariance += pulls[-1] @ pulls[-1].T * _unbiased(len(np.unique(numbers[side])))
    crossed = pulls[0] @ pulls[1].T
    return areas, covariance + (crossed + crossed.T) * _unbiased(clusters)


def _unbiased(count: int) -> float:
    return count / (count - 1) if count > 1 else np.nan


def delong_p(areas: NDArray[np.float64], covariance: NDArray[np.float64]) -> float:
    """Two-sided p value of the difference of two models' areas, as :func:`delong` gives them; 1 if nothing differs."""
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    if variance <= 0:  # NaN is not
        return 1.0
    return float(2 * norm.sf(abs(areas[0] - areas[1]) / np.sqrt(variance)))


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """p values (any number of strategies) corrected so that one false claim among all is as rare as said (Holm 1979).

    One that is not defined (NaN) counts as 1.
    """
    values = np.nan_to_num(np.asarray(p, np.float64), nan=1.0)
    order = np.argsort(values)
    corrected = np.empty(len(values))
    corrected[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return np.minimum(corrected, 1.0)
