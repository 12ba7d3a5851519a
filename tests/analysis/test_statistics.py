"""The statistics against SciPy, statsmodels, scikit-learn, and slow counting."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import bootstrap, norm, permutation_test
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import f1_score, precision_recall_fscore_support, roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from analysis.statistics.calibration import fit_temperature, reliability, tempered
from analysis.statistics.comparison import compare, delong, delong_p, holm, mcnemar, swap_test
from analysis.statistics.intervals import bca, figure_intervals
from analysis.statistics.resampling import METRICS, Resampled, resample
from analysis.statistics.seeds import figures_over_seeds, total_variance
from analysis.statistics.selection import expected_best
from analysis.statistics.verdict import Outcome, verdicts
from trainables.parts.metrics import classification_metrics

SYMPTOMS = ("a", "b", "c", "d")
F1, AUROC = METRICS.index("f1"), METRICS.index("auroc")
RESAMPLES = 2_000
Sample = tuple[NDArray[np.int64], NDArray[Any], NDArray[np.float64]]


def drawn(patients: int = 60, models: int = 2, seed: int = 0, sure: float = 1.0, own: float = 1.0) -> Sample:
    """Models that share most of their errors; probabilities of two decimals, so that some are tied."""
    generator = np.random.default_rng(seed)
    owners = np.repeat(np.arange(patients), generator.integers(1, 6, patients))
    labels = generator.choice(len(SYMPTOMS), len(owners), p=[0.4, 0.3, 0.2, 0.1])
    common = generator.normal(0, 1, (len(owners), 4)) + generator.normal(0, 1, (patients, 4))[owners]
    logits = sure * 2 * np.eye(4)[labels] + common + own * generator.normal(0, 1, (models, len(owners), 4))
    powers = np.exp(logits)
    return labels, np.char.add("patient-", owners.astype(str)), np.round(powers / powers.sum(-1, keepdims=True), 2)


@pytest.fixture(scope="module")
def sample() -> Sample:
    return drawn()


@pytest.fixture(scope="module")
def resampled(sample: Sample) -> Resampled:
    return resample(*sample, resamples=RESAMPLES)


def test_point_figures_are_those_of_the_leaderboard(sample: Sample, resampled: Resampled) -> None:
    labels, _, probabilities = sample
    for model, figures in enumerate(resampled.point):
        metrics = classification_metrics(labels, probabilities[model], SYMPTOMS)
        assert figures[0] == pytest.approx([getattr(metrics, name) for name in METRICS])
        for symptom, row in zip(SYMPTOMS, figures[1:], strict=True):
            scores = metrics.per_symptom[symptom]
            assert row[1:] == pytest.approx([getattr(scores, name) for name in METRICS[1:]])
        chosen = probabilities[model].argmax(axis=1)
        assert figures[1:, 0] == pytest.approx([np.mean((labels == c) == (chosen == c)) for c in range(4)])


def test_a_resample_is_the_figures_of_the_patients_drawn(sample: Sample, resampled: Resampled) -> None:
    labels, patients, probabilities = sample
    names = np.unique(patients)
    draws = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    for replicate in (0, 1, RESAMPLES - 1):
        rows = np.repeat(np.arange(len(labels)), draws[replicate][np.searchsorted(names, patients)])
        again = resample(labels[rows], patients[rows], probabilities[:, rows], resamples=1).point
        np.testing.assert_allclose(resampled.replicates[replicate], again)
    left = patients != names[7]
    without = resample(labels[left], patients[left], probabilities[:, left], resamples=1).point
    np.testing.assert_allclose(resampled.jackknife[7], without)


@pytest.mark.parametrize("metric", ["f1", "auroc"])
def test_the_bca_interval_is_scipys(sample: Sample, resampled: Resampled, metric: str) -> None:
    labels, patients, probabilities = sample
    names = np.unique(patients)
    rows_of = [np.flatnonzero(patients == name) for name in names]

    def statistic(chosen: NDArray[np.int64]) -> float:
        rows = np.concatenate([rows_of[one] for one in chosen])
        if metric == "f1":
            return float(f1_score(labels[rows], probabilities[0, rows].argmax(axis=1), average="macro"))
        areas = [roc_auc_score(labels[rows] == c, probabilities[0, rows, c]) for c in range(4)]
        return float(np.mean(areas))

    place = (0, METRICS.index(metric))

    class Drawn:
        bootstrap_distribution = resampled.replicates[:, 0, *place]

    found = bootstrap(
        (np.arange(len(names)),), statistic, n_resamples=0, vectorized=False, method="BCa", bootstrap_result=Drawn()
    ).confidence_interval
    low, high = bca(resampled.mean([0]), norm.ppf(0.975))
    assert (low[place], high[place]) == pytest.approx((found.low, found.high), abs=1e-9)
    wider = figure_intervals(resampled.mean([0]))
    assert wider.low[place] <= low[place] <= high[place] <= wider.high[place]


def test_nothing_depends_on_the_order_of_the_rows(sample: Sample, resampled: Resampled) -> None:
    labels, patients, probabilities = sample
    order = np.random.default_rng(5).permutation(len(labels))
    shuffled = resample(labels[order], patients[order], probabilities[:, order], resamples=RESAMPLES)
    for figures in ("point", "replicates", "jackknife", "confusions"):
        np.testing.assert_array_equal(getattr(shuffled, figures), getattr(resampled, figures))
    assert verdicts(shuffled, {"other": ([1], [0])}) == verdicts(resampled, {"other": ([1], [0])})
    np.testing.assert_allclose(
        delong(labels[order] == 1, probabilities[:, order, 1], patients[order])[1],
        delong(labels == 1, probabilities[:, :, 1], patients)[1],
    )
    assert fit_temperature(labels[order], probabilities[0, order]) == pytest.approx(
        fit_temperature(labels, probabilities[0])
    )
    before, after = reliability(labels, probabilities[0]), reliability(labels[order], probabilities[0, order])
    np.testing.assert_allclose(before.confidence, after.confidence)
    np.testing.assert_array_equal(before.examples, after.examples)


def test_a_symptom_that_is_absent_has_no_figures_and_leaves_macro_averages(sample: Sample) -> None:
    labels, patients, probabilities = sample
    kept = labels != 3
    found = resample(labels[kept], patients[kept], probabilities[:, kept], resamples=200)
    intervals = figure_intervals(found.mean([0]))
    assert np.isnan(intervals.point[4, 1:]).all()
    assert np.isnan(intervals.low[4, 1:]).all()
    assert (intervals.undefined[4, 1:] == 200).all()
    assert np.isfinite(intervals.low[0]).all()
    metrics = classification_metrics(labels[kept], probabilities[0, kept], SYMPTOMS)
    assert intervals.point[0, F1] == pytest.approx(metrics.f1)


def test_resamples_without_a_rare_symptom_are_counted_not_averaged() -> None:
    labels, patients, probabilities = drawn(30)
    labels[np.isin(labels, [3])] = 0
    labels[patients == "patient-4"] = 3
    found = resample(labels, patients, probabilities, resamples=1000)
    intervals = figure_intervals(found.mean([0]))
    assert intervals.undefined[0, F1] == pytest.approx(1000 * (1 - 1 / 30) ** 30, rel=0.15)
    assert intervals.undefined[0, 0] == 0
    assert np.isnan(compare(found, [1], [0]).low[0, F1])  # of one patient nothing is known
    assert verdicts(found, {"other": ([1], [0])})["other"].outcome is Outcome.NOT_KNOWN


def test_a_perfect_model_has_the_exact_interval_and_one_class_alone_no_auroc() -> None:
    labels, patients, _ = drawn(40)
    found = resample(labels, patients, np.eye(4)[labels][None], resamples=200)
    intervals = figure_intervals(found.mean([0]))
    assert intervals.high[0] == pytest.approx(np.ones(5))
    assert intervals.low[0, 0] == pytest.approx(0.025 ** (1 / 40))  # Clopper–Pearson of 40 out of 40
    assert intervals.low[0, F1] < intervals.low[0, 0]
    alone = resample(np.zeros(10, int), np.arange(10), np.eye(4)[np.zeros(10, int)][None], resamples=50)
    assert np.isnan(alone.point[:, :, AUROC]).all()
    assert alone.point[0, 0, F1] == 1


def test_one_patient_cannot_be_resampled_and_two_can() -> None:
    with pytest.raises(ValueError, match="fewer than two patients"):
        resample(np.array([0, 1]), np.array(["x", "x"]), np.eye(2)[None])
    found = resample(np.array([0, 1, 0, 1]), np.array(["x", "x", "y", "y"]), np.eye(2)[[[0, 1, 0, 0]]], resamples=50)
    assert np.isfinite(figure_intervals(found.mean([0])).low[0, :1]).all()


def test_many_patients_are_drawn_in_groups_and_vary_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = drawn(patients=400)
    single = resample(*sample, resamples=500)
    monkeypatch.setattr("analysis.statistics.resampling.MOST_UNITS", 100)
    grouped = resample(*sample, resamples=500)
    assert (grouped.patients, grouped.units) == (400, 100)
    np.testing.assert_array_equal(grouped.point, single.point)
    np.testing.assert_allclose(grouped.replicates.std(axis=0), single.replicates.std(axis=0), rtol=0.3)
    np.testing.assert_allclose(grouped.mean([0]).variance, single.mean([0]).variance, rtol=0.5)
    order = np.random.default_rng(1).permutation(len(sample[0]))
    again = resample(sample[0][order], sample[1][order], sample[2][:, order], resamples=500)
    np.testing.assert_array_equal(again.replicates, grouped.replicates)


def test_mcnemars_test_is_statsmodels(sample: Sample) -> None:
    labels, _, probabilities = sample
    ours, theirs = probabilities[0].argmax(axis=1), probabilities[1].argmax(axis=1)
    found = mcnemar(ours == labels, theirs == labels)
    table = [[0, found.only_model], [found.only_baseline, 0]]
    assert found.p == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue)
    assert found.only_model == ((ours == labels) & (theirs != labels)).sum()
    assert mcnemar(ours == labels, ours == labels).p == 1


def test_the_swap_test_finds_scipys_exact_p_value() -> None:
    labels, patients, probabilities = drawn(9, seed=3)
    found = resample(labels, patients, probabilities, resamples=1)
    p = swap_test(found, 0, 1, permutations=20_000)
    right = [probabilities[model].argmax(axis=1) == labels for model in (0, 1)]
    hits = [[(side & (patients == name)).sum() for name in np.unique(patients)] for side in right]
    exact = permutation_test(
        hits, lambda x, y, axis: x.sum(axis) - y.sum(axis), permutation_type="samples", vectorized=True
    ).pvalue
    assert p[0, 0] == pytest.approx(exact, abs=0.015)
    confusions = found.confusions
    apart = []
    for swap in itertools.product([0, 1], repeat=9):
        sides = [sum(confusions[i, side ^ s] for i, s in enumerate(swap)) for side in (0, 1)]
        cells = np.indices((4, 4)).reshape(2, -1)
        scores = [f1_score(*cells, average="macro", zero_division=0, sample_weight=side.ravel()) for side in sides]
        apart.append(abs(scores[0] - scores[1]))
    assert p[0, F1] == pytest.approx(np.mean(np.array(apart) >= apart[0] - 1e-12), abs=0.015)


OVARIAN = """
3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1 3.8 5.7 5 1 3.7 6.7 6 1
3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0 2.3 4.4 6 1 4.2 7.6 4 0 4.0 6.6 6 0 3.5 5.8 6 1
3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1 3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1 4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1
3.3 6.8 6 0 1.7 4.0 7 0 3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1 2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1
3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1
"""
"""Albumin, total protein, K-G score and outcome of DeLong et al. (1988), as in SAS/STAT's LOGISTIC, example 8."""


