"""What was read of a table of notes, and what was left out."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clinical_notes.tables.columns import ROLES, Found
from clinical_notes.units import GROUP, same_text
from run_folder.names import LABEL


@dataclass
class Tally:
    """Counts of rows; filled while the notes are read.

    Attributes:
        columns: what each file's columns hold.
        headers: headers that came again within a file.
        other_files: files of a folder that are no tables of notes.
        errors: rows marked as errors.
        alone: notes without a patient, each of which counts as one.
    """

    columns: dict[str, Found] = field(default_factory=dict)
    headers: int = 0
    other_files: int = 0
    errors: int = 0
    empty: int = 0
    alone: int = 0
    _patients: dict[str, int] = field(default_factory=dict)
    _notes: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, notes: pd.DataFrame) -> None:
        """Count notes that are read: a frame with patient and text."""
        codes = [self._patients.setdefault(patient, len(self._patients)) for patient in notes["patient"]]
        hashes = [hash(same_text(text)) for text in notes["text"]]
        self._notes.append(np.array([codes, hashes], np.int64))

    def take(self, other: "Tally") -> None:
        """Have the counts of another, which was filled elsewhere."""
        vars(self).update(vars(other))

    def lines(self) -> Iterator[str]:
        """What a user should know of the notes, in a few lines; no text of theirs."""
        yield from self._column_lines()
        codes, hashes = np.concatenate(self._notes, axis=1) if self._notes else np.empty((2, 0), np.int64)
        of_patients = max(len(self._patients), 1)
        distinct = np.unique(np.unique(hashes, return_inverse=True)[1] * of_patients + codes)
        copies, patients = np.divmod(distinct, of_patients)
        per_patient = np.bincount(patients, minlength=1)
        yield (
            f"Notes: {len(distinct):,} of {_number(len(per_patient), 'patient')}, {per_patient.mean():.1f} each on "
            f"average, {per_patient.max():,} at most"
        )
        yield f"Left out: {', '.join(self._left_out(len(codes) - len(distinct)))}"
        if self.alone:
            yield f"Without a patient: {_number(self.alone, 'note')}, each counted as one patient"
        if shared := int((np.bincount(copies, minlength=1) > 1).sum()):
            yield f"Under more than one patient: {_number(shared, 'text')}; where few share one, they stay on one side"

    def choices(self) -> Iterator[str]:
        """Which columns were taken, where a table has several of one kind."""
        if any(found.others for found in self.columns.values()):
            yield from self._column_lines()

    def _left_out(self, repeated: int) -> Iterator[str]:
        yield f"{self.errors:,} marked as errors"
        yield f"{self.empty:,} empty"
        yield f"{repeated:,} given twice"
        if self.headers:
            yield f"{_number(self.headers, 'header')} between the rows"
        if self.other_files:
            yield f"{_number(self.other_files, 'other file')} of the folder"

    def _column_lines(self) -> Iterator[str]:
        same: dict[str, list[str]] = {}
        for path, found in self.columns.items():
            same.setdefault(_columns_in_words(found), []).append(path)
        for words, paths in same.items():
            yield f"Columns: {words}" if len(same) == 1 else f"Columns of {paths[0]}: {words}"


def _columns_in_words(found: Found) -> str:
    words = []
    for role in ROLES:
        if role in found.names:
            others = found.others.get(role)
            words.append(f"{role} from {found.names[role]}" + (f" (not {', '.join(others)})" if others else ""))
    words += [f"labels from {name}" for role, name in found.names.items() if role.startswith(LABEL)]
    words += [f"groups from {name}" for role, name in found.names.items() if role.startswith(GROUP)]
    return ", ".join(words)


def _number(count: int, of: str) -> str:
    return f"{count:,} {of}" if count == 1 else f"{count:,} {of}s"
