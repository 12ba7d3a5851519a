"""Sentences of a clinical note, and their cleaned text.

Cleaned as the paper says: lower case, without punctuation, de-identification placeholders, headers and timestamps.
Numbers and in-word apostrophes stay; a hyphen separates words.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

Span = tuple[int, int]
_START, _END = itemgetter(0), itemgetter(1)

_MONTH = r"(?:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)[a-z]*"
_REMOVED = re.compile(
    r"\[\*\*.*?\*\*\]"  # placeholder
    r"|\b\d{1,2}:\d{2}(?::\d{2})?(?:\s?[ap]\.?m\b\.?)?"  # time
    r"|\b\d{1,4}[-/]\d{1,2}[-/]\d{1,4}\b"  # date
    r"|\b" + _MONTH + r"\.? \d{1,2}(?:st|nd|rd|th)?,? \d{4}\b",
    re.IGNORECASE | re.DOTALL,
)
_TOKEN = re.compile(r"\d+(?:\.\d+)+|[^\W_]+(?:['’][^\W_]+)?")

_ABBREVIATIONS = frozenset(
    ["dr", "mr", "mrs", "ms", "st", "vs", "pt", "pts", "approx", "no", "dept", "fig", "inc", "jr", "sr", "prof", "etc"]
)
_ABBREVIATION = re.compile(rf"\b(?:{'|'.join(sorted(_ABBREVIATIONS))}|[a-z])$", re.IGNORECASE)
"""An end of a sentence that a full stop does not make: "Dr.", "p.o."."""

_CAPITALS = (
    r"(?=[A-Z]{2})(?!(?:NO|NOT|NONE|NEGATIVE|DENIES|WITH|WITHOUT|HAS|HAD|PATIENT|PT)\b)"
    r"(?:(?!(?:ON|SINCE|LAST|FROM|PRIOR|FOR|IN|SEE|AFTER|BEFORE|DURING|WHICH|WAS|IS)\b)[A-Z]+(?:,? | ?[/&-] ?)){0,3}"
    r"(?:HISTORY|HX|(?:PM|PS|F|S)HX?|HPI|ILLNESS|COMPLAINTS?|CC|ROS|SYSTEMS|ALLERG(?:Y|IES)|REACTIONS|MEDICATIONS?|MEDS"
    r"|EXAM(?:INATION)?|VITALS?|SIGNS|LABS?|DATA|RESULTS|FINDINGS|COURSE|IMPRESSION|ASSESSMENT|PLAN|DIAGNOS[EI]S"
    r"|PROCEDURES?|CONDITION|DISPOSITION|INSTRUCTIONS|PRECAUTIONS|RECOMMENDATIONS)"
    r"(?: (?:ON|AT|OF) [A-Z]+(?: [A-Z]+)?)?"
)
"""A usual section header in capitals, which needs no colon where it has a line for itself."""

# Begins with one set of characters, so that the search skips over all others.
_BREAK = re.compile(
    r"[.!?\s](?:(?<=[.!?])[.!?]*[\"')\]]*(?=\s|$)(?P<stop>)"
    r"|(?<=\n)(?:(?:\s*\n)+\s*|(?=\s*(?:\d{1,2}[.)]|[-*•])\s)|(?=\s*[A-Z][A-Za-z /&'()-]{1,60}:)"
    rf"|(?=[^\S\n]*{_CAPITALS}[^\S\n]*(?:\n|$)))"
    r"|(?<=[^\S\n])\s*\n(?:\s*\n)+\s*"
    r"|(?:(?<=[.!?]\s)|(?<=\s\s))(?=[A-Z][A-Z /&'-]{3,60}:\s))"  # a header in the middle of a line
)
_ANSWER = re.compile(r"(?:no|none|yes|y|n|denie[sd]|negative|positive)\b", re.IGNORECASE)
HEADER = re.compile(r"\s*(?:\d{1,2}[.)]\s+)?(?P<title>[A-Z][A-Za-z0-9 /&'(),-]{1,60}?):(?=\s|$)")
"""A section header at the start of a sentence."""

_CAPITALS_ALONE = re.compile(rf"\s*(?P<title>{_CAPITALS})(?=[^\S\n]*(?:\n|$))")
_ASKS = re.compile(r"(?:^|[^\s\w)\]\"'])\s*$")
"""Before a question mark that stands before what is asked."""
_LIST_MARK = re.compile(r"\s*(?:\d{1,2}[.)]|[-*•])\s+")


class Sentence(NamedTuple):
    """A sentence of a note, as offsets into the note.

    Attributes:
        body: where its text starts, after a header or a list mark.
        header: the header it carries, if any.
    """

    start: int
    body: int
    end: int
    header: str | None


def sentences(text: str) -> Iterator[Sentence]:
    """Sentence bounds: stops, blank lines, list items and headers; a single line break is none."""
    start = 0
    for match in _BREAK.finditer(text):
        if match.lastgroup == "stop" and not _ends_sentence(text, start, match):
            continue
        end = match.end()
        if not text[start:end].isspace():
            yield _sentence(text, start, end)
        start = end
    if text[start:].strip():
        yield _sentence(text, start, len(text))


def _ends_sentence(text: str, start: int, match: re.Match[str]) -> bool:
    mark, end = match.span()
    after = text[end : end + 24].lstrip()
    if text[mark] != ".":
        if text[mark] == "?" and after[:1].isalpha() and _ASKS.search(text[start:mark]):
            return False  # "? seizure", "Indication: ? Seizure"
        return not _ANSWER.match(after)  # "Fever? No."
    if after[:1].islower():
        return False
    before = text[max(start, mark - 12) : mark]
    word = before[before.rfind(" ") + 1 :]
    if word.isalpha() and word.isascii():  # most are
        return len(word) > 1 and word.lower() not in _ABBREVIATIONS
    if before.strip().isdigit() and not text[start:mark].strip(" \n\t0123456789"):
        return False  # the number of a list item
    return not _ABBREVIATION.search(before)


def _sentence(text: str, start: int, end: int) -> Sentence:
    header = HEADER.match(text, start, end) if text.find(":", start, end) != -1 else None
    if header is None:
        header = _CAPITALS_ALONE.match(text, start, end)
    if header is not None:
        return Sentence(start, header.end(), end, header["title"].strip())
    mark = _LIST_MARK.match(text, start, end)
    return Sentence(start, mark.end() if mark else start, end, None)


def clean(text: str, span: Span, marks: Sequence[Span] = ()) -> tuple[str, list[Span | None]]:
    """Clean ``text[span]`` and carry these spans of ``text`` over into the cleaned text.

    Returns: the cleaned text, and each mark's offsets in it (None where nothing of it is left).
    """
    start, end = span
    removed = [match.span() for match in _REMOVED.finditer(text, start, end)]
    tokens = [match.span() for match in _TOKEN.finditer(text, start, end)]
    if removed:
        tokens = _outside(removed, tokens)
    words = [text[first:last].lower() for first, last in tokens]
    return " ".join(words), [_carry(mark, tokens, words) for mark in marks]


def _outside(removed: Sequence[Span], tokens: Iterable[Span]) -> list[Span]:
    """The tokens that begin in none of the removed parts; both are in order."""
    kept = []
    gone = 0
    for token in tokens:
        while gone < len(removed) and removed[gone][1] <= token[0]:
            gone += 1
        if gone == len(removed) or token[0] < removed[gone][0]:
            kept.append(token)
    return kept


def _carry(mark: Span, tokens: Sequence[Span], words: Sequence[str]) -> Span | None:
    """The place in the joined words of a span of the text that the tokens are of."""
    first = bisect_right(tokens, mark[0], key=_END)
    after = bisect_left(tokens, mark[1], lo=first, key=_START)
    if first == after:
        return None
    begin = sum(map(len, words[:first])) + first
    return begin, begin + sum(map(len, words[first:after])) + after - first - 1
