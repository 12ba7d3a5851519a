"""How good a search's best trial is expected to be, by the number of trials: what luck and budget explain."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from analysis.statistics.intervals import LEVEL


@dataclass(frozen=True)
class ExpectedBest:
    """The expected best of 1, 2, … up to all n trials; each (n,).

    Attributes:
        mean: the expected best score.
        low, high: where the best score of a search lies in 95 of 100, as far as these trials tell.
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def expected_best(scores: NDArray[np.float64], level: float = LEVEL) -> ExpectedBest:
    """Expected best validation score by the number of trials (Dodge et al. 2019, "Show Your Work").

    The mean is over all subsets of the trials: Σ s₍ᵢ₎ C(i−1, k−1) / C(n, k). That is unbiased (Tang et al. 2020,
    "Showing Your Work Doesn't Always Work"); Dodge's formula, Σ s₍ᵢ₎ [(i/n)ᵏ − ((i−1)/n)ᵏ], draws with replacement and
    is too low, the more so the nearer k is to n. The band is of draws with replacement: the share q is reached at the
    q^(1/k) quantile of the scores. Without replacement it would close at k = n, as if another search found the same.

    Trials count as exchangeable, which a sampler's that learns are not: the curve is that of the trials in random
    order, and its start is too high for such a sampler.

    Args:
        scores: (n,) of all trials that were begun; of one that failed, the worst that a score can be.

    Raises:
        ValueError: no scores, or one that is not finite.
    """
    ranked = np.sort(np.asarray(scores, np.float64))
    trials = len(ranked)
    if not trials or not np.isfinite(ranked).all():
        raise ValueError("scores must be finite, and there must be one")
    drawn, rank = np.arange(1, trials + 1)[:, None], np.arange(1, trials + 1)
    possible = rank >= drawn
    chances = np.exp(_log_choose(rank - 1, np.minimum(drawn, rank) - 1) - _log_choose(trials, drawn)) * possible
    tails = ((1 - level) / 2, (1 + level) / 2)
    low, high = (np.quantile(ranked, tail ** (1 / drawn[:, 0]), method="inverted_cdf") for tail in tails)
    return ExpectedBest(chances @ ranked, low, high)


def _log_choose(n: NDArray[np.int64] | int, k: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(gammaln(np.add(n, 1)) - gammaln(np.add(k, 1)) - gammaln(np.subtract(n, k) + 1))
