"""Which texts a multilabel model learns from, and on which it is judged: whole notes, at their own prevalence."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DENIED_SHARE = 0.5
"""Largest share of the training texts without a symptom that deny one, where there are others."""


def is_whole(patient: str, share: float) -> bool:
    """Whether all texts of a patient are kept, not only those that mention a symptom; so of this share of patients."""
    if share >= 1:
        return True
    digest = hashlib.blake2b(patient.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def deal_silent_patients(
    split_of: NDArray[np.int8], groups: NDArray[np.int64], dealt: NDArray[np.bool_], parts: Sequence[float], seed: int
) -> NDArray[np.int8]:
    """The splits with the patients that mention no symptom dealt at random.

    Args:
        split_of, groups, dealt: (patients,) place of the split, number of those who stay together, whether it is dealt.
        parts: shares of train, validation and test.
    """
    silent = np.unique(groups[~np.isin(groups, groups[dealt])])
    order = np.random.default_rng(seed).permutation(silent)
    ends = np.round(np.cumsum([parts[2], parts[1]]) * len(order)).astype(int)
    found = split_of.copy()
    for split, of_split in ((2, order[: ends[0]]), (1, order[ends[0] : ends[1]]), (0, order[ends[1] :])):
        found[np.isin(groups, of_split)] = split
    return found


def training_texts(
    reports: NDArray[np.bool_], mentions: NDArray[np.bool_], negatives: float, random: np.random.Generator
) -> NDArray[np.int64]:
    """Places of the texts to train on: all that report a symptom, and a share of the others.

    Those that mention a symptom without reporting it (denied, of a relative, in the past) come first, up to half of the
    others, since they are the hard ones.

    Args:
        reports, mentions: (n,) whether a text reports a symptom, and whether it mentions one.
        negatives: number of other texts for each one that reports a symptom.
    """
    wanted = round(negatives * int(reports.sum()))
    denying, others = np.flatnonzero(mentions & ~reports), np.flatnonzero(~mentions & ~reports)
    from_denying = min(len(denying), max(round(wanted * _DENIED_SHARE), wanted - len(others)))
    from_others = min(len(others), wanted - from_denying)
    drawn = [random.permutation(denying)[:from_denying], random.permutation(others)[:from_others]]
    return np.sort(np.concatenate([np.flatnonzero(reports), *drawn]))


def texts_of_some_patients(patients: NDArray[Any], most: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """Which texts belong to patients drawn one after the other, as many as have at most ``most`` texts together.

    One patient at least is drawn.

    Args:
        patients: (n,) whose text each is.
    """
    found, counts = np.unique(patients, return_counts=True)
    order = random.permutation(len(found))
    fits = np.cumsum(counts[order]) <= most
    fits[:1] = True
    return np.isin(patients, found[order[fits]])