def test_delong_is_the_covariance_of_all_pairs_on_delongs_data() -> None:
    albumin, protein, score, outcome = np.array(OVARIAN.split(), float).reshape(-1, 4).T
    positive, scores = outcome == 1, np.stack([10 - score, albumin, protein])
    areas, covariance = delong(positive, scores)
    assert areas == pytest.approx([roc_auc_score(positive, row) for row in scores])
    cells = scores[:, positive][:, :, None] - scores[:, ~positive][:, None, :]
    wins = (cells > 0) + (cells == 0) / 2
    expected = np.cov(wins.mean(axis=2)) / positive.sum() + np.cov(wins.mean(axis=1)) / (~positive).sum()
    np.testing.assert_allclose(covariance, expected)


def test_delong_of_clusters_counts_pairs_of_patients(sample: Sample) -> None:
    labels, patients, probabilities = sample
    positive, scores = labels == 1, probabilities[:, :, 1]
    areas, covariance = delong(positive, scores, patients)
    cells = scores[:, positive][:, :, None] - scores[:, ~positive][:, None, :]
    wins = (cells > 0) + (cells == 0) / 2
    assert areas == pytest.approx(wins.mean(axis=(1, 2)))
    expected, names = np.zeros((2, 2)), np.unique(patients)
    v10 = wins.mean(axis=2) - areas[:, None]
    v01 = wins.mean(axis=1) - areas[:, None]
    s10 = np.stack([v10[:, patients[positive] == name].sum(axis=1) for name in names]) / positive.sum()
    s01 = np.stack([v01[:, patients[~positive] == name].sum(axis=1) for name in names]) / (~positive).sum()
    for a, b in itertools.product((0, 1), repeat=2):
        for left, right, of in ((s10, s10, positive), (s01, s01, ~positive)):
            count = len(set(patients[of]))
            expected[a, b] += count / (count - 1) * (left[:, a] * right[:, b]).sum()
        count = len(names)
        expected[a, b] += count / (count - 1) * (s10[:, a] * s01[:, b] + s01[:, a] * s10[:, b]).sum()
    np.testing.assert_allclose(covariance, expected)
    assert 0 < delong_p(areas, covariance) <= 1
    assert delong_p(*delong(positive, scores[[0, 0]])) == 1
    assert np.isnan(delong(np.ones(len(labels), bool), scores)[0]).all()


