"""Find mentions of symptoms in a note and tell the status of each, such as affirmed, negated or historical.

Rules in the manner of ConText (Harkema et al. 2009): a cue governs the mentions after it (or before it) in its
sentence up to a word that ends its reach. The rules run on sentences that hold a mention, and on nothing else, which
makes them several times as fast as implementations on spaCy (docs/notes.md has the figures).
"""

import functools
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from clinical_notes.clean import Sentence, sentences
from clinical_notes.cues import Cues, load_cues
from clinical_notes.forms import DENYING, FormFinder, Match
from clinical_notes.labeller import Labeller, Mention
from clinical_notes.lexicon import Lexicon
from clinical_notes.squeezed import Squeezed, squeeze
from clinical_notes.templates import read_templates
from clinical_notes.units import AFFIRMED, HISTORICAL, HYPOTHETICAL, NEGATED, OTHER, RESOLVED, UNCERTAIN

_ABSENT = (NEGATED, RESOLVED)
_RESOLVED_THING = re.compile(
    r"(?:^|[,;:(] ?|\b(?:and|with|of|the|his|her|an?) )(?:now |previously )?resolved "
    r"(?:(?!(?:with|after|and|by|on|in|but|without|prior|before|no|now|since|when|while|to|at|for)\b)[\w-]+ )?$"
)
"""Before a symptom that is gone: "resolved acute fever", not "rash, resolved, cough"."""
_SIGNS = ("minus", "plus", "sign_after")
_GRADED = re.compile(
    r" ?(?:is |was |at )?(?:[1-4] ?\+|\+ ?[1-4])"
    r"(?! (?!(?:to|in|at|on|of|up|with|and|or|but|over|bilat\w*|b/l|pitting|non-?pitting|left|right|lower|upper|"
    r"[lr]?le|throughout|now|today|pedal|ankle|leg|legs|both)\b)[a-z])"
)
"""A grade after its symptom, and not before what it is of: "no edema 2+ pulses"."""
_GRADE_OF = re.compile(r" (?:(?!(?:no|without|w/o|denies|neg|and|or|but|pulses?)\b)[\w/-]+ ){0,3}")
"""Between a grade and the symptom that it is of: "2+ pitting edema"."""
_GRADE_BEFORE = re.compile(rf"(?:[1-4]\+|\+[1-4]){_GRADE_OF.pattern}$")
_FIELD_END = re.compile(r"(?: (?:present|reported|noted))?\s*:\s*")
"""After the symptoms that a field asks for: "Pain present: no"."""
_LISTED = re.compile(r"\s*(?:,|/|and|or|,\s*(?:and|or))\s*(?:(?:any|his|her|the|new)\s+)?")
_BRACKETS = re.compile(r"\([^()]{2,80}\)")
_DENIED_CHANGE = tuple(f"no {word}" for word in ("change", "recent", "significant", "new", "other", "interval"))
_NEAR = 2
"""Words at most between "absence of" and what is absent."""
_STILL_THERE = re.compile(
    r"\b(?:with|w/(?!o)|chronic|persistent|ongoing|current(?:ly)?|now|presents?|presenting|presently)(?!\w)"
)
"""Between "history of" and a symptom that is there now."""
_CHRONIC = re.compile(r"\b(?:chronic|ongoing|persistent)(?: \w+)? $")
_PRESENT = re.compile(
    r"\b(?:(?:he|she|patient|pt) (?:still |also |now |currently )?"
    r"(?:has(?! (?:had|been|a (?:\w+ )?history)\b)|experiences|(?:does )?complains?)|at this time|currently|now)"
    r"\b[^.;]*$"
)
"""Before what is there now, although its section is of the past."""
_NOW = re.compile(
    r"(?:,.*|\band )\b(?:has|is|are|takes|will|presents|comes|now|currently|presently)\b"
    r"|\b(?:present(?:s|ed|ing)|p/w|c/o|com(?:es|ing)|came|admitted|complain\w*)\b"
    r"|\bwith (?:\w+ )?(?:persistent|ongoing|continued|continuing|residual|chronic|recurrent|worsening|new)\b"
)
"""Between a time in the past and a mention of now: "was well in 2003, now has a cough"."""
_SINCE_DONE = re.compile(r",.*\b(?:had|has|underwent)\b|\bsince (?!\d)")
"""Between a mention of now and what was in the past: "comes with chest pain, had a stent in 2003"."""
_TOLD = re.compile(
    r"\b(?:was|were|had|came|has|have been|you (?:have|are)|admitted|treated|hospitali[sz]ed|evaluated|diagnosed|"
    r"improved|resolved|developed|presented|found|underwent)\b",
    re.IGNORECASE,
)
"""In a sentence that tells what was, among instructions: "You were admitted with chest pain"."""
_GIVEN = re.compile(r"\d|\b(?:for|prn|po|iv)\b", re.IGNORECASE)
"""After a drug that is given, and not one that the patient is allergic to: "Aspirin: 81 mg for chest pain"."""
_HEADERS_KEPT = 1000
_GAP = 80
"""Characters before a header in which a blank line, or a header without a colon, is looked for."""
_BEYOND = re.compile(r",|\b(?:setting of|due to|from|after|with)\b")
"""Between "suspect" and what is not suspected: "suspect sepsis in the setting of cough"."""
_LASTING = re.compile(
    r" (?:for |x ?)(?:the (?:past|last) )?(?:\d+|several|many|some) (?:day|week|month|year|yr)s?\b(?! (?:ago|prior))"
    r"| (?:today|now)\b|, today\b"
    r"|,? since (?:yesterday|today|this|last (?:night|evening)|(?:mon|tues|wednes|thurs|fri|satur|sun)day)\b"
)
"""After "history of" and a symptom that has lasted until now."""
_OF_ONE_THING = re.compile(r"s/p|status post|prev(?:ious(?:ly)?)?|prior|formerly|remote")
"""What is of the past by what follows it at once, and not by a list: "s/p fall, headache"."""
_TELLS_NOW = re.compile(
    r"\s*(?:the |this |\d{1,3}[- ]?(?:y/?o|yr|year)[- ]?(?:old )?(?:\w+ )?)?(?:patient|pt|he|she|[mf]|man|woman)\b"
    r"[^.;:\n]{0,60}?\b(?:presents|reports|complains|c/o|comes|came in|states|arrives|endorses|is here)\b",
    re.IGNORECASE,
)
"""How a paragraph begins that is no part of a list or section above it: "Patient presents with fever"."""


