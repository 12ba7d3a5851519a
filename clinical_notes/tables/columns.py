"""Which column of a table holds what."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from clinical_notes.tables.errors import TableError
from clinical_notes.units import GROUP
from run_folder.names import LABEL


@dataclass(frozen=True)
class NoteColumns:
    """Names of the columns that are read.

    A default name also takes the usual names of such a column. The text must be there; so must the patient,
    where its name is not None, what is to be grouped by, labels, and an identifier to copy. A role with the name None
    is not read.

    Attributes:
        without_patients: a table may lack a column of patients under the default name.
    """

    text: str = "TEXT"
    patient: str | None = "SUBJECT_ID"
    category: str | None = "CATEGORY"
    error: str | None = "ISERROR"
    groups: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    id: str | None = None
    without_patients: bool = False


ID = "id_"
"""Prefix of the role of a column of identifiers."""
DEFAULT = NoteColumns()
TEXTS_ALONE = NoteColumns(patient=None, category=None, error=None)
ROLES = ("text", "patient", "category", "error")

_USUAL: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "notetext", "reporttext", "documenttext", "note", "report", "notes", "transcription", "document"),
    "patient": (
        "subjectid", "patientid", "personid", "patid", "ptid", "patientnum", "patientnumber", "mrn",
        "medicalrecordnumber", "patient", "subject", "person",
    ),
    "category": ("category", "notetype", "notecategory", "reporttype", "documenttype", "noteclass", "type"),
    "error": ("iserror",),
}  # fmt: skip
"""Usual names of a column, in lower case and without other signs; an earlier one is taken before a later one."""

_COLUMN_NAME = re.compile(r"[A-Za-z_]\w{0,30}")
_NO_GROUPS = {
    "text": "holds the notes' texts",
    "patient": "tells patients apart",
    "category": "is always grouped by",
    "error": "is the same for all notes that are read",
}

_NO_LABELS = {role: _NO_GROUPS[role] for role in ("text", "patient")}

Choose = Callable[[Sequence[str]], "Found"]
"""From a table's header to what its columns hold. Raises: TableError."""


@dataclass(frozen=True)
class Found:
    """Role to the table's own name of the column; ``group_<name as asked>`` for columns to group by.

    Attributes:
        others: by role, columns that have a usual name too and were not taken.
    """

    names: Mapping[str, str]
    others: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def read(self) -> Mapping[str, str]:
        """Names of all columns to read: ``other_name`` says how those are called that were not taken."""
        others = {other_name(role, name): name for role, rest in self.others.items() for name in rest}
        return {**self.names, **others}


def other_name(role: str, name: str) -> str:
    return f"other_{role}_{name}"


def squashed(name: str) -> str:
    """A column's name in lower case and without blanks, underscores and other signs."""
    return re.sub(r"[\W_]+", "", name.lower())


def is_usual(name: str, role: str) -> bool:
    return squashed(name) in _USUAL[role]


def has_text(header: Sequence[str], columns: NoteColumns) -> bool:
    """Whether a header names the column of the texts."""
    return bool(_candidates(header, "text", columns.text))


