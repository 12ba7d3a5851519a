"""Tests of models in an order that was fixed before the test set was opened."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from analysis.statistics.comparison import compare, few_changes
from analysis.statistics.resampling import METRICS, Resampled

ALPHA = 0.05
_MACRO_F1 = (0, METRICS.index("f1"))


@dataclass(frozen=True, kw_only=True)
class NotWorse:
    """Whether one model's macro F1 is shown to be no worse than another's by more than a margin.

    Attributes:
        difference: of macro F1.
        low: one-sided 95 % bound of it; None where it is not defined.
        p: one-sided, against "worse by the margin or more".
    """

    difference: float
    low: float | None
    p: float


def not_worse(resampled: Resampled, model: int, baseline: int, margin: float) -> NotWorse:
    """Compare two models on the same test patients, by the t test of ``compare`` or by ``few_changes``."""
    found = compare(resampled, [model], [baseline])
    difference = float(found.point[_MACRO_F1])
    few = few_changes(resampled, model, baseline)
    if few is not None:
        return NotWorse(difference=difference, low=-few.reach(1 - 2 * ALPHA), p=few.p_beyond(margin))
    error, degrees = float(found.standard_error[_MACRO_F1]), float(found.degrees_of_freedom[_MACRO_F1])
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = float(t.ppf(1 - ALPHA, degrees)) * error
        p = float(t.sf((difference + margin) / error, degrees)) if error > 0 else 1.0
    known = np.isfinite(reach) and reach > 0
    return NotWorse(difference=difference, low=difference - reach if known else None, p=p if np.isfinite(p) else 1.0)


def proven_in_turn(p_values: Sequence[float], alpha: float = ALPHA) -> Iterator[bool | None]:
    """Whether each claim is proven: they are tested in turn up to the first that fails; those after it are not (None).

    Each is tested at the full level. A false claim can only be proven after all before it; the first false one in the
    order has a chance of at most ``alpha`` to be proven, and where it fails none after it is tested. So the chance of
    any false claim is at most ``alpha`` without a correction (Maurer, Hothorn & Lehmacher 1995). The order must not
    depend on the test set.
    """
    failed = False
    for p in p_values:
        if failed:
            yield None
            continue
        failed = not p <= alpha
        yield not failed
