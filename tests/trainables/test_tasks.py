"""The multilabel task: thresholds, figures, and the loss of a symptom by itself."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from trainables.parts.metrics import multilabel_metrics, sigmoid
from trainables.parts.tasks import TASKS, choose_thresholds

SYMPTOMS = ("cough", "fever", "pain")


@pytest.fixture
def predicted() -> tuple[np.ndarray, np.ndarray]:
    """Whether 200 texts report each symptom, and rounded probabilities, so that some are equal."""
    generator = np.random.default_rng(3)
    positive = generator.random((200, 3)) < (0.05, 0.2, 0.5)
    return positive, np.round(np.clip(0.3 * positive + 0.6 * generator.random((200, 3)), 0, 1), 2)


def test_a_threshold_has_the_largest_f1_of_all(predicted: tuple[np.ndarray, np.ndarray]) -> None:
    positive, probabilities = predicted
    thresholds = choose_thresholds(positive, probabilities)
    for column, threshold in enumerate(thresholds):
        scores = probabilities[:, column]
        candidates = [f1_score(positive[:, column], scores >= t) for t in np.unique(scores)]
        assert f1_score(positive[:, column], scores >= threshold) == pytest.approx(max(candidates))
        assert threshold not in scores  # it parts two scores


@pytest.mark.parametrize("sensitivity", [0.5, 0.9, 1.0])
def test_a_threshold_for_a_sensitivity_is_the_highest_that_reaches_it(
    sensitivity: float, predicted: tuple[np.ndarray, np.ndarray]
) -> None:
    positive, probabilities = predicted
    thresholds = choose_thresholds(positive, probabilities, sensitivity)
    for column, threshold in enumerate(thresholds):
        of_positives = probabilities[positive[:, column], column]
        assert (of_positives >= threshold).mean() >= sensitivity
        above = of_positives[of_positives > threshold].min(initial=1.0)
        assert (of_positives > above).mean() < sensitivity


def test_a_symptom_that_no_text_reports_is_said_from_a_half_on() -> None:
    assert choose_thresholds(np.zeros((3, 1), bool), np.array([[0.1], [0.9], [0.4]])) == [0.5]
    assert choose_thresholds(np.ones((2, 1), bool), np.array([[0.1], [0.9]]))[0] < 0.1


def test_figures_are_those_of_each_symptom_and_of_whole_texts(predicted: tuple[np.ndarray, np.ndarray]) -> None:
    positive, probabilities = predicted
    thresholds = np.array([0.5, 0.4, 0.6])
    found = multilabel_metrics(positive, probabilities, SYMPTOMS, thresholds)
    said = probabilities >= thresholds
    assert found.accuracy == pytest.approx((said == positive).all(axis=1).mean())
    assert found.f1 == pytest.approx(f1_score(positive, said, average="macro"))
    assert found.micro is not None
    assert found.micro.f1 == pytest.approx(f1_score(positive, said, average="micro"))
    fever = found.per_symptom["fever"]
    assert fever.auroc == pytest.approx(roc_auc_score(positive[:, 1], probabilities[:, 1]))
    assert fever.average_precision == pytest.approx(average_precision_score(positive[:, 1], probabilities[:, 1]))


def test_a_symptom_that_is_absent_leaves_the_averages() -> None:
    positive = np.array([[True, False], [False, False]])
    found = multilabel_metrics(positive, np.array([[0.9, 0.1], [0.2, 0.8]]), SYMPTOMS[:2], np.array([0.5, 0.5]))
    assert (found.f1, found.auroc, found.accuracy) == (1.0, 1.0, 0.5)
    assert found.per_symptom["fever"].auroc is found.per_symptom["fever"].average_precision is None


def test_the_loss_of_a_symptom_is_its_own() -> None:
    task, logits, labels = TASKS["multilabel"], torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]])
    expected = math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))
    assert float(task.loss(logits, labels, None, 0.0)) == pytest.approx(expected)
    weighted = float(task.loss(logits, labels, torch.tensor([3.0, 5.0]), 0.0))
    assert weighted == pytest.approx(3 * math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1)))
    soft = float(task.loss(logits, torch.tensor([[0.7, 0.0]]), None, 0.0))
    assert soft == pytest.approx(expected + 0.3 * 2)  # a label of 0.7 pulls towards 0.7
    assert float(task.loss(logits, labels, None, 0.6)) == pytest.approx(soft + 0.3 * 1)
    assert task.same(np.array([[1.0, -1.0], [1.0, 1.0]]), np.array([[3.0, -0.1], [1.0, -1.0]])).tolist() == [
        True,
        False,
    ]
    np.testing.assert_allclose(task.probabilities(np.array([[0.0, 800.0, -800.0]])), [[0.5, 1.0, 0.0]], atol=1e-12)
    assert sigmoid(np.float32([1.0])).dtype == np.float64