def test_holms_correction_is_statsmodels() -> None:
    p = [0.012, 0.4, 0.001, 0.03, 0.03]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm([0.01, math.nan]) == pytest.approx([0.02, 1])


def test_the_difference_is_of_the_same_patients(resampled: Resampled) -> None:
    found = compare(resampled, [1], [0])
    assert found.point == pytest.approx(resampled.point[1] - resampled.point[0])
    assert found.standard_error[0, F1] == pytest.approx(
        resampled.difference([1], [0]).replicates[:, 0, F1].std(), rel=0.1
    )
    alone = np.hypot(*(np.sqrt(resampled.mean([model]).variance[0, F1]) for model in (0, 1)))
    assert found.standard_error[0, F1] < alone
    assert ((found.p <= 0.05) == ((found.low > 0) | (found.high < 0))).all()
    same = compare(resampled, [0], [0])
    assert (same.p == 1).all()
    assert np.isnan(same.low).all()


def test_verdicts_say_what_the_data_bear() -> None:
    labels, patients, probabilities = drawn(300, own=0.3)
    baseline = probabilities[0]
    models = np.stack([baseline, np.roll(baseline, 1, axis=1), baseline, np.eye(4)[labels]])
    found = resample(labels, patients, models, resamples=1)
    judged = verdicts(found, {"wrong": ([1], [0]), "copy": ([2], [0]), "perfect": ([3], [0])})
    assert [v.outcome for v in judged.values()] == [Outcome.WORSE, Outcome.SAME, Outcome.BETTER]
    seeds = resample(labels, patients, np.concatenate([probabilities, probabilities]), resamples=1)
    again = len(probabilities)
    copies = verdicts(seeds, {"copy": ([again, again + 1], [0, 1])})  # of other seeds each, seed by seed the same
    assert copies["copy"].outcome is Outcome.SAME
    similar = resample(labels, patients, probabilities, resamples=1)
    unknown = verdicts(similar, {"other": ([1], [0])}, margin=0.001)["other"]
    assert unknown.outcome is Outcome.NOT_KNOWN
    assert unknown.patients_needed is not None
    assert unknown.patients_needed > 300
    assert f"{unknown.patients_needed:,} test patients" in unknown.words
    assert verdicts(similar, {"other": ([1], [0])}, margin=0.2)["other"].outcome is Outcome.EQUIVALENT
    with pytest.raises(ValueError, match="margin"):
        verdicts(similar, {"other": ([1], [0])}, margin=0.0)


