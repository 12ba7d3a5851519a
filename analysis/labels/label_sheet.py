"""A sample of sentences for people to label, so that the rules' labels can be audited."""

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from clinical_notes.labeller import Labeller
from run_folder.errors import InputError, Problem
from run_folder.settings import POSITIVE, STATUSES

_WITHOUT_SHARE = 0.25
"""Share of the sample in which the rules find none of the symptoms, so that what they miss can be seen."""
_USUAL_SYMPTOMS = 5
_WITHOUT = ("", "")

_INSTRUCTIONS = (
    "Label each text by itself, as you read it; leave a cell empty where nothing fits.",
    "patient: a number, the same for all texts of a patient; leave it as it is.",
    "affirmed: the symptoms that the patient has; several apart by semicolons.",
    "negated: those that the patient does not have.",
    "resolved: those that the patient had and no longer has.",
    "uncertain: those that the patient may have.",
    "historical: those of the past, such as of the medical history.",
    "hypothetical: risks, allergies, conditions and what is to be watched for.",
    "other: those of someone else, such as a relative.",
)

_Stratum = tuple[str, str]
"""Concept and status; both empty for sentences without a mention."""


@dataclass(order=True)
class _Drawn:
    """A sentence in a stratum's heap: the one with the smallest key leaves first."""

    key: float
    text: str = field(compare=False)
    patient: int = field(compare=False)
    mentions: tuple[tuple[str, str], ...] = field(compare=False)


def sample_sentences(
    notes: Iterable[pd.DataFrame], labeller: Labeller, symptoms: Sequence[str], size: int, seed: int
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Sentences drawn evenly from every symptom and status that the rules find, and some without a symptom.

    Args:
        notes: frames with the columns text and patient, as ``read_notes`` gives them.
        symptoms: concepts to draw by; none takes the five that the notes affirm most often.

    Returns:
        a frame of text, patient (a number, in the order of the notes, so that no identifier leaves them) and a column
        of each status (by the rules, joined by semicolons), in random order; the symptoms.

    Raises:
        InputError: the notes have no such sentences.
    """
    random = np.random.default_rng(seed)
    drawn, counts = _draw(notes, labeller, size, random)
    chosen = tuple(symptoms) or tuple(sorted(counts, key=lambda concept: (-counts[concept], concept))[:_USUAL_SYMPTOMS])
    strata = [sorted(drawn.get((concept, status), ())) for concept in chosen for status in STATUSES]
    kept: dict[str, _Drawn] = {}
    _deal(strata, size - round(size * _WITHOUT_SHARE), kept)
    others = [
        sentence
        for stratum in drawn.values()
        for sentence in stratum
        if not any(concept in chosen for concept, _ in sentence.mentions)
    ]
    _deal([sorted(others)], size, kept)
    _deal(strata, size, kept)  # where there were too few without
    if not kept:
        raise InputError(Problem("notes", "they have no sentences to sample", "use other notes"))
    rows = [
        {
            "text": sentence.text,
            "patient": sentence.patient,
            **{status: "; ".join(_named(sentence, status, chosen)) for status in STATUSES},
        }
        for sentence in kept.values()
    ]
    return pd.DataFrame(rows).iloc[random.permutation(len(rows))].reset_index(drop=True), chosen


def _draw(
    notes: Iterable[pd.DataFrame], labeller: Labeller, size: int, random: np.random.Generator
) -> tuple[dict[_Stratum, list[_Drawn]], Counter[str]]:
    """The ``size`` sentences of each stratum with the largest random keys, and how often concepts are affirmed."""
    heaps: dict[_Stratum, list[_Drawn]] = {}
    counts: Counter[str] = Counter()
    seen: set[int] = set()
    numbers: dict[str, int] = {}
    for frame in notes:
        for note, patient in zip(frame["text"], frame["patient"], strict=True):
            number = numbers.setdefault(patient, len(numbers) + 1)
            for part, mentions in labeller.by_sentence(note):
                text = " ".join(note[part.start : part.end].split())
                if hash(text) in seen or not any(c.isalpha() for c in note[part.body : part.end]):
                    continue
                seen.add(hash(text))
                statuses = tuple(dict.fromkeys((m.concept, m.assertion) for m in mentions))
                counts.update(concept for concept, status in statuses if status in POSITIVE)
                sentence = _Drawn(float(random.random()), text, number, statuses)
                for stratum in statuses or (_WITHOUT,):
                    heap = heaps.setdefault(stratum, [])
                    if len(heap) < size:
                        heapq.heappush(heap, sentence)
                    else:
                        heapq.heappushpop(heap, sentence)
    return heaps, counts


def _deal(strata: Sequence[Sequence[_Drawn]], size: int, kept: dict[str, _Drawn]) -> None:
    """One sentence of each stratum in turn, until ``size`` are kept."""
    waiting = [list(stratum) for stratum in strata if stratum]
    while waiting and len(kept) < size:
        for stratum in waiting:
            while stratum and stratum[-1].text in kept:
                stratum.pop()
            if stratum and len(kept) < size:
                sentence = stratum.pop()
                kept[sentence.text] = sentence
        waiting = [stratum for stratum in waiting if stratum]


def _named(sentence: _Drawn, status: str, symptoms: Sequence[str]) -> list[str]:
    return [symptom for symptom in symptoms if (symptom, status) in sentence.mentions]


def blank_sheet(texts: Sequence[str], patients: Sequence[int], symptoms: Sequence[str]) -> pd.DataFrame:
    """Texts with empty cells to fill and their patients' numbers; the last column tells how, a line per row."""
    lines = [*_INSTRUCTIONS, f"Symptoms: {'; '.join(symptoms)}."]
    return pd.DataFrame(
        {
            "text": texts,
            **dict.fromkeys(STATUSES, ""),
            "patient": patients,
            "instructions": [lines[i] if i < len(lines) else "" for i in range(len(texts))],
        }
    )