class MentionFinder(Labeller):
    """Finds and asserts the mentions of a lexicon's concepts. Made once, used for many notes.

    Raises:
        InputError: the package's file of cues was changed and is ill-formed.
    """

    def __init__(self, lexicon: Lexicon) -> None:
        self._cues = load_cues()
        self._forms = FormFinder(lexicon)
        # Most headers come again and again.
        self._context = functools.lru_cache(_HEADERS_KEPT)(self._context_of)
        self._names_allergen = functools.lru_cache(_HEADERS_KEPT)(self._cues.allergen.fullmatch)

    def find(self, text: str) -> list[Mention]:
        return [mention for _, _, mentions in self.mentioning(text) for mention in mentions]

    def by_sentence(self, text: str) -> Iterator[tuple[Sentence, list[Mention]]]:
        squeezed = squeeze(text)
        return self._by_sentence(text, squeezed, self._forms.matches(squeezed.lowered))

    def mentioning(self, text: str) -> Iterator[tuple[int, Sentence, list[Mention]]]:
        """As ``Labeller`` says; much faster than all sentences where few or none have any."""
        squeezed = squeeze(text)
        found = self._forms.matches(squeezed.lowered)
        if found:
            last = squeezed.place_in_note(found[-1][0])
            for number, (part, mentions) in enumerate(self._by_sentence(text, squeezed, found)):
                if mentions:
                    yield number, part, mentions
                if part.end > last:
                    return

    def _by_sentence(
        self, text: str, squeezed: Squeezed, found: Sequence[Match]
    ) -> Iterator[tuple[Sentence, list[Mention]]]:
        """The sentences of ``text``; the matches' offsets are those of its squeezed form."""
        places = [squeezed.place_in_note(match[0]) for match in found]
        section = ""
        listed = False  # whether the section's header is still of what follows, if it denies
        alone = False  # whether the section's header has a line for itself, so that it may have subheaders
        governs = False  # whether the section gives a status to what stands in it
        filled = False  # whether anything stands in it
        first = 0
        for part in sentences(text):
            after = first
            while after < len(found) and places[after] < part.end:
                after += 1
            of_part, begin, first = found[first:after], first, after
            of_drug = False
            if part.header is not None and of_part:
                of_drug = self._is_of_drug(text, part, part.header)
                if of_drug:
                    part = Sentence(part.start, part.body, part.end, None)
            if part.header is not None and of_part:
                inner = _in_squeezed(squeezed, part)
                if _is_list_of(squeezed.text, inner, of_part, self._cues):  # "Fever, cough: none" is no section
                    part = Sentence(part.start, places[begin], part.end, None)
                    section = section if alone else ""
            if part.header is not None and self._begins_section(text, part, part.header, section, alone):
                section, listed, alone, filled = part.header, True, _is_alone(text, part), False
                governs = self._context(section, False) is not None
            elif listed and not _is_list_item(text, part):
                listed = False
            if governs and part.header is None and filled and _is_told_apart(text, part):
                section, governs = "", False
            filled = filled or not text[part.body : part.end].isspace()
            matches = of_part and [
                match for match, place in zip(of_part, places[begin:after], strict=True) if place >= part.body
            ]
            if not matches:
                yield part, []
                continue
            context = self._context(section, listed) or (HYPOTHETICAL if of_drug else None)
            if context == HYPOTHETICAL and self._tells(section, text, part):
                context = None
            mentions = _asserted(squeezed, _in_squeezed(squeezed, part), matches, self._cues, context)
            yield part, [_in_note(squeezed, mention) for mention in mentions]

    def _is_of_drug(self, text: str, part: Sentence, header: str) -> bool:
        """Whether a sentence says what a drug does to the patient, and so begins no section: "Penicillin: rash"."""
        return self._names_allergen(header) is not None and not _GIVEN.search(text, part.body, part.end)

    def _begins_section(self, text: str, part: Sentence, header: str, section: str, alone: bool) -> bool:
        """Whether a header ends the section that it stands in, and is not a part of it ("Mother: seizures").

        Args:
            alone: whether the section's header has a line for itself.
        """
        if self._context(section, False) == OTHER and self._cues.relative_header.match(header):
            return False
        if not alone:
            return True
        if self._context(section, False) is None or self._context(header, True) is not None:
            return True
        if self._cues.section_header.match(header):
            return True
        title = next(place for place in range(part.start, part.end) if not text[place].isspace())
        before = text[max(0, title - _GAP) : title]
        above = before.rstrip()
        if before.count("\n", len(above)) != 1:  # after a blank line, or in the middle of a line
            return True
        return self._cues.section_header.match(above[above.rfind("\n") + 1 :].strip()) is not None

    def _tells(self, section: str, text: str, part: Sentence) -> bool:
        """Whether a sentence among instructions tells what was: "You were admitted with chest pain"."""
        return bool(self._cues.instruction_header.match(section) and _TOLD.search(text, part.body, part.end))

    def _context_of(self, section: str, listed: bool) -> str | None:
        """The status that a section gives to its mentions, unless a cue says otherwise.

        Args:
            listed: the sentence is in the list directly below the header.
        """
        if self._cues.family_header.search(section):
            return OTHER
        if self._cues.hypothetical_header.match(section) or self._cues.instruction_header.match(section):
            return HYPOTHETICAL
        if self._cues.historical_header.match(section):
            return HISTORICAL
        if not listed:
            return None
        if self._cues.resolved_header.search(section):
            return RESOLVED
        return NEGATED if self._cues.negating_header.search(section) else None