def test_patients_needed_fall_with_the_square_of_the_margin(resampled: Resampled) -> None:
    needed = [verdicts(resampled, {"other": ([1], [0])}, margin=m)["other"].patients_needed for m in (0.002, 0.001)]
    assert needed[0] is not None
    assert needed[1] == pytest.approx(4 * needed[0], rel=0.01)


def test_seeds_widen_what_is_said_of_a_strategy() -> None:
    labels, patients, probabilities = drawn(200, models=6, own=0.2)
    leaning = probabilities * np.array([[1, 1, 1, 1], [1, 1, 1, 5], [5, 1, 1, 1]] * 2)[:, None, :]
    found = resample(labels, patients, leaning / leaning.sum(axis=-1, keepdims=True), resamples=500)
    one, three = figures_over_seeds(found, [0]), figures_over_seeds(found, [0, 1, 2])
    assert (one.of_training, three.of_training) == (False, True)
    assert three.deviation[0] == pytest.approx(found.point[:3, 0].std(axis=0, ddof=1))
    alone = figure_intervals(found.mean([0, 1, 2]))
    assert three.intervals.high[0, F1] - three.intervals.low[0, F1] > alone.high[0, F1] - alone.low[0, F1]
    assert (total_variance(found, np.ones((5, 5)), 199, [[0, 0, 0]]).training == 0).all()
    between = compare(found, [0, 1, 2], [3, 4, 5])
    assert between.of_training
    assert between.degrees_of_freedom[0, F1] < 199
    assert not compare(found, [0, 1, 2], [3]).of_training


