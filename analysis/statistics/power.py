"""How many test patients it takes to show that a model is no worse: known before anything is trained."""

import math
from collections.abc import Sequence

from scipy.stats import norm

from analysis.statistics.comparison import MOST_CHANGED
from analysis.statistics.fixed_sequence import ALPHA
from analysis.statistics.verdict import POWER

SHARES = (0.05, 0.2)
"""Shares of the answers that a compressed model may give otherwise: a quantized model, and a small student."""


def patients_needed(per_patient: Sequence[float], changed: float, margin: float, *, one_each: bool = False) -> int:
    """About how many test patients show "not worse by more than the margin" of a model that is as good.

    A wrong answer more or less on a symptom that n texts report moves its F1 by about 1 / 2n, and so macro F1 over K
    symptoms by 1 / 2Kn. A model that gives a share x of the n answers otherwise, at random for better and worse, then
    has a difference of macro F1 of variance Σ x / 4K²n over the symptoms. The one-sided t test at 5 % shows it to be
    above minus the margin with a power of 80 % where its standard error is margin / (z.95 + z.80) (Julious 2004,
    non-inferiority). Fewer changes than ``FewChanges`` is for are not enough in any case.

    It takes answers as independent: alike errors of a patient make it more.

    Args:
        per_patient: by symptom, how many texts of a patient report it, on average; above 0.
        changed: share of the texts that report a symptom that a model answers otherwise.
        margin: of macro F1.
        one_each: a text reports one symptom, so that a changed answer is wrong on two of them.
    """
    symptoms = len(per_patient)
    variance = changed * sum(1 / reported for reported in per_patient) / (4 * symptoms**2) * (2 if one_each else 1)
    enough = variance * (norm.ppf(1 - ALPHA) + norm.ppf(POWER)) ** 2 / margin**2
    many_changes = MOST_CHANGED / (changed * sum(per_patient))
    return math.ceil(max(float(enough), many_changes))