def _in_squeezed(squeezed: Squeezed, part: Sentence) -> Sentence:
    start, body, end = map(squeezed.place_of, (part.start, part.body, part.end))
    return Sentence(start, body, end, part.header)


def _in_note(squeezed: Squeezed, mention: Mention) -> Mention:
    start, end = squeezed.place_in_note(mention.start), squeezed.place_in_note(mention.end - 1) + 1
    return Mention(mention.concept, mention.assertion, start, end)


def _is_list_of(text: str, part: Sentence, matches: Sequence[Match], cues: Cues) -> bool:
    """Whether a sentence's header is a list of mentions and nothing else."""
    inside = [match for match in matches if match[0] < part.body]
    if not inside or part.header is None or {match[2] for match in inside} & {m[2] for m in matches[len(inside) :]}:
        return False  # "Pain: denies any pain" is a section
    start, end = inside[0][0], inside[-1][1]
    whole = part.header.startswith(text[start:end]) or bool(cues.qualifiers.fullmatch(text, part.start, start))
    return (
        whole
        and _FIELD_END.fullmatch(text, end, part.body) is not None
        and all(_LISTED.fullmatch(text, a[1], b[0]) for a, b in pairwise(inside))
    )


class _Cue(NamedTuple):
    kind: str
    start: int
    end: int


