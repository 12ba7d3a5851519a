"""Find mentions of symptoms in a note and decide whether they are affirmed, negated or not about the patient now.

Rules in the manner of ConText (Harkema et al. 2009): a cue governs the mentions after it (or before it) in its
sentence up to a word that ends its reach. Library implementations on spaCy take tens of milliseconds per note; these
rules run on sentences that hold a mention, and on nothing else.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import ahocorasick

from clinical_notes.clean import Sentence, sentences
from clinical_notes.cues import Cues, load_cues
from clinical_notes.lexicon import Lexicon
from clinical_notes.units import AFFIRMED, NEGATED, OTHER

_EXCLUDED, _DENYING = "excluded", "denying"


@dataclass(frozen=True, slots=True)
class Mention:
    """One surface form in one place.

    Attributes:
        assertion: AFFIRMED, NEGATED or OTHER of ``units``.
        start: offset of its first character in the text that it was found in.
        end: offset after its last character.
    """

    concept: str
    assertion: str
    start: int
    end: int


_GRADED = re.compile(r" ?(?:is |was |at )?(?:[1-4] ?\+|\+ ?[1-4])")
_LISTED = re.compile(r"\s*(?:,|and|or|,\s*(?:and|or))\s*(?:(?:any|his|her|the|new)\s+)?")
_Match = tuple[int, int, str, str]
"""Start, end, concept and kind of a form found."""


class MentionFinder:
    """Finds and asserts the mentions of a lexicon's concepts. Made once, used for many notes.

    Raises:
        InputError: the package's file of cues was changed and is ill-formed.
    """

    def __init__(self, lexicon: Lexicon) -> None:
        self._cues = load_cues()
        self._automaton = ahocorasick.Automaton()
        # Forms come last, so that what one concept excludes ("sore throat" for pain) may name another.
        for kind, key in ((_EXCLUDED, "exclude"), (_DENYING, "negative"), (AFFIRMED, "forms")):
            for concept in lexicon.concepts.values():
                for form in getattr(concept, key):
                    self._automaton.add_word(form, (len(form), concept.name, kind))
        self._automaton.make_automaton()

    def find(self, text: str) -> list[Mention]:
        """Mentions in order; ``text`` must have single blanks where words are wrapped (see ``unwrapped``)."""
        return [mention for _, _, mentions in self.mentioning(text) for mention in mentions]

    def by_sentence(self, text: str) -> Iterator[tuple[Sentence, list[Mention]]]:
        """Every sentence of a note with its mentions."""
        return self._by_sentence(text, self._matches(text))

    def mentioning(self, text: str) -> Iterator[tuple[int, Sentence, list[Mention]]]:
        """Index, sentence and mentions of the sentences that have any; much faster where few or none have."""
        found = self._matches(text)
        if found:
            last = found[-1][0]
            for number, (part, mentions) in enumerate(self._by_sentence(text, found)):
                if mentions:
                    yield number, part, mentions
                if part.end > last:
                    return

    def _by_sentence(self, text: str, found: Sequence[_Match]) -> Iterator[tuple[Sentence, list[Mention]]]:
        section = ""
        listed = False  # whether the section's header is still of what follows, if it denies
        first = 0
        for part in sentences(text):
            after = first
            while after < len(found) and found[after][0] < part.end:
                after += 1
            of_part, first = found[first:after], after
            if part.header is not None and of_part and _is_list_of(text, part, of_part, self._cues):
                part = Sentence(part.start, of_part[0][0], part.end, None)  # "Fever, cough: none" is no section
            if part.header is not None:
                section, listed = part.header, True
            elif listed and not _is_list_item(text, part):
                listed = False
            matches = [match for match in of_part if match[0] >= part.body]
            if not matches:
                yield part, []
                continue
            family = bool(self._cues.family_header.search(section))
            negating = listed and bool(self._cues.negating_header.search(section))
            yield part, _asserted(text, part, matches, self._cues, family, negating)

    def _matches(self, text: str) -> list[_Match]:
        """Longest forms at word bounds, (start, end, concept, kind), none overlapping."""
        lowered = text.lower()
        if len(lowered) != len(text):  # a few capitals have a longer lower case
            lowered = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
        lowered = lowered.replace("\n", " ")
        found = []
        for last, (length, concept, kind) in self._automaton.iter(lowered):
            start, end = last - length + 1, last + 1
            if (start and lowered[start - 1].isalnum()) or (end < len(lowered) and lowered[end].isalnum()):
                continue
            found.append((start, end, concept, kind))
        found.sort(key=lambda match: (match[0], -match[1]))
        kept: list[_Match] = []
        for match in found:
            if not kept or match[0] >= kept[-1][1]:
                kept.append(match)
            elif match[1] - match[0] > kept[-1][1] - kept[-1][0]:
                kept[-1] = match
        return [match for match in kept if match[3] != _EXCLUDED]


def _is_list_of(text: str, part: Sentence, matches: Sequence[_Match], cues: Cues) -> bool:
    """Whether a sentence's header is a list of mentions and nothing else."""
    inside = [match for match in matches if match[0] < part.body]
    if not inside or part.header is None or {match[2] for match in inside} & {m[2] for m in matches[len(inside) :]}:
        return False  # "Pain: denies any pain" is a section
    start, end = inside[0][0], inside[-1][1]
    whole = end - start == len(part.header) or bool(cues.qualifiers.fullmatch(text, part.start, start))
    return (
        whole
        and text[end : part.body].strip() == ":"
        and all(_LISTED.fullmatch(text, a[1], b[0]) for a, b in pairwise(inside))
    )


