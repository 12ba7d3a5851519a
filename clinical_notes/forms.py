"""Where a text has the surface forms of a lexicon."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import ahocorasick

from clinical_notes.lexicon import Kind, Lexicon, expression_of

DENYING: Kind = "negative"
_EXCLUDED: Kind = "exclude"


class Match(NamedTuple):
    """A form in one place, and the concepts that it names."""

    start: int
    end: int
    concepts: tuple[str, ...]
    kind: Kind


class FormFinder:
    """Finds the forms of a lexicon's concepts. Made once, used for many texts."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._automaton = ahocorasick.Automaton()
        self._expressions: list[tuple[re.Pattern[str], tuple[str, ...], Kind]] = []
        self._exclusions: list[tuple[re.Pattern[str], tuple[str, ...], Kind]] = []
        for phrase, kind, concepts in lexicon.phrases():
            expression = expression_of(phrase)
            if expression is None:
                self._automaton.add_word(phrase, (len(phrase), concepts, kind))
            else:
                kept = self._exclusions if kind == _EXCLUDED else self._expressions
                kept.append((expression, concepts, kind))
        self._automaton.make_automaton()

    def matches(self, lowered: str) -> list[Match]:
        """The longest forms at word bounds of a text in lower case, in order, none overlapping."""
        found: list[tuple[int, int, tuple[str, ...], Kind]] = []
        for last, (length, concepts, kind) in self._automaton.iter(lowered):
            if _are_words(lowered, last - length + 1, last + 1):
                found.append((last - length + 1, last + 1, concepts, kind))
        found += _expressed(lowered, self._expressions)
        named = {concept for _, _, concepts, _ in found for concept in concepts}
        found += _expressed(lowered, [exclusion for exclusion in self._exclusions if exclusion[1][0] in named])
        found.sort(key=lambda form: (form[0], -form[1]))
        kept: list[Match] = []
        for form in map(Match._make, found):
            if not kept or form.start >= kept[-1].end or _names_another(kept[-1], form):
                kept.append(form)
            elif kept[-1].kind == DENYING:  # "non-bloody diarrhea" holds "bloody diarrhea"
                continue
            elif form.end - form.start > kept[-1].end - kept[-1].start:
                kept[-1] = form
        return [form for form in kept if form.kind != _EXCLUDED]


def _expressed(
    text: str, expressions: Iterable[tuple[re.Pattern[str], tuple[str, ...], Kind]]
) -> Iterator[tuple[int, int, tuple[str, ...], Kind]]:
    for expression, concepts, kind in expressions:
        for match in expression.finditer(text):
            if _are_words(text, *match.span()):
                yield *match.span(), concepts, kind


def _names_another(excluded: Match, form: Match) -> bool:
    """Whether a form in a phrase that excludes one symptom is of another: "faint expiratory wheeze"."""
    return (
        excluded.kind == _EXCLUDED != form.kind
        and form.start > excluded.start
        and not {*excluded.concepts} & {*form.concepts}
    )


def _are_words(text: str, start: int, end: int) -> bool:
    return not ((start and text[start - 1].isalnum()) or (end < len(text) and text[end].isalnum()))
