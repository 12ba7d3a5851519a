"""Few runs of ``benchmarks.statistics``, with room for chance: three standard errors."""

from functools import partial

import numpy as np
import pytest

from analysis.statistics import verdict
from analysis.statistics.comparison import swap_test
from benchmarks.statistics import SPREAD, difference_coverage, equals, false_alarms, figure_coverage, over_seeds, said

RUNS = 100
SLACK = 3 * np.sqrt(0.05 * 0.95 / RUNS)


def test_better_or_worse_is_rarely_said_of_equal_strategies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "swap_test", partial(swap_test, permutations=2_000))
    assert said(np.random.default_rng(1), 100, RUNS, equals(3))["better or worse"] <= 0.05 + SLACK


def test_intervals_hold_the_truth() -> None:
    shares = figure_coverage(np.random.default_rng(2), 100, RUNS)
    shares |= {f"difference, {name}": s for name, s in difference_coverage(np.random.default_rng(3), 100, RUNS).items()}
    for name in ("accuracy", "f1", "difference, accuracy", "difference, f1", "difference, auroc"):
        assert shares[name] >= 0.95 - SLACK, name


def test_tests_see_no_difference_between_equal_models() -> None:
    for name, share in false_alarms(np.random.default_rng(4), 100, RUNS).items():
        assert share <= 0.05 + SLACK, name


def test_differences_of_means_over_seeds_account_for_training() -> None:
    shares = over_seeds(np.random.default_rng(5), 60, 40, seeds=3, spread=SPREAD, trainings=1)
    assert shares["difference"] >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 40)
