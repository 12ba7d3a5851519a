"""The paper's metrics, by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import classification_report, roc_auc_score

from run_folder.records import to_plain
from trainables.parts.metrics import classification_metrics, softmax

NAMES = ("pain", "edema", "fever")


def test_a_case_worked_by_hand() -> None:
    labels = np.array([0, 0, 1, 2])
    probabilities = np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.1, 0.8, 0.1], [0.5, 0.2, 0.3]])
    metrics = classification_metrics(labels, probabilities, NAMES)  # predicted 0, 1, 1, 0
    assert metrics.accuracy == 0.5
    per_symptom = to_plain(metrics.per_symptom)
    assert per_symptom["pain"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "auroc": 0.75}
    assert per_symptom["edema"] == pytest.approx({"precision": 0.5, "recall": 1, "f1": 2 / 3, "auroc": 1})
    assert per_symptom["fever"] == pytest.approx({"precision": 0, "recall": 0, "f1": 0, "auroc": 5 / 6})
    assert metrics.f1 == pytest.approx((0.5 + 2 / 3 + 0) / 3)


def test_it_agrees_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 200)
    probabilities = softmax(generator.normal(size=(200, 3)) + np.eye(3)[labels])
    metrics = classification_metrics(labels, probabilities, NAMES)
    report = classification_report(labels, probabilities.argmax(axis=1), output_dict=True)
    assert metrics.accuracy == pytest.approx(report["accuracy"])
    for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
        assert getattr(metrics, ours) == pytest.approx(report["macro avg"][theirs])
    expected = roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert metrics.auroc == pytest.approx(expected)


def test_an_absent_symptom_is_not_defined_rather_than_zero() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    metrics = classification_metrics(np.array([0, 1]), probabilities, NAMES)
    assert metrics.per_symptom["fever"].auroc is None
    assert metrics.f1 == metrics.auroc == 1.0
    assert classification_metrics(np.array([0, 0]), probabilities, NAMES).auroc is None
