"""An exported model that labels texts."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from run_folder.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from analysis.models.label_texts import ExportedModel


class Model:
    """An exported model; made by ``load`` and ``Run.export``.

    Attributes:
        symptoms: in the order of the columns of probabilities.
        max_length: tokens of a text that are read; what comes after them is not.
    """

    def __init__(self, exported: ExportedModel) -> None:
        self._exported = exported
        self.symptoms: tuple[str, ...] = exported.symptoms
        self.max_length: int = exported.max_length

    def predict(self, texts: Iterable[str | None]) -> pd.DataFrame:
        """One row per text, with ``probability_<symptom>`` of each symptom.

        A model of a multilabel run says "yes" or "no" in a column of each symptom's name; another names the likeliest
        in ``symptom``. A text that is empty, or missing (None or NaN), has no answer and no probabilities. Of a
        dynamically quantized model the figures of a text move a little with the texts that are labelled with it.

        Args:
            texts: notes or sentences, as they are. The rows keep the index of a pandas Series.

        Raises:
            InputError: one text instead of several, or a value that is no text.
        """
        import pandas as pd

        from analysis.models.label_texts import LabelFormat, Text, label

        if isinstance(texts, str):
            raise InputError("texts: give a list of texts, such as [text], not one text")
        index = texts.index if isinstance(texts, pd.Series) else None
        written = _Frames()
        label(self._exported, map(Text, count(), _checked(texts)), written, LabelFormat())
        frame = pd.concat(written.frames, ignore_index=True).drop(columns="row")
        return frame if index is None else frame.set_axis(index)


class _Frames:
    """A writer that keeps what it is given."""

    def __init__(self) -> None:
        self.frames: list[pd.DataFrame] = []

    def write(self, frame: pd.DataFrame) -> None:
        self.frames.append(frame)


def _checked(texts: Iterable[Any]) -> Iterator[str]:
    import pandas as pd

    for number, text in enumerate(texts):
        if isinstance(text, str):
            yield text
        elif text is None or text is pd.NA or (isinstance(text, float) and math.isnan(text)):
            yield ""
        else:
            raise InputError(f"texts: number {number} (from 0) is of type {type(text).__name__}; give strings")


def load(folder: str | Path, *, threads: int | None = None) -> Model:
    """Open a folder that ``Run.export`` or ``symptune export`` wrote; ONNX Runtime runs its model.

    Args:
        threads: of ONNX Runtime; all cores by default.

    Raises:
        InputError: the folder is no whole export, was changed, or was made for GPUs.
    """
    from analysis.models.label_texts import ExportedModel

    if threads is not None and threads < 1:
        raise InputError(f"threads: must be at least 1, got {threads}")
    exported = ExportedModel(folder, threads or os.cpu_count() or 1)
    if exported.overflows_here():
        warnings.warn(
            "this CPU has no VNNI, and the model's INT8 weights were made for one that has: its sums may overflow; "
            "export one that was searched with reduce_range=True",
            stacklevel=2,
        )
    return Model(exported)
