"""Patients who share the text of a note: the split must not put its copies on two sides."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LARGEST_SHARE = 20
"""At most one patient in this number belongs to one group, so that the split stays even."""


@dataclass(frozen=True)
class Together:
    """Which patients stay together.

    Attributes:
        groups: (patients) the smallest rank of a group's patients.
        standard_texts: texts under too many patients to keep these together, such as "Normal ECG".
    """

    groups: NDArray[np.int64]
    standard_texts: int


def patients_together(patients: NDArray[np.int32], copies: NDArray[np.int64], ranks: NDArray[np.int64]) -> Together:
    """Groups of patients who share a text, also through others.

    Args:
        patients: (units) number of each unit's patient.
        copies: (units) what the units of notes with the same text have in common.
        ranks: (patients) each patient's place in an order that does not depend on the tables' order.
    """
    largest = max(2, len(np.unique(patients)) // _LARGEST_SHARE)
    groups, members = ranks.copy(), {int(rank): [patient] for patient, rank in enumerate(ranks)}
    standard = 0
    for sharing in _sharing(patients, copies, ranks):
        joined = sorted({int(groups[patient]) for patient in sharing})
        together = [patient for group in joined for patient in members[group]]
        if len(together) > largest:
            standard += 1
            continue
        for group in joined:
            del members[group]
        members[joined[0]] = together
        groups[together] = joined[0]
    return Together(groups, standard)


def _sharing(
    patients: NDArray[np.int32], copies: NDArray[np.int64], ranks: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """The patients of each text that has several; the fewest first, so that rare copies come before stock phrases."""
    copy, patient = np.divmod(np.unique(np.unique(copies, return_inverse=True)[1] * len(ranks) + patients), len(ranks))
    starts = np.flatnonzero(np.append(True, copy[1:] != copy[:-1]))
    shared = [found for found in np.split(patient, starts[1:]) if len(found) > 1]
    return sorted(shared, key=lambda found: (len(found), sorted(ranks[found].tolist())))
