"""Examples whose labels people, or another model, have given: a text per row, in the place of the rules."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from clinical_notes.annotate import note_window
from clinical_notes.labellers import labeller_of
from clinical_notes.lexicon import Lexicon
from clinical_notes.units import AFFIRMED, GROUP, UNITS, copy_number
from run_folder.errors import InputError, Problem
from run_folder.names import LABEL

_LONGEST_NAME = 60
"""Characters of a symptom's name; longer ones may be texts."""
_APART = ";"
_TRUE, _FALSE = ("true", "yes", "y", "t"), ("false", "no", "n", "f", "")


@dataclass(frozen=True)
class RowAnnotator:
    """Makes a unit of each row of a table that has labels.

    Attributes:
        lexicon: by whose forms a text is cleaned as that of a note.
        columns: one column with the names of the symptoms that a text reports, apart by ``;``, or several, one for each
            symptom: 1, 0, or how surely it is reported.
        one_each: no row may report several symptoms.
    """

    lexicon: Lexicon
    columns: tuple[str, ...]
    one_each: bool

    def __call__(self, notes: pd.DataFrame) -> pa.Table:
        """The rows that have words left, as a table of ``units.UNITS``; a label is a mention of no length.

        Args:
            notes: note, patient, category, text, groups and ``label_<column>``, as ``read_notes`` gives them.

        Raises:
            InputError: a value is no label.
        """
        cleaner = labeller_of("rules", self.lexicon)
        groups = notes[[name for name in notes.columns if name.startswith(GROUP)]].to_numpy(dtype=object).tolist()
        labels = notes[[f"{LABEL}{name}" for name in self.columns]].to_numpy(dtype=object).tolist()
        rows: list[dict[str, Any]] = []
        about = (notes[name].tolist() for name in ("note", "patient", "category", "text"))
        for note, patient, category, text, of_groups, values in zip(*about, groups, labels, strict=True):
            names, sure = self.names(values, note)
            cleaned, _ = note_window(text, cleaner, len(text))
            if cleaned:
                rows.append(
                    {
                        "note": note,
                        "sentence": 0,
                        "copy": copy_number(text),
                        "patient": patient,
                        "category": category,
                        "groups": of_groups,
                        "text": cleaned,
                        "mentions": [{"concept": n, "assertion": AFFIRMED, "start": 0, "end": 0} for n in names],
                        "sure": sure,
                    }
                )
        return pa.Table.from_pylist(rows, schema=UNITS)

    def names(self, values: Sequence[str], row: int) -> tuple[list[str], list[float]]:
        """Names of the symptoms that a row reports, and where each has a column, how surely it reports each.

        Args:
            values: of ``columns``.
            row: from 0.

        Raises:
            InputError: a value is no label.
        """
        sure: list[float] = []
        if len(self.columns) > 1:
            sure = [_number(value, name, row) for name, value in zip(self.columns, values, strict=True)]
            names = [name for name, value in zip(self.columns, sure, strict=True) if value >= 0.5]
        else:
            names = [name for name in dict.fromkeys(" ".join(n.split()) for n in values[0].split(_APART)) if name]
        if any(len(name) > _LONGEST_NAME for name in names):
            message = f"data row {row + 1}: {self.columns[0]} has a name of more than {_LONGEST_NAME} characters"
            raise InputError(Problem("labels", message, f"name a column of symptoms, apart by {_APART}"))
        if self.one_each and len(names) > 1:
            message = f"data row {row + 1} has {len(names)} labels, and a multiclass task takes one"
            raise InputError(Problem("labels", message, "set the task to multilabel"))
        return names, sure


def _number(value: str, column: str, row: int) -> float:
    word = value.strip().lower()
    if word in _TRUE or word in _FALSE:
        return float(word in _TRUE)
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        message = f"data row {row + 1}: the value of {column} is neither 0 nor 1, nor a probability"
        raise InputError(Problem("labels", message, f"correct it, or give one column with names apart by {_APART}"))
    return number