def test_expected_best_is_the_mean_over_all_subsets() -> None:
    scores = np.array([0.5, 0.9, 0.7, 0.7, 0.2, 0.8])
    found = expected_best(scores)
    for size in range(1, 7):
        subsets = [max(subset) for subset in itertools.combinations(scores, size)]
        assert found.mean[size - 1] == pytest.approx(np.mean(subsets))
    pairs = [max(pair) for pair in itertools.product(scores, repeat=2)]
    ends = np.quantile(pairs, [0.025, 0.975], method="inverted_cdf")
    assert (found.low[1], found.high[1]) == tuple(ends)
    many = expected_best(np.random.default_rng(0).random(500))
    assert (np.diff(many.mean) > 0).all()
    with pytest.raises(ValueError, match="finite"):
        expected_best(np.array([0.5, math.nan]))


def test_reliability_is_scikit_learns() -> None:
    labels, _, probabilities = drawn(300)
    spread = probabilities[0] + np.random.default_rng(0).random(probabilities[0].shape) * 1e-6 - 1e-6
    found = reliability(labels, spread)
    right = spread.argmax(axis=1) == labels
    accuracy, confidence = calibration_curve(right, spread.max(axis=1), n_bins=10, strategy="quantile")
    np.testing.assert_allclose(found.confidence, confidence, atol=0.02)
    np.testing.assert_allclose(found.accuracy, accuracy, atol=0.05)
    assert found.examples.sum() == len(labels)
    assert found.examples.max() - found.examples.min() <= 1
    ece = sum(n * abs(a - c) for n, a, c in zip(found.examples, found.accuracy, found.confidence, strict=True))
    assert found.expected_calibration_error == pytest.approx(ece / len(labels))
    tied = reliability(np.array([0, 0, 1]), np.array([[0.9, 0.1]] * 3))
    assert (tied.examples.tolist(), tied.accuracy.tolist()) == ([3], [pytest.approx(2 / 3)])


