"""The paper's metrics, overall (macro averages) and per symptom (one against the rest)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, precision_recall_fscore_support, roc_auc_score

from run_folder.results import Metrics, Scores


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities (…, classes) of logits (…, classes)."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def classification_metrics(
    labels: NDArray[np.int64], probabilities: NDArray[np.floating], symptoms: Sequence[str]
) -> Metrics:
    """Accuracy, macro precision, recall, F1 and one-vs-rest AUROC.

    Args:
        labels: (n,) class indices.
        probabilities: (n, classes).
        symptoms: class names.

    A symptom absent from ``labels`` has no AUROC, and macro averages run over the symptoms present.
    """
    predicted = probabilities.argmax(axis=1)
    classes = np.arange(len(symptoms))
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    auroc = [
        float(roc_auc_score(labels == c, probabilities[:, c])) if 0 < support[c] < len(labels) else None
        for c in classes
    ]
    present = support > 0
    defined = [area for area in auroc if area is not None]
    return Metrics(
        accuracy=float(accuracy_score(labels, predicted)),
        precision=float(precision[present].mean()),
        recall=float(recall[present].mean()),
        f1=float(f1[present].mean()),
        auroc=float(np.mean(defined)) if defined else None,
        per_symptom={
            name: Scores(precision=float(precision[c]), recall=float(recall[c]), f1=float(f1[c]), auroc=auroc[c])
            for c, name in enumerate(symptoms)
        },
    )
