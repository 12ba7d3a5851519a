"""Predictions of evaluated models, by example id and without text: every figure is computed from them."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from analysis.evaluation.result_files import SEAL, seal_of, warn_of_damage
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


def read_predictions(run: Run, name: str, split: str) -> Predictions | None:
    """The predictions that were kept of a trial or control; None where there are none, or damaged, with a warning."""
    path = predictions_path(name, split)
    if not run.folder.exists(path):
        return None
    try:
        table = pq.read_table(io.BytesIO(run.folder.read(path)))
        found = _sorted_by_id(table.to_pandas(), run.symptoms)
        seal = (table.schema.metadata or {}).get(SEAL.encode())
        if seal is None or seal.decode() == seal_of(run, path, found.digest.encode()):
            return found
    except (pa.ArrowException, ValueError, TypeError, KeyError):
        pass
    warn_of_damage(run, path)
    return None


def write_predictions(run: Run, name: str, split: str, predictions: Predictions) -> None:
    """Keep the predictions of a trial or control, without text."""
    path = predictions_path(name, split)
    frame = pd.DataFrame({"id": predictions.ids, "label": predictions.labels})
    for column, symptom in enumerate(run.symptoms):
        frame[f"probability_{symptom}"] = predictions.probabilities[:, column]
    table = pa.Table.from_pandas(frame, preserve_index=False)
    seal = seal_of(run, path, _sorted_by_id(frame, run.symptoms).digest.encode())
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, SEAL: seal}), buffer)
    run.folder.write(path, buffer.getvalue(), private=True)


def _sorted_by_id(frame: pd.DataFrame, symptoms: Sequence[str]) -> Predictions:
    frame = frame.sort_values("id")
    probabilities = frame[[f"probability_{symptom}" for symptom in symptoms]].to_numpy(np.float64)
    return Predictions(frame["id"].to_numpy(), frame["label"].to_numpy(np.int64), np.ascontiguousarray(probabilities))


def predictions_path(name: str, split: str) -> str:
    """Where a model's predictions on a split are."""
    return f"{RESULTS}/predictions/{name}{'' if split == TEST else f'-{split}'}.parquet"