def _is_alone(text: str, part: Sentence) -> bool:
    """Whether nothing follows a sentence's header in its line."""
    line_end = text.find("\n", part.body)
    return line_end != -1 and not text[part.body : line_end].strip()


def _is_told_apart(text: str, part: Sentence) -> bool:
    """Whether a sentence begins a paragraph, after a blank line, and says how the patient is."""
    before = text[max(0, part.start - _GAP) : part.body]
    return before.count("\n", len(before.rstrip())) > 1 and _TELLS_NOW.match(text, part.body, part.end) is not None


def _is_list_item(text: str, part: Sentence) -> bool:
    """Whether a list mark stands before a sentence, so that the header above the list is of it too."""
    return bool(text[part.start : part.body].strip())


def _asserted(
    squeezed: Squeezed, part: Sentence, matches: Sequence[Match], cues: Cues, context: str | None
) -> list[Mention]:
    text, lowered = squeezed.text, squeezed.lowered[part.body : part.end]
    found = [
        _Cue(match.lastgroup or "", match.start() + part.body, match.end() + part.body)
        for match in cues.in_sentence(lowered)
    ]
    kinds = {cue.kind for cue in found}
    if "effect" in kinds:
        found = _with_effects_read(found, lowered, part.body, cues)
    if not kinds.isdisjoint(_SIGNS):
        found = _with_signs_read(found, text, matches)
    if "post_resolved" in kinds:
        found = _with_resolved_read(found, lowered, [match[0] - part.body for match in matches], part.body)
    mentions = []
    ends = _list_ends(text, matches)
    starts = [match[0] for match in matches]
    brackets = [match.span() for match in _BRACKETS.finditer(squeezed.lowered, part.body, part.end)]
    graded = "+" in lowered
    written = read_templates(squeezed.lowered, [match[:2] for match in matches], part.body, part.end)
    for i, ((start, end, concepts, kind), list_end) in enumerate(zip(matches, ends, strict=True)):
        following = starts[i + 1] - part.body if i + 1 < len(starts) else None
        if context == OTHER:
            assertion = OTHER
        elif i in written:
            assertion = written[i]
        elif graded and _is_graded(lowered, start - part.body, end - part.body, following):
            assertion = AFFIRMED
        else:
            near = _outside_brackets(found, brackets, matches, start)
            assertion = _assertion(near, _Place(lowered, part.body, starts, start, end, list_end), context)
        if kind == DENYING and assertion != OTHER:
            assertion = AFFIRMED if assertion in _ABSENT else NEGATED
        mentions += [Mention(concept, assertion, start, end) for concept in concepts]
    return mentions


def _is_graded(lowered: str, start: int, end: int, following: int | None) -> bool:
    """Whether a grade such as "2+" is of the mention from ``start`` to ``end``, and not of the next."""
    if _GRADE_BEFORE.search(lowered, 0, start):
        return True
    grade = _GRADED.match(lowered, end)
    return grade is not None and not (following and _GRADE_OF.fullmatch(lowered, grade.end(), following))


def _with_signs_read(cues: list[_Cue], text: str, matches: Sequence[Match]) -> list[_Cue]:
    """A sentence that starts with "(-)" or "(+)" has its signs before the symptoms; any other has them after.

    Each answer such as ": no" is of the symptom before it, or else of those after it.
    """
    signs = [cue for cue in cues if cue.kind in ("minus", "plus")]
    minus = "pre_negation" if signs and signs[0].start < matches[0][0] else "post_negation"
    read = []
    for cue in cues:
        kind = minus if cue.kind == "minus" else cue.kind
        if cue.kind == "minus" and text[max(0, cue.start - 2) : cue.start].rstrip().endswith(":"):
            kind = "pre_negation"  # "Resp:SOB; GI:-n/v": the first after its header
        if kind == "sign_after" and _denies_what_follows(cue, cues, text, matches):
            kind = "pre_negation"
        read.append(_Cue(kind, cue.start, cue.end))
    return read


def _with_effects_read(found: Sequence[_Cue], lowered: str, offset: int, cues: Cues) -> list[_Cue]:
    """With those of drugs read as of what may come: "codeine causes nausea", not "exertion causes dyspnea"."""
    read = []
    for cue in found:
        if cue.kind != "effect":
            read.append(cue)
        elif cues.allergen_before.search(lowered[max(0, cue.start - offset - _GAP) : cue.start - offset]):
            read.append(_Cue("pre_hypothetical", cue.start, cue.end))
    return read


