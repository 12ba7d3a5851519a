"""What a model is asked: which one symptom a text reports (multiclass), or of each symptom whether (multilabel)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from run_folder.results import Labels, Metrics
from trainables.parts.calibration import OfTexts, fit_temperatures
from trainables.parts.metrics import classification_metrics, multilabel_metrics, sigmoid, softmax


class Task(Protocol):
    """Loss, probabilities and figures of one task. Arrays of logits and probabilities are (n, symptoms)."""

    @property
    def problem_type(self) -> Literal["single_label_classification", "multi_label_classification"]:
        """As ``transformers`` names it in a model's configuration."""

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probabilities of logits."""

    def loss(
        self, logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None, smoothing: float
    ) -> torch.Tensor:
        """() mean loss of a batch.

        Args:
            labels: as ``TokenisedExamples`` has them.
            weights: (symptoms,).
        """

    def divergence(self, student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
        """() ``KL(teacher_T ‖ student_T)``, the mean over a batch of logits."""

    def same(self, logits: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.bool_]:
        """(n,) whether both say the same of a text."""

    def temperatures(
        self, labels: Labels, logits: NDArray[np.floating], of_texts: OfTexts
    ) -> NDArray[np.float64] | None:
        """(symptoms,) by which logits are divided, so that probabilities are true; None: they stay as they are.

        Args:
            labels: of the texts.
            logits: of what the model reads of them.
            of_texts: see ``probabilities_of_texts``.
        """

    def thresholds(
        self, labels: Labels, probabilities: NDArray[np.floating], sensitivity: float | None
    ) -> NDArray[np.float64] | None:
        """(symptoms,) from which probability on each symptom is said to be reported; None: the likeliest one is."""

    def metrics(
        self,
        labels: Labels,
        probabilities: NDArray[np.floating],
        symptoms: Sequence[str],
        thresholds: NDArray[np.float64] | None,
    ) -> Metrics:
        """Figures of predictions on labelled texts."""


class Multiclass:
    """Exactly one symptom: softmax and cross-entropy, as in the paper."""

    problem_type: Literal["single_label_classification"] = "single_label_classification"

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        return softmax(logits)

    def loss(
        self, logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None, smoothing: float
    ) -> torch.Tensor:
        return functional.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing)

    def divergence(self, student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
        return functional.kl_div(
            functional.log_softmax(student / temperature, dim=-1),
            functional.log_softmax(teacher / temperature, dim=-1),
            reduction="batchmean",
            log_target=True,
        )

    def same(self, logits: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.bool_]:
        return np.asarray(logits.argmax(axis=1) == others.argmax(axis=1))

    def temperatures(self, labels: Labels, logits: NDArray[np.floating], of_texts: OfTexts) -> None:
        return None

    def thresholds(self, labels: Labels, probabilities: NDArray[np.floating], sensitivity: float | None) -> None:
        return None

    def metrics(
        self,
        labels: Labels,
        probabilities: NDArray[np.floating],
        symptoms: Sequence[str],
        thresholds: NDArray[np.float64] | None,
    ) -> Metrics:
        return classification_metrics(labels.astype(np.int64), probabilities, symptoms)


class Multilabel:
    """None, one or several symptoms: a sigmoid and binary cross-entropy for each."""

    problem_type: Literal["multi_label_classification"] = "multi_label_classification"

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        return sigmoid(logits)

    def loss(
        self, logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None, smoothing: float
    ) -> torch.Tensor:
        """The sum over the symptoms of binary cross-entropy, weighted where a symptom is reported.

        Smoothing draws labels towards 0.5, as it draws a class's towards the other classes.
        """
        smoothed = labels * (1 - smoothing) + smoothing / 2
        losses = functional.binary_cross_entropy_with_logits(logits, smoothed, pos_weight=weights, reduction="none")
        return losses.sum(dim=1).mean()

    def divergence(self, student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
        """The sum over the symptoms of the divergence of Bernoulli distributions."""
        probability = torch.sigmoid(teacher / temperature)
        of_student = functional.logsigmoid(torch.stack([student, -student]) / temperature)
        of_teacher = functional.logsigmoid(torch.stack([teacher, -teacher]) / temperature)
        weights = torch.stack([probability, 1 - probability])
        return (weights * (of_teacher - of_student)).sum(dim=(0, 2)).mean()

    def same(self, logits: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.bool_]:
        return np.asarray(((logits > 0) == (others > 0)).all(axis=1))

    def temperatures(self, labels: Labels, logits: NDArray[np.floating], of_texts: OfTexts) -> NDArray[np.float64]:
        return fit_temperatures(labels >= 0.5, logits, of_texts)

    def thresholds(
        self, labels: Labels, probabilities: NDArray[np.floating], sensitivity: float | None
    ) -> NDArray[np.float64]:
        return choose_thresholds(labels >= 0.5, probabilities, sensitivity)

    def metrics(
        self,
        labels: Labels,
        probabilities: NDArray[np.floating],
        symptoms: Sequence[str],
        thresholds: NDArray[np.float64] | None,
    ) -> Metrics:
        assert thresholds is not None
        return multilabel_metrics(labels >= 0.5, probabilities, symptoms, thresholds)


TASKS: dict[str, Task] = {"multiclass": Multiclass(), "multilabel": Multilabel()}
"""By their names in the settings."""


def largest_of_each(probabilities: NDArray[np.floating], text: NDArray[np.integer], texts: int) -> NDArray[np.float64]:
    """(texts, symptoms) the largest probability of a text's parts; NaN where it has none.

    Args:
        probabilities: (parts, symptoms).
        text: (parts,) place of the text that each belongs to.
    """
    found = np.full((texts, probabilities.shape[1]), np.nan)
    np.fmax.at(found, text, probabilities)
    return found


def any_of_each(probabilities: NDArray[np.floating], text: NDArray[np.integer], texts: int) -> NDArray[np.float64]:
    """(texts, symptoms) the probability that any part reports it, if parts were independent; NaN where there is none.

    Args:
        probabilities, text, texts: see ``largest_of_each``.
    """
    logs = np.zeros((texts, probabilities.shape[1]))
    with np.errstate(divide="ignore"):
        np.add.at(logs, text, np.log1p(-probabilities.astype(np.float64)))
    found = -np.expm1(logs)
    found[np.bincount(text, minlength=texts) == 0] = np.nan
    return found


NOTE_RULES = {"largest": largest_of_each, "noisy-or": any_of_each}
"""How a text's probability follows from those of its parts, by the names in the settings."""


