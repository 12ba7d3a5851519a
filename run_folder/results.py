"""What a trial reports: its epochs, its deployed model, or why there is none."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Labels: TypeAlias = NDArray[np.int64] | NDArray[np.float32]
"""Of n examples: (n,) class indices, or of a multilabel task (n, symptoms) how surely each is reported, from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Figures of one symptom against the rest, or macro averages over the symptoms.

    Attributes:
        auroc: None where it is not defined: the symptom, or every other one, is absent.
        average_precision: of a multilabel task.
    """

    precision: float
    recall: float
    f1: float
    auroc: float | None
    average_precision: float | None = None


@dataclass(frozen=True, kw_only=True)
class Micro:
    """Figures of all answers together, whichever symptom they are of."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, kw_only=True)
class Metrics(Scores):
    """Macro averages, accuracy, and the figures of each symptom.

    Attributes:
        accuracy: share of the texts with the right answer; in a multilabel task, with every symptom right.
        micro: of a multilabel task.
    """

    accuracy: float
    per_symptom: Mapping[str, Scores]
    micro: Micro | None = None


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """One finished epoch.

    Attributes:
        epoch: from 1.
        f1: macro F1 on validation; the other figures likewise.
        train_loss: mean over the training examples.
        selectable: whether the model as it stood could be deployed.
        seconds: of training and validation.
        validation_loss: mean over the validation examples, without smoothing or weights; older versions kept none.
        per_symptom: validation figures of each symptom; older versions kept none.
    """

    epoch: int
    f1: float
    accuracy: float
    precision: float
    recall: float
    auroc: float | None
    train_loss: float
    selectable: bool
    seconds: float
    validation_loss: float | None = None
    per_symptom: Mapping[str, Scores] | None = None


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How near two models' logits of the same texts are.

    Attributes:
        same_predictions: share of the texts, from 0 to 1.
    """

    max_logit_difference: float
    same_predictions: float


Runtime = Literal["torch", "onnxruntime", "torchao"]


@dataclass(frozen=True, kw_only=True)
class Int8Facts:
    """How the numbers of an INT8 model are rounded.

    Attributes:
        weight_bits: 8, or 7 for CPUs whose INT8 sums would overflow.
        per_channel: a weight has one scale per output feature, not one per tensor.
        embeddings: embedding tables are INT8 too.
        static: ranges of activations were fixed beforehand; otherwise each run finds them.
    """

    weight_bits: int
    per_channel: bool
    embeddings: bool
    static: bool


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a deployed model is, apart from how good it is.

    Attributes:
        macs: multiply–accumulates of a text of ``macs_length`` tokens.
        bytes: size of its weights on disk.
        packed: zeros take no disk; None for a graph.
        scheme: how its strategy compressed it, where it has several ways.
        fp32_layers: paths of the Linear layers that an INT8 model left in FP32.
        agreement: how closely an INT8 model follows the model that it was made from.
        int8: how an INT8 model is rounded; None for other models, and for INT8 models of older versions.
    """

    runtime: Runtime
    parameters: int
    nonzero_parameters: int
    macs: int
    macs_length: int
    bytes: int
    packed: bool | None = None
    scheme: str | None = None
    fp32_layers: tuple[str, ...] | None = None
    agreement: Agreement | None = None
    int8: Int8Facts | None = None


@dataclass(frozen=True, kw_only=True)
class DeployedResult(ModelFacts):
    """The deployed model of a finished trial.

    Attributes:
        validation: figures of the deployed model itself.
        thresholds: by symptom, from which probability on it is said, chosen on validation; None in a multiclass task.
        temperatures: by symptom, by which the model's logits are divided before, fitted on validation; None in a
            multiclass task, and where an older version deployed it.
        precision: that of the forward passes in training.
        epoch: whose weights were deployed; 0 where nothing was trained.
        seconds: of all epochs.
        sha256: of the model's files, by name; None where an older version deployed it.
        validation_loss: as ``EpochResult`` says.
    """

    validation: Metrics
    thresholds: Mapping[str, float] | None = None
    temperatures: Mapping[str, float] | None = None
    precision: str
    epoch: int
    seconds: float
    sha256: Mapping[str, str] | None = None
    validation_loss: float | None = None

    def figure(self, metric: str) -> float:
        """A validation metric (``f1``), or a figure of the model itself (``bytes``, ``macs``)."""
        holder = self.validation if hasattr(self.validation, metric) else self
        return float(getattr(holder, metric))


@dataclass(frozen=True)
class TrialFailed:
    """The trial cannot continue, for this reason."""

    reason: str


@dataclass(frozen=True)
class StorageFailed:
    """The storage failed the trial, for this reason; it continues when the search is resumed."""

    reason: str


Result = EpochResult | DeployedResult | TrialFailed | StorageFailed


@dataclass(frozen=True)
class Report:
    """What a trial's process tells the search at a time, with the warnings since its last report."""

    result: Result
    warnings: tuple[str, ...] = ()