def _with_resolved_read(cues: Sequence[_Cue], lowered: str, starts: Sequence[int], offset: int) -> list[_Cue]:
    """With the "resolved" that belongs to the symptom after it: "cough and resolved fever"."""
    read = []
    for cue in cues:
        following = min((start for start in starts if start >= cue.end - offset), default=0)
        belongs = cue.kind == "post_resolved" and _RESOLVED_THING.search(lowered, 0, following)
        read.append(_Cue("near_resolved", cue.start, cue.end) if belongs else cue)
    return read


def _denies_what_follows(answer: _Cue, cues: Sequence[_Cue], text: str, matches: Sequence[Match]) -> bool:
    """Whether an answer has a header before it, as in "CV: no pain; Ext: no edema", and not a symptom."""
    last = max((match for match in matches if match[0] < answer.start), default=None)
    if last is None:
        return True
    if text[answer.start] not in ":?" or last[1] >= answer.start:
        return False
    stop = max((cue.start for cue in cues if cue.kind == "stop" and cue.start < answer.start), default=-1)
    return last[0] < stop or any(answer.end <= match[0] <= answer.end + 1 for match in matches)


def _list_ends(text: str, matches: Sequence[Match]) -> list[int]:
    """Where the list ends that each mention stands in, so that what follows "fever, chills and cough" is of all."""
    ends = [end for _, end, _, _ in matches]
    for i in reversed(range(len(matches) - 1)):
        if _LISTED.fullmatch(text, matches[i][1], matches[i + 1][0]):
            ends[i] = ends[i + 1]
    return ends


def _outside_brackets(
    cues: Sequence[_Cue], brackets: Sequence[tuple[int, int]], matches: Sequence[Match], start: int
) -> Sequence[_Cue]:
    """The cues without those in brackets that the mention is not in: "well (no cough) when swelling began"."""
    closed = [bracket for bracket in brackets if not bracket[0] <= start < bracket[1]]
    if not closed:
        return cues
    ends = {match[1] for match in matches}
    return [cue for cue in cues if not any(_is_inside(cue, a, b, start, ends) for a, b in closed)]


def _is_inside(cue: _Cue, opening: int, closing: int, start: int, ends: Collection[int]) -> bool:
    """Whether a bracket keeps a cue from the mention at ``start``, as it does where it holds more than the cue.

    "(denies)" is an answer to what stands before it, and so of nothing after it if that is a symptom.
    """
    if not opening < cue.start < closing - 1:
        return False
    answered = opening in ends or opening - 1 in ends
    return closing - opening - 2 > cue.end - cue.start or (answered and start >= closing)


@dataclass(frozen=True, slots=True)
class _Place:
    """A mention in its sentence.

    Attributes:
        lowered: the sentence in lower case.
        offset: where it begins in the text; the places below are of the text.
        starts: where the mentions of the sentence begin.
        start: where this one begins.
        end: where it ends.
        list_end: where the list ends that the mention is in.
    """

    lowered: str
    offset: int
    starts: Sequence[int]
    start: int
    end: int
    list_end: int

    def between(self, cue: _Cue) -> str:
        """What stands between a cue and the mention."""
        return self.lowered[cue.end - self.offset : self.start - self.offset]

    @property
    def is_present(self) -> bool:
        """Whether what stands before the mention says that it is there now."""
        until = self.start - self.offset
        return bool(_CHRONIC.search(self.lowered, 0, until) or _PRESENT.search(self.lowered, 0, until))

    @property
    def lasts(self) -> bool:
        return _LASTING.match(self.lowered, self.list_end - self.offset) is not None

    def is_past(self, cue: _Cue) -> bool:
        """Whether a cue of the past before the mention is of it."""
        if self.lasts or _STILL_THERE.search(self.between(cue)):
            return False
        words = self.lowered[cue.start - self.offset : cue.end - self.offset]
        return "," not in self.to_first(cue) or _OF_ONE_THING.fullmatch(words) is None

    def until(self, cue: _Cue) -> str:
        """What stands between the mention and a cue after it."""
        return self.lowered[self.end - self.offset : cue.start - self.offset]

    def to_first(self, cue: _Cue) -> str:
        """What stands between a cue and the first mention after it."""
        first = next(start for start in self.starts if start >= cue.end)
        return self.lowered[cue.end - self.offset : first - self.offset]


