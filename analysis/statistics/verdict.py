"""What may be said of each strategy against the baseline: better, worse, as good, or not known yet."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.stats import norm, t

from analysis.statistics.comparison import Differences, compare, differs, few_changes, holm, swap_test
from analysis.statistics.resampling import METRICS, Resampled

MARGIN = 0.01
ALPHA = 0.05
POWER = 0.8

_MACRO_F1 = (0, METRICS.index("f1"))


class Outcome(StrEnum):
    """What a verdict comes to."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent within the margin"
    NOT_WORSE = "not worse by more than the margin"
    SAME = "the same predictions"
    NOT_KNOWN = "not known with this much data"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What may be said of one strategy's macro F1 minus the baseline's.

    Attributes:
        low, high: 95 % interval; None if nothing differs or a class has examples of one patient only.
        p: Holm-corrected over the strategies, two-sided, against "no difference".
        p_not_worse: Holm-corrected, one-sided, against "worse by the margin or more".
        not_worse: whether it is shown that it is not worse by more than the margin.
        patients: in the test set.
        patients_needed: about, to tell a difference as large as the margin from none; None where it is known already,
            or more patients alone would not tell.
        of_training: whether this speaks of the strategies (several seeds each) and not of the two models.
        words: all of it in one sentence; made from the other fields where it is not given.
    """

    outcome: Outcome
    difference: float
    low: float | None
    high: float | None
    p: float
    p_not_worse: float
    not_worse: bool
    margin: float
    patients: int
    patients_needed: int | None
    of_training: bool
    words: str = ""

    def __post_init__(self) -> None:
        if not self.words:
            object.__setattr__(self, "words", self._sentence())

    @property
    def detail(self) -> str:
        """What the outcome leaves open: of which margin, or what would tell; empty where there is no more to say."""
        if self.outcome is Outcome.SAME:
            return "on every test example"
        if self.low is None:
            return "the test set does not tell how much it varies"
        if self.outcome is Outcome.NOT_KNOWN:
            return self._what_would_tell()
        if self.outcome in (Outcome.EQUIVALENT, Outcome.NOT_WORSE):
            return f"of {self.margin:g}"
        return f"but by no more than {self.margin:g}" if self.outcome is Outcome.WORSE and self.not_worse else ""

    def _sentence(self) -> str:
        if self.outcome is Outcome.SAME:
            return f"{self.outcome} {self.detail}"
        if self.low is None:
            return f"macro F1 {self.difference:+.4f}: {self.outcome}; {self.detail}"
        interval = f"95 % interval {self.low:+.4f} to {self.high:+.4f}, corrected p {self.p:.2g}"
        joint = {Outcome.WORSE: ", ", Outcome.NOT_KNOWN: "; "}.get(self.outcome, " ")
        return f"macro F1 {self.difference:+.4f} ({interval}): {self.outcome}" + (self.detail and joint + self.detail)

    def _what_would_tell(self) -> str:
        if self.patients_needed is None:
            return f"more patients alone would not tell a difference of {self.margin:g}, more seeds would"
        if self.patients_needed <= self.patients:
            return f"too near 0 or the margin of {self.margin:g} to tell"
        return f"about {self.patients_needed:,} test patients would tell a difference of {self.margin:g}"


Sides = tuple[Sequence[int], Sequence[int]]
"""Models of a strategy and those of the baseline that it is compared with, as places in ``Resampled``, one per seed."""


def verdicts(
    resampled: Resampled,
    compared: Mapping[str, Sides],
    *,
    margin: float = MARGIN,
    seed: int = 0,
) -> dict[str, Verdict]:
    """A verdict on every strategy's macro F1 against its baseline's, all claims corrected together.

    - better, worse: the Holm-corrected p value is at most 0.05 and the 95 % interval leaves out 0. With one model on
      each side, p is of the swap test; with seeds, of the t test that accounts for training. So when all are equal,
      any "better" or "worse" is said in at most 5 % of runs.
    - otherwise equivalent: two one-sided t tests show a difference smaller than the margin either way; not worse: one
      does. Each Holm-corrected over the strategies, at 0.025, and the 95 % interval must lie on the right side of the
      margin. So when all are worse by the margin, "not worse" is said of any in at most 2.5 % of runs.
    - of one model on each side that predict few patients otherwise, the interval and the tests against the margin are
      those of ``FewChanges``, where other models tell what a change does.
    - the same predictions: no test example is predicted otherwise, so that nothing tells how rare differences are.
    - otherwise not known.

    Args:
        compared: by strategy, which models are compared.
        margin: of macro F1, above 0.

    Raises:
        ValueError: the margin is not above 0.
    """
    if margin <= 0:
        raise ValueError(f"a margin of {margin} is not above 0")
    found = {name: compare(resampled, *sides) for name, sides in compared.items()}
    point, low, high, p, error, degrees = (
        np.array([getattr(difference, figure)[_MACRO_F1] for difference in found.values()])
        for figure in ("point", "low", "high", "p", "standard_error", "degrees_of_freedom")
    )
    for i, (models, baseline) in enumerate(compared.values()):
        if len(models) == len(baseline) == 1:
            p[i] = swap_test(resampled, models[0], baseline[0], seed=seed)[_MACRO_F1]
    with np.errstate(divide="ignore", invalid="ignore"):
        p_not_worse = t.sf((point + margin) / error, degrees)
        p_not_better = t.cdf((point - margin) / error, degrees)
    for i, (models, baseline) in enumerate(compared.values()):
        few = few_changes(resampled, models[0], baseline[0]) if len(models) == len(baseline) == 1 else None
        if few is not None:
            low[i], high[i] = -few.reach(), few.reach()
            p_not_worse[i] = p_not_better[i] = few.p_beyond(margin)
    corrected, not_worse = holm(p), holm(p_not_worse)
    equivalent = holm(np.maximum(p_not_worse, p_not_better))
    judged = {}
    for i, (name, difference) in enumerate(found.items()):
        at_least = bool(not_worse[i] <= ALPHA / 2 and low[i] > -margin)
        outcome = _outcome(
            different=bool(corrected[i] <= ALPHA and (low[i] > 0 or high[i] < 0)),
            above=bool(point[i] > 0),
            same=not differs(resampled, *compared[name]).any(),
            not_worse=at_least,
            within=bool(equivalent[i] <= ALPHA / 2 and high[i] < margin),
        )
        unknown = outcome is Outcome.NOT_KNOWN
        judged[name] = Verdict(
            outcome=outcome,
            difference=float(point[i]),
            low=None if math.isnan(low[i]) else float(low[i]),
            high=None if math.isnan(high[i]) else float(high[i]),
            p=float(corrected[i]),
            p_not_worse=float(not_worse[i]),
            not_worse=at_least,
            margin=margin,
            patients=resampled.patients,
            patients_needed=_patients_needed(resampled.patients, difference, margin, len(found)) if unknown else None,
            of_training=difference.of_training,
        )
    return judged


def _outcome(*, different: bool, above: bool, same: bool, not_worse: bool, within: bool) -> Outcome:
    """The strongest outcome that holds.

    Args:
        above: the difference is above 0.
        within: it is shown to be smaller than the margin both ways, given that it is not worse.
    """
    if different:
        return Outcome.BETTER if above else Outcome.WORSE
    if same:
        return Outcome.SAME
    if not_worse:
        return Outcome.EQUIVALENT if within else Outcome.NOT_WORSE
    return Outcome.NOT_KNOWN


def _patients_needed(patients: int, of: Differences, margin: float, strategies: int) -> int | None:
    """To tell a difference of the margin from none with a power of 80 %, as one of this number of strategies.

    The standard error falls with the square root of the patients; training's share of it stays.
    """
    standard_error = margin / (norm.ppf(1 - ALPHA / (2 * strategies)) + norm.ppf(POWER))
    room = standard_error**2 - of.training_variance[_MACRO_F1]
    needed = patients * of.patients_variance[_MACRO_F1] / room if room > 0 else math.nan
    return None if math.isnan(needed) else math.ceil(needed)
