"""Predictions of evaluated models, by example id and without text: every figure is computed from them."""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from analysis.evaluation.result_files import SEAL, seal_fits, seal_of, warn_of_damage
from run_folder.names import LABEL, RESULTS, SPLITS
from run_folder.results import Labels, Metrics
from run_folder.run import Run
from trainables.parts.tasks import TASKS

TRAIN, VALIDATION, TEST = SPLITS
_THRESHOLDS = "thresholds"
"""Key of the thresholds in a file of predictions."""


@dataclass(frozen=True)
class Predictions:
    """The predictions of one model on one split, sorted by example id.

    Attributes:
        ids: (n,).
        labels: as ``Labels`` says.
        probabilities: (n, symptoms).
        thresholds: (symptoms,) from which probability on each is said; None in a multiclass task.
    """

    ids: NDArray[Any]
    labels: Labels
    probabilities: NDArray[np.float64]
    thresholds: NDArray[np.float64] | None = None

    @property
    def digest(self) -> str:
        """The same for the same predictions, in whatever order they are written."""
        parts = ["\n".join(map(str, self.ids)).encode(), self.labels.tobytes(), self.probabilities.tobytes()]
        parts += [] if self.thresholds is None else [self.thresholds.tobytes()]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()

    def at(self, places: NDArray[np.int64]) -> "Predictions":
        """Those at these places, in this order."""
        return replace(self, ids=self.ids[places], labels=self.labels[places], probabilities=self.probabilities[places])

    @property
    def said(self) -> NDArray[np.bool_]:
        """(n, symptoms) whether the model says that the text reports the symptom."""
        return said_of(self.probabilities, self.thresholds)

    @property
    def reported(self) -> NDArray[np.bool_]:
        """(n, symptoms) whether the text reports the symptom, by its label."""
        if self.labels.ndim == 2:
            return np.asarray(self.labels >= 0.5)
        return np.asarray(np.arange(self.probabilities.shape[1]) == self.labels[:, None])

    @property
    def right(self) -> NDArray[np.bool_]:
        """(n,) whether the model has a text right; in a multilabel task, each of its symptoms."""
        return np.asarray((self.said == self.reported).all(axis=1))

    @property
    def answers(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Labels (m,) and probabilities (m, classes) whose calibration counts.

        Of a multilabel task these are all answers no and yes, of each text to each symptom.
        """
        if self.labels.ndim == 1:
            return self.labels.astype(np.int64), self.probabilities
        yes = self.probabilities.ravel()
        return self.reported.ravel().astype(np.int64), np.stack([1 - yes, yes], axis=1)

    def metrics(self, symptoms: Sequence[str]) -> Metrics:
        """The figures of these predictions."""
        task = TASKS["multiclass" if self.thresholds is None else "multilabel"]
        return task.metrics(self.labels, self.probabilities, symptoms, self.thresholds)


def said_of(probabilities: NDArray[np.float64], thresholds: NDArray[np.float64] | None) -> NDArray[np.bool_]:
    """(n, symptoms) what is said: all that reaches its threshold, or without thresholds the likeliest."""
    if thresholds is not None:
        return np.asarray(probabilities >= thresholds)
    return np.asarray(np.arange(probabilities.shape[1]) == probabilities.argmax(axis=1)[:, None])


def read_predictions(run: Run, name: str, split: str) -> Predictions | None:
    """The predictions that were kept of a trial or control; None where there are none, or damaged, with a warning."""
    path = predictions_path(name, split)
    if not run.folder.exists(path):
        return None
    try:
        table = pq.read_table(io.BytesIO(run.folder.read(path)))
        found = _sorted_by_id(table.to_pandas(), run.symptoms, _thresholds_in(table))
        seal = (table.schema.metadata or {}).get(SEAL.encode())
        if seal_fits(run, path, None if seal is None else seal.decode(), found.digest.encode()):
            return found
    except (pa.ArrowException, ValueError, TypeError, KeyError):
        pass
    warn_of_damage(run, path)
    return None


def write_predictions(run: Run, name: str, split: str, predictions: Predictions) -> None:
    """Keep the predictions of a trial or control, without text."""
    path = predictions_path(name, split)
    labels, probabilities = predictions.labels, predictions.probabilities
    of_symptoms = {f"{LABEL}{name}": labels[:, i] for i, name in enumerate(run.symptoms)} if labels.ndim == 2 else {}
    frame = pd.DataFrame({"id": predictions.ids, **(of_symptoms or {"label": labels})})
    for column, symptom in enumerate(run.symptoms):
        frame[f"probability_{symptom}"] = probabilities[:, column]
    table = pa.Table.from_pandas(frame, preserve_index=False)
    more = {SEAL: seal_of(run, path, _sorted_by_id(frame, run.symptoms, predictions.thresholds).digest.encode())}
    if predictions.thresholds is not None:
        more[_THRESHOLDS] = json.dumps(predictions.thresholds.tolist())
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, **more}), buffer)
    run.folder.write(path, buffer.getvalue(), private=True)


def _thresholds_in(table: pa.Table) -> NDArray[np.float64] | None:
    written = (table.schema.metadata or {}).get(_THRESHOLDS.encode())
    return None if written is None else np.array(json.loads(written), np.float64)


def _sorted_by_id(frame: pd.DataFrame, symptoms: Sequence[str], thresholds: NDArray[np.float64] | None) -> Predictions:
    frame = frame.sort_values("id")
    probabilities = frame[[f"probability_{symptom}" for symptom in symptoms]].to_numpy(np.float64)
    labels: Labels
    if thresholds is None:
        labels = frame["label"].to_numpy(np.int64)
    else:
        labels = np.ascontiguousarray(frame[[f"{LABEL}{symptom}" for symptom in symptoms]].to_numpy(np.float32))
    return Predictions(frame["id"].to_numpy(), labels, np.ascontiguousarray(probabilities), thresholds)


def predictions_path(name: str, split: str) -> str:
    """Where a model's predictions on a split are."""
    return f"{RESULTS}/predictions/{name}{'' if split == TEST else f'-{split}'}.parquet"
