"""How firm the choice of the most frequent symptoms is: a bootstrap over patients."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from run_folder.symptom_choice import SymptomChoice

_RESAMPLES = 1000
_AT_ONCE = 20


def firmness(
    patients: NDArray[np.int32],
    concepts: NDArray[np.int32],
    names: NDArray[np.object_],
    chosen: tuple[str, ...],
    seed: int,
) -> SymptomChoice:
    """How often the chosen symptoms are the most frequent ones of patients drawn again, with replacement.

    Args:
        patients: (n,) codes of the patients whose mentions count; concepts: (n,) those of what they mention.
        names: of the concepts, by code.
        chosen: the most frequent symptoms, ties by name.
    """
    order = np.argsort(names.astype(str))  # so that ties go by name
    places = np.argsort(order)[concepts]
    drawn_from, rows = np.unique(patients, return_inverse=True)
    people = len(drawn_from)
    counts = csr_array((np.ones(len(rows)), (places, rows)), shape=(len(names), people))  # few mention many symptoms
    among = np.zeros(len(names), np.int64)
    random = np.random.default_rng(seed)
    for _ in range(_RESAMPLES // _AT_ONCE):
        drawn = random.integers(people, size=(_AT_ONCE, people), dtype=np.int32)
        times = np.stack([np.bincount(one, minlength=people) for one in drawn], axis=1)
        totals = counts @ times.astype(np.float64)
        first = np.argsort(-totals, axis=0, kind="stable")[: len(chosen)]
        found = np.take_along_axis(totals, first, axis=0) > 0
        among += np.bincount(first[found], minlength=len(names))
    shares = dict(zip(names[order].tolist(), (among / _RESAMPLES).tolist(), strict=True))
    others = [name for name in shares if name not in chosen]
    mentioned = dict(zip(shares, counts.sum(axis=1), strict=True))
    runner_up = max(others, key=lambda name: (shares[name], mentioned[name]), default=None)
    return SymptomChoice(
        resamples=_RESAMPLES,
        shares={name: shares[name] for name in chosen},
        runner_up=runner_up,
        runner_up_share=shares[runner_up] if runner_up is not None else 0.0,
    )
