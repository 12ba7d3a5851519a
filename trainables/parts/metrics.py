"""The paper's metrics, overall (macro averages) and per symptom (one against the rest)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import accuracy_score, average_precision_score, precision_recall_fscore_support, roc_auc_score

from run_folder.results import Metrics, Micro, Scores


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities (…, classes) of logits (…, classes)."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def sigmoid(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities of logits, each by itself."""
    return np.asarray(expit(logits.astype(np.float64)))


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


def multilabel_metrics(
    positive: NDArray[np.bool_],
    probabilities: NDArray[np.floating],
    symptoms: Sequence[str],
    thresholds: NDArray[np.float64],
) -> Metrics:
    """Figures of each symptom by itself, their macro averages, and the share of texts with every symptom right.

    Args:
        positive: (n, symptoms) whether a text reports the symptom.
        probabilities: (n, symptoms).
        symptoms: their names.
        thresholds: (symptoms,) from which probability on a symptom is said.

    A symptom that no text reports has no AUROC and no average precision, and macro averages leave it out.
    """
    said = probabilities >= thresholds
    precision, recall, f1, support = precision_recall_fscore_support(positive, said, average=None, zero_division=0)
    micro = precision_recall_fscore_support(positive, said, average="micro", zero_division=0)
    scores = {
        name: Scores(
            precision=float(precision[c]),
            recall=float(recall[c]),
            f1=float(f1[c]),
            auroc=float(roc_auc_score(positive[:, c], scored)) if 0 < support[c] < len(positive) else None,
            average_precision=float(average_precision_score(positive[:, c], scored)) if support[c] else None,
        )
        for c, (name, scored) in enumerate(zip(symptoms, probabilities.T, strict=True))
    }
    present = [scores[name] for name, count in zip(symptoms, support, strict=True) if count]
    areas = [found.auroc for found in present if found.auroc is not None]
    return Metrics(
        accuracy=float((said == positive).all(axis=1).mean()),
        precision=_mean([found.precision for found in present]),
        recall=_mean([found.recall for found in present]),
        f1=_mean([found.f1 for found in present]),
        auroc=_mean(areas) if areas else None,
        average_precision=_mean([found.average_precision for found in present if found.average_precision is not None]),
        micro=Micro(precision=float(micro[0]), recall=float(micro[1]), f1=float(micro[2])),
        per_symptom=scores,
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