def probabilities_of_texts(notes: NDArray[Any] | None, note_rule: str) -> OfTexts:
    """How the probabilities of texts follow from those of examples; the texts are in the order of ``whole_texts``.

    Args:
        notes: of the examples, as ``TokenisedExamples`` has them.
        note_rule: a name in ``NOTE_RULES``.
    """
    if notes is None:
        return lambda of_examples: of_examples
    found, note = np.unique(notes, return_inverse=True)
    return lambda of_examples: NOTE_RULES[note_rule](of_examples, note, len(found))


@dataclass(frozen=True)
class WholeTexts:
    """Labels and probabilities of n texts, whatever parts a model reads them in.

    Attributes:
        ids: (n,).
        labels: as ``Labels`` says.
        probabilities: (n, symptoms).
    """

    ids: NDArray[Any]
    labels: Labels
    probabilities: NDArray[np.float64]


def whole_texts(
    ids: NDArray[Any],
    notes: NDArray[Any] | None,
    labels: Labels,
    probabilities: NDArray[np.float64],
    note_rule: str,
) -> WholeTexts:
    """Examples as they are, or where they are windows of notes, the notes.

    A note reports what any of its windows does.

    Args:
        ids, notes, labels: of the examples, as ``TokenisedExamples`` has them.
        probabilities: (examples, symptoms).
        note_rule: a name in ``NOTE_RULES``.
    """
    if notes is None:
        return WholeTexts(ids, labels, probabilities)
    found, note = np.unique(notes, return_inverse=True)
    reported = largest_of_each(labels.astype(np.float32), note, len(found)).astype(np.float32)
    return WholeTexts(found, reported, probabilities_of_texts(notes, note_rule)(probabilities))


def choose_thresholds(
    positive: NDArray[np.bool_], probabilities: NDArray[np.floating], sensitivity: float | None = None
) -> NDArray[np.float64]:
    """(symptoms,) thresholds: the largest F1, or the highest that reaches a sensitivity; 0.5 without an example.

    A threshold lies half-way between the scores that it parts.

    Args:
        positive: (n, symptoms) whether a text reports the symptom.
        probabilities: (n, symptoms).
        sensitivity: the recall to reach.
    """
    return np.array([_threshold(*column, sensitivity) for column in zip(positive.T, probabilities.T, strict=True)])


def _threshold(positive: NDArray[np.bool_], scores: NDArray[np.floating], sensitivity: float | None) -> float:
    total = int(positive.sum())
    if not total:
        return 0.5
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    hits = np.cumsum(positive[order])
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # equal scores are on one side
    recall, said = hits[ends] / total, ends + 1
    f1 = 2 * hits[ends] / (said + total)
    best = int(np.argmax(f1)) if sensitivity is None else int(np.argmax(recall >= sensitivity))
    if best + 1 == len(ends):
        return float(ranked[ends[best]] / 2)
    return float((ranked[ends[best]] + ranked[ends[best + 1]]) / 2)