class Scores(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose inputs are its logits."""

    def fit(self, x: NDArray[np.float64], y: NDArray[np.int64]) -> "Scores":
        self.classes_ = np.unique(y)
        return self

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.asarray(x.argmax(axis=1))

    def decision_function(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x


def test_the_temperature_is_scikit_learns_and_mends_calibration() -> None:
    labels, _, probabilities = drawn(400)
    sharp = tempered(np.maximum(probabilities[0], 1e-3), 0.4)
    half = len(labels) // 2
    found = fit_temperature(labels[:half], sharp[:half])
    logits = np.log(sharp[:half])
    reference = CalibratedClassifierCV(FrozenEstimator(Scores().fit(logits, labels[:half])), method="temperature")
    expected = reference.fit(logits, labels[:half]).predict_proba(np.log(sharp[half:]))
    rescaled = tempered(sharp[half:], found)
    np.testing.assert_allclose(rescaled, expected, atol=1e-3)
    before, after = (reliability(labels[half:], rows).expected_calibration_error for rows in (sharp[half:], rescaled))
    assert after < before / 2
    assert (rescaled.argmax(axis=1) == sharp[half:].argmax(axis=1)).all()
    certain = np.eye(4)[labels]
    assert np.isfinite(tempered(certain, fit_temperature(labels, certain))).all()


def test_figures_of_a_multilabel_task_are_those_of_scikit_learn() -> None:
    """Also without a patient, and with one drawn twice; and identical models do not differ."""
    generator = np.random.default_rng(11)
    patients = np.repeat(np.arange(30), 8)
    reported = generator.random((240, 3)) < (0.1, 0.3, 0.5)
    probabilities = np.clip(0.4 * reported + 0.6 * generator.random((3, 240, 3)), 0, 1)
    probabilities[2] = probabilities[0]
    said = probabilities >= np.array([0.5, 0.4, 0.6])
    found = resample(reported, patients, probabilities, said, resamples=50)

    def figures(kept: NDArray[np.bool_], model: int) -> list[float]:
        truth, answers = reported[kept], said[model][kept]
        macro = precision_recall_fscore_support(truth, answers, average="macro", zero_division=0)[:3]
        return [(truth == answers).all(axis=1).mean(), *macro, roc_auc_score(truth, probabilities[model][kept])]

    everyone = np.ones(240, bool)
    for model in (0, 1):
        np.testing.assert_allclose(found.point[model, 0], figures(everyone, model))
        np.testing.assert_allclose(found.jackknife[4, model, 0], figures(patients != 4, model))
        fever = f1_score(reported[:, 1], said[model][:, 1])
        assert found.point[model, 2, F1] == pytest.approx(fever)
    assert found.examples_of_classes.sum(axis=0).tolist() == reported.sum(axis=0).tolist()
    assert (swap_test(found, 0, 2) == 1).all()
    judged = verdicts(found, {"same": ([2], [0]), "other": ([1], [0])})
    assert judged["same"].outcome is Outcome.SAME
    assert judged["other"].difference == pytest.approx(found.point[1, 0, F1] - found.point[0, 0, F1])
    assert swap_test(found, 0, 1)[0, F1] == pytest.approx(compare(found, [0], [1]).p[0, F1], abs=0.3)
