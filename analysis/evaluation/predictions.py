"""Predictions of evaluated models, by example id and without text: every figure is computed from them."""

import hashlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from run_folder.names import RESULTS, SPLITS
from run_folder.run import Run

TRAIN, VALIDATION, TEST = SPLITS


@dataclass(frozen=True)
class Predictions:
    """The predictions of one model on one split, sorted by example id.

    Attributes:
        ids: (n,).
        labels: (n,) class indices.
        probabilities: (n, symptoms).
    """

    ids: NDArray[Any]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @property
    def digest(self) -> str:
        """The same for the same predictions, in whatever order they are written."""
        parts = ("\n".join(map(str, self.ids)).encode(), self.labels.tobytes(), self.probabilities.tobytes())
        return hashlib.sha256(b"\0".join(parts)).hexdigest()


def has_predictions(run: Run, name: str, split: str) -> bool:
    """Whether a trial's or control's predictions on a split were kept."""
    return run.folder.exists(_path(name, split))


def read_predictions(run: Run, name: str, split: str) -> Predictions:
    """The predictions that were kept of a trial or control.

    Raises: FileNotFoundError: the model has not been evaluated on this split.
    """
    frame = pd.read_parquet(io.BytesIO(run.folder.read(_path(name, split)))).sort_values("id")
    probabilities = frame[[f"probability_{symptom}" for symptom in run.symptoms]].to_numpy(np.float64)
    return Predictions(frame["id"].to_numpy(), frame["label"].to_numpy(np.int64), np.ascontiguousarray(probabilities))


def write_predictions(run: Run, name: str, split: str, predictions: Predictions) -> None:
    """Keep the predictions of a trial or control, without text."""
    frame = pd.DataFrame({"id": predictions.ids, "label": predictions.labels})
    for column, symptom in enumerate(run.symptoms):
        frame[f"probability_{symptom}"] = predictions.probabilities[:, column]
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    run.folder.write(_path(name, split), buffer.getvalue())


def _path(name: str, split: str) -> str:
    return f"{RESULTS}/predictions/{name}{'' if split == TEST else f'-{split}'}.parquet"