@dataclass(frozen=True, slots=True)
class _Cue:
    kind: str
    start: int
    end: int


def _is_list_item(text: str, part: Sentence) -> bool:
    """Whether a list mark stands before a sentence, so that the header above the list is of it too."""
    return bool(text[part.start : part.body].strip())


def _asserted(
    text: str, part: Sentence, matches: Sequence[_Match], cues: Cues, family: bool, negating: bool
) -> list[Mention]:
    lowered = text[part.body : part.end].lower().replace("\n", " ")
    found = [
        _Cue(match.lastgroup or "", match.start() + part.body, match.end() + part.body)
        for match in cues.in_sentence.finditer(lowered)
    ]
    found = _with_signs_read(found, matches[0][0])
    mentions = []
    ends = _list_ends(text, matches)
    for (start, end, concept, kind), list_end in zip(matches, ends, strict=True):
        if family:
            assertion = OTHER
        elif _GRADED.match(text, end):
            assertion = AFFIRMED
        else:
            assertion = _assertion(found, start, list_end, negating)
        if kind == _DENYING and assertion != OTHER:
            assertion = AFFIRMED if assertion == NEGATED else NEGATED
        mentions.append(Mention(concept, assertion, start, end))
    return mentions


def _with_signs_read(cues: list[_Cue], first_mention: int) -> list[_Cue]:
    """A sentence that starts with "(-)" or "(+)" has its signs before the symptoms; any other has them after."""
    signs = [cue for cue in cues if cue.kind in ("minus", "plus")]
    minus = "pre_negation" if signs and signs[0].start < first_mention else "post_negation"
    return [_Cue(minus, cue.start, cue.end) if cue.kind == "minus" else cue for cue in cues]


def _list_ends(text: str, matches: Sequence[_Match]) -> list[int]:
    """Where the list ends that each mention stands in, so that what follows "fever, chills and cough" is of all."""
    ends = [end for _, end, _, _ in matches]
    for i in reversed(range(len(matches) - 1)):
        if _LISTED.fullmatch(text, matches[i][1], matches[i + 1][0]):
            ends[i] = ends[i + 1]
    return ends


def _assertion(cues: Sequence[_Cue], start: int, end: int, negating_header: bool) -> str:
    """Walk back from the mention to the cue that governs it, then forward."""
    verdict: str | None = None
    bounded = apart = False
    for cue in reversed([cue for cue in cues if cue.end <= start]):
        if cue.kind in ("termination", "plus", "stop"):
            bounded = True
            break
        if cue.kind == "pseudo_negation":
            verdict = verdict or AFFIRMED
            break
        if cue.kind in ("pre_negation", "sign_before", "contracted"):
            verdict = verdict or NEGATED
        elif cue.kind == "comma":
            apart = verdict == NEGATED
        elif cue.kind in ("pre_family", "post_family") or (cue.kind == "pre_hypothetical" and not apart):
            return OTHER  # not "check for leakage, and no bleeding"
    if verdict == NEGATED:
        return NEGATED
    for cue in cues:
        if cue.end <= end or (cue.start < end and cue.kind != "sign_after"):  # "pain level 0" begins in its mention
            continue
        if cue.kind in ("termination", "plus", "stop", "pre_negation", "pre_family", "pre_hypothetical"):
            break
        if cue.kind in ("post_negation", "sign_after"):
            return NEGATED
        if cue.kind in ("post_hypothetical", "post_family"):
            return OTHER
    if verdict is None and negating_header and not bounded:
        return NEGATED
    return AFFIRMED