def _assertion(cues: Sequence[_Cue], place: _Place, context: str | None) -> str:
    """Walk back from the mention to the cue that governs it, then forward; where none does, the section decides."""
    start, end = place.start, place.end
    verdict: str | None = None
    bounded = apart = passed_comma = answered = False
    for cue in reversed([cue for cue in cues if cue.end <= start]):
        if cue.kind in ("termination", "plus", "stop"):
            bounded = True
            break
        if cue.kind == "pseudo_negation":
            if passed_comma and place.lowered.startswith(_DENIED_CHANGE, cue.start - place.offset):
                return NEGATED  # "no change in vision, headache": the change is not of the headache
            verdict = verdict or AFFIRMED
            break
        if cue.kind in ("pre_negation", "sign_before", "contracted"):
            verdict = RESOLVED if verdict == RESOLVED else NEGATED
        elif cue.kind == "near_resolved":  # "resolved fever, cough": the cough is no part of it
            if "," not in place.between(cue):
                verdict = NEGATED if verdict == NEGATED else RESOLVED
        elif cue.kind == "pre_resolved":
            verdict = NEGATED if verdict == NEGATED else RESOLVED
        elif cue.kind == "near_negation":
            between = place.to_first(cue)
            if len(between.split()) <= _NEAR and "," not in between and " and " not in between:
                verdict = NEGATED
        elif cue.kind == "comma":
            apart, passed_comma = verdict in _ABSENT, True
        elif cue.kind in ("pre_family", "post_family"):
            return OTHER
        elif cue.kind in ("post_negation", "post_resolved"):
            answered = True  # "tests for flu were negative, cough": the test was not for the cough
        elif cue.kind == "pre_hypothetical" and not apart and not answered:  # not "check for leakage, and no bleeding"
            return HYPOTHETICAL
        elif cue.kind == "query" and not _BEYOND.search(place.between(cue)):
            verdict = verdict or UNCERTAIN
            if place.lowered.startswith("?", cue.start - place.offset):
                break
        elif cue.kind == "pre_uncertain":
            verdict = verdict or UNCERTAIN
        elif cue.kind == "pre_historical" and place.is_past(cue):
            verdict = verdict or HISTORICAL
    if verdict is not None and verdict in _ABSENT:
        return verdict
    found = _after(cues, end, place.list_end) or verdict or (HISTORICAL if _in_the_past(cues, place) else None)
    if found is None and bounded and context in _ABSENT:
        return AFFIRMED  # a denying header is of what follows it at once
    if found is None and context == HISTORICAL and place.is_present:
        return AFFIRMED
    return found or context or AFFIRMED


def _in_the_past(cues: Sequence[_Cue], place: _Place) -> bool:
    """Whether the statement that holds a mention names a time in the past, and not in a clause of its own."""
    stops = [cue.start for cue in cues if cue.kind == "stop"]
    first = max((stop for stop in stops if stop < place.start), default=-1)
    last = min((stop for stop in stops if stop >= place.end), default=None)
    return any(
        cue.kind == "past_time"
        and cue.start > first
        and (last is None or cue.start < last)
        and not (_NOW.search(place.between(cue)) if cue.start < place.start else _SINCE_DONE.search(place.until(cue)))
        for cue in cues
    )


def _after(cues: Sequence[_Cue], end: int, list_end: int) -> str | None:
    """What the cues after a mention say of it."""
    milder: str | None = None
    apart = False
    for cue in cues:
        if cue.kind == "near_post_negation" and cue.start >= end and not apart:
            return NEGATED
        apart = apart or (cue.kind == "comma" and cue.start >= end)
        # "pain level 0" begins in its mention
        if cue.end <= list_end or (cue.start < list_end and cue.kind != "sign_after"):
            continue
        if cue.kind in (
            "termination",
            "plus",
            "stop",
            "pre_negation",
            "pre_resolved",
            "pre_family",
            "pre_hypothetical",
        ):
            break
        if cue.kind in ("post_resolved", "resolved_after"):
            return RESOLVED
        if cue.kind in ("post_negation", "sign_after"):
            return NEGATED
        if cue.kind == "post_hypothetical":
            return HYPOTHETICAL
        if cue.kind == "post_family":
            return OTHER
        if cue.kind == "post_uncertain":
            milder = milder or UNCERTAIN
    return milder