def find(header: Sequence[str], columns: NoteColumns) -> Found:
    """What the columns hold.

    Raises:
        TableError: no column of texts or patients, none of a name that was asked for, or two of one name.
    """
    names: dict[str, str] = {}
    others: dict[str, tuple[str, ...]] = {}
    for role in ROLES:
        asked = getattr(columns, role)
        candidates = _candidates(header, role, asked) if asked else []
        if candidates:
            if header.count(candidates[0]) > 1:
                raise TableError(f" has the column {candidates[0]} twice; rename one")
            if twice := next((known for known, name in names.items() if name == candidates[0]), None):
                message = f" has one column {candidates[0]} for {role} and {twice}"
                raise TableError(message, "name a column for each", setting=f"{role}_column")
            names[role] = candidates[0]
            others[role] = tuple(name for name in candidates[1:] if header.count(name) == 1)
        elif asked and (role == "text" or asked != getattr(DEFAULT, role)):
            fix = "name the column that it has"
            raise TableError(f" has no column {asked} ({_shown(header)})", fix, setting=f"{role}_column")
        elif asked and role == "patient" and not columns.without_patients:
            fix = "name it, or give none: each note then counts as one patient"
            raise TableError(f" has no column of patients ({_shown(header)})", fix, setting="patient_column")
    names |= _named(header, columns.groups, GROUP, "group_by", names, _NO_GROUPS)
    names |= _named(header, columns.labels, LABEL, "labels", names, _NO_LABELS)
    names |= _named(header, [columns.id] if columns.id else [], ID, "id_column", names, {})
    taken = set(names.values())
    left = {role: tuple(name for name in rest if name not in taken) for role, rest in others.items()}
    return Found(names, {role: rest for role, rest in left.items() if rest})


def is_header(fields: Sequence[str], header: Sequence[str], row: int) -> bool:
    """Whether a row is the header, perhaps with the mark at a file's start, or with other usual names.

    Args:
        row: data rows before it.

    Raises:
        TableError: it is the header of another order.
    """
    found, names = ([name.strip("\ufeff ").lower() for name in either] for either in (fields, header))
    if found != names and sorted(found) == sorted(names):
        raise TableError(
            f": data row {row + 1} is a header with the columns in another order", "give each part by itself"
        )
    return found == names or (len(found) == len(names) > 1 and all(map(_same_role, found, names)))


def _same_role(name: str, other: str) -> bool:
    return name == other or any(is_usual(name, role) and is_usual(other, role) for role in ROLES)


def longest_name(header: Sequence[str]) -> int:
    """Characters of the longest field that a header can have, perhaps with a mark; a note is rarely so short."""
    return max(map(len, header)) + 2


def _candidates(header: Sequence[str], role: str, asked: str) -> list[str]:
    """Columns of this name, then without case, the last first; under a default name, then those with a usual name."""
    found = [name for name in header if name == asked]
    found += [name for name in reversed(header) if name.strip().lower() == asked.strip().lower()]
    if asked == getattr(DEFAULT, role):
        found += [name for usual in _USUAL[role] for name in header if squashed(name) == usual]
    return list(dict.fromkeys(found))


def _shown(header: Sequence[str]) -> str:
    names = [name for name in header[:12] if _COLUMN_NAME.fullmatch(name)]
    known = {usual for of_role in _USUAL.values() for usual in of_role}
    if {squashed(name) for name in header} & known:
        return f"it has {', '.join(names)}"
    # A first row without one usual name may be a note: none of it is shown.
    return f"none of the {len(header)} names in its first row is a usual one; it may have no header"


def _named(
    header: Sequence[str],
    wanted: Sequence[str],
    prefix: str,
    setting: str,
    names: Mapping[str, str],
    refused: Mapping[str, str],
) -> dict[str, str]:
    """Columns that were asked for by their names, apart from the roles.

    Args:
        setting: the setting that names them.
        names: by role, the columns found.
        refused: by role, why its column must not be among them.
    """
    loose = {name.strip().lower(): name for name in header}
    found = {}
    for asked in wanted:
        name = asked if asked in header else loose.get(asked.strip().lower())
        if name is None:
            message = f" has no column {asked} ({_shown(header)})"
            raise TableError(message, "name one that it has", setting=setting)
        if header.count(name) > 1:
            raise TableError(f" has the column {name} twice; rename one")
        for role, why in refused.items():
            if name == names.get(role):
                raise TableError(f": {asked} {why}", "name another column", setting=setting)
        found[f"{prefix}{asked}"] = name
    if len(set(found.values())) < len(found):
        raise TableError(f": {', '.join(wanted)} names a column twice", "name each once", setting=setting)
    return found
