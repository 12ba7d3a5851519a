"""Patients that are needed, against the tests that are made in the end, on simulated test sets."""

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.statistics.fixed_sequence import ALPHA, not_worse
from analysis.statistics.power import patients_needed
from analysis.statistics.resampling import Resampled, resample

SHARES = np.array([0.3, 0.15, 0.1])
"""Of the texts that report each symptom."""
TEXTS = 6
"""Of each patient."""
MARGIN = 0.03


def draw(generator: np.random.Generator, patients: int, changed: float) -> Resampled:
    """A baseline that errs on a twentieth of the answers, and a model as good that gives a share otherwise."""
    truth = generator.random((patients * TEXTS, len(SHARES))) < SHARES

    def other_errors(said: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
        """As many answers yes become no as answers no become yes."""
        flips = generator.random(truth.shape) < np.where(truth, share / 2, share / 2 * SHARES / (1 - SHARES))
        return said ^ flips

    baseline = other_errors(truth, 0.1)
    ours, theirs = other_errors(baseline, changed / 2), other_errors(baseline, changed / 2)
    said = np.stack([theirs, ours])
    return resample(truth, np.repeat(np.arange(patients), TEXTS), np.where(said, 0.9, 0.1), said, resamples=1)


@pytest.mark.parametrize("changed", [0.1, 0.2])
def test_so_many_patients_show_it_about_four_times_in_five(changed: float) -> None:
    needed = patients_needed((SHARES * TEXTS).tolist(), changed, MARGIN)
    generator = np.random.default_rng(0)

    def power(patients: int) -> float:
        found = [not_worse(draw(generator, patients, changed), 1, 0, MARGIN).p <= ALPHA for _ in range(100)]
        return float(np.mean(found))

    assert 0.65 <= power(needed) <= 0.97
    assert power(needed // 4) < 0.6


def test_more_patients_are_needed_for_a_smaller_margin_rarer_symptoms_and_more_changes() -> None:
    usual = patients_needed([1.0, 1.0], 0.2, 0.01)
    assert patients_needed([1.0, 1.0], 0.2, 0.005) == pytest.approx(4 * usual, rel=0.01)
    assert patients_needed([1.0, 0.1], 0.2, 0.01) > 5 * usual
    assert patients_needed([1.0, 1.0], 0.4, 0.01) == pytest.approx(2 * usual, rel=0.01)
    assert patients_needed([1.0, 1.0], 0.2, 0.01, one_each=True) == pytest.approx(2 * usual, rel=0.01)
    assert patients_needed([1.0, 1.0], 0.001, 0.5) == 5_000, "ten changes at least"
