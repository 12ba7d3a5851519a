"""Read tables of notes in chunks: sampled, and without rows that are not notes."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from clinical_notes.tables.columns import DEFAULT, NoteColumns
from clinical_notes.tables.read import Paths, paths_of, read_rows
from clinical_notes.tables.tally import Tally
from clinical_notes.units import GROUP
from run_folder.errors import InputError, Problem
from run_folder.names import LABEL

LONGEST_VALUE, MOST_VALUES = 60, 50
"""Limits on a column to group by: characters of a value, and different values. More may be texts or people."""


def read_notes(
    paths: Paths,
    *,
    columns: NoteColumns = DEFAULT,
    sample: float = 1.0,
    seed: int = 0,
    categories: Sequence[str] = (),
    chunk_rows: int = 20_000,
    tally: Tally | None = None,
) -> Iterator[pd.DataFrame]:
    """Frames of note (0-based data row), patient, category, text and groups, without rows marked as errors.

    The groups are columns ``group_<name>``, the labels ``label_<name>``, as many as ``columns`` names.

    Args:
        paths: MIMIC-III's NOTEEVENTS, or any tables of notes (``tables.formats.READ``), or folders of .txt files.
        sample: fraction of rows drawn by ``seed``, whatever the chunks' size.
        categories: note types to keep, compared without case and outer blanks; none keeps all.
        tally: where rows and notes are counted.

    Raises:
        InputError: at the first chunk or later, where a table cannot be read on.
    """
    if not 0 < sample <= 1:
        raise InputError(Problem("sample", f"must be in (0, 1], got {sample}"))
    counted = tally if tally is not None else Tally()
    wanted = {category.strip().lower() for category in categories}
    seen: set[str] = set()
    draw = np.random.default_rng(seed)
    kept = 0
    groups: dict[str, set[str]] = {f"{GROUP}{name}": set() for name in columns.groups}
    labels = [f"{LABEL}{name}" for name in columns.labels]
    for frame in read_rows(paths, columns=columns, chunk_rows=chunk_rows, tally=counted):
        chosen = draw.random(len(frame)) < sample
        types = frame["category"].str.strip()
        seen.update(types.unique())
        if wanted:
            chosen &= types.str.lower().isin(wanted).to_numpy()
        result = _with_groups(_notes_of(frame[chosen], counted), groups, labels)
        kept += len(result)
        if len(result):
            counted.add(result)
            yield result
    where = ", ".join(map(str, paths_of(paths)))
    if wanted and not wanted & {category.lower() for category in seen}:
        message = f"none of the notes is of type {', '.join(categories)}; {where} has {_listed(seen)}"
        raise InputError(Problem("category", message))
    if not kept:
        message = f"no note of {where} is left after sample, category and ISERROR"
        raise InputError(Problem("notes", message, "keep more of them"))


def _with_groups(notes: pd.DataFrame, groups: Mapping[str, set[str]], labels: Sequence[str]) -> pd.DataFrame:
    """Note, patient, category, text, labels, and groups, whose values are added to ``groups``."""
    result = notes[["note", "patient", "category", "text", *groups, *labels]].copy()
    for name, values in groups.items():
        result[name] = result[name].str.strip()
        values.update(result[name].unique())
        _check_groups(name.removeprefix(GROUP), values)
    return result


def _notes_of(rows: pd.DataFrame, tally: Tally) -> pd.DataFrame:
    """The rows that are notes, each with a patient: a note without one is its own patient."""
    marked = rows["error"].to_numpy()
    empty = (rows["text"].str.strip() == "").to_numpy()
    notes = rows[~marked & ~empty].copy()
    alone = notes["patient"] == ""
    notes.loc[alone, "patient"] = "note-" + notes.loc[alone, "note"].astype(str)
    tally.errors += int(marked.sum())
    tally.empty += int((empty & ~marked).sum())
    tally.alone += int(alone.sum())
    return notes


def check_notes(paths: Paths, columns: NoteColumns = DEFAULT) -> None:
    """Look at the first rows of each table.

    Raises:
        InputError: no such file, no table, a column is missing, or no rows.
    """
    given = paths_of(paths)
    for path in given if len(given) > 1 else ():
        next(read_rows(path, columns=columns, chunk_rows=100), None)
    next(read_notes(given, columns=columns, chunk_rows=100), None)


def _check_groups(name: str, values: set[str]) -> None:
    reason = reason_for_no_groups(values)
    if reason:
        raise InputError(Problem("group_by", f"{name} has {reason}", "name a column of categories"))


def reason_for_no_groups(values: Collection[str]) -> str | None:
    """Why figures must not be shown by these values of a column (texts, or single people), or None."""
    if any(len(value) > LONGEST_VALUE for value in values):
        return f"values of more than {LONGEST_VALUE} characters"
    return f"more than {MOST_VALUES} different values" if len(values) > MOST_VALUES else None


def _listed(names: set[str]) -> str:
    """Types of notes, unless they may be texts."""
    ordered = sorted(name for name in names if name)
    if any(len(name) > LONGEST_VALUE for name in ordered):
        return f"{len(ordered)} others, too long to be types"
    return ", ".join(ordered[:12]) + (", …" if len(ordered) > 12 else "") if ordered else "no categories"
