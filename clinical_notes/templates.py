"""What forms and templates say of their symptoms: check boxes, yes and no, signs, left and right.

They are read before the cues, which are of sentences. A symptom whose box or field is empty is neither affirmed nor
denied: it is HYPOTHETICAL.
"""

import re
from collections.abc import Sequence

from clinical_notes.units import AFFIRMED, HYPOTHETICAL, NEGATED

Span = tuple[int, int]

_SHORT_YES, _SHORT_NO = "(?:y|yes|[1-4]\\+|\\+[1-4])", "(?:n|no|none)"
_YES = rf"(?:{_SHORT_YES}|pos|positive|present|trace|mild|moderate|severe)"
_NO = rf"(?:{_SHORT_NO}|neg|negative|absent|nil|denie[sd]|not present)"
_ENDED = r"(?=\s*(?:[,;.)\]\n]|$|-?\s*[a-z][a-z /]{2,40}[:?(]))"
_ANSWER = re.compile(
    rf"(?:(?:\s(?:present|reported|noted)(?=\s?:))?(?:\s?[:?=]\s?|\s-\s?|\s?\()(?:(?P<yes>{_YES})|(?P<no>{_NO}))"
    rf"|\s(?:(?P<plain_yes>y|yes)|{_SHORT_NO}))\)?{_ENDED}"
)
_LAST_NO = re.compile(r"\sno[\s.]*$")
_BOX_BEFORE = re.compile(r"(?:[\[(](?P<mark>[ x_]?)[\])]|(?P<sign>[☐☒☑✓]))\s?(?P<words>(?:[\w-]+\s){0,2}?)$")
_DENIAL = re.compile(r"(?:no|not|denies|denied|without)\b")
_BOX_AFTER = re.compile(r"\s?[:?]?\s?(?:[\[(](?P<mark>[ x_]?)[\])]|(?P<sign>[☐☒☑✓]))")
_UNANSWERED = re.compile(
    r"\s?[:=?]?\s?_{2,}|(?:\s?[:=?]\s?|\s-\s|\s\()(?:n/a|y(?:es)?\s?/\s?n(?:o)?|deferred|unknown|unobtainable)(?![a-z/])"
    r"|(?:\s?[:=?]\s?|\s-\s|\s\(|\s)(?:(?:was|were|is) )?(?:not (?:assessed|obtained|done|tested|examined|recorded|"
    r"documented|applicable)|(?:unable|not able) to (?:assess|obtain|determine|evaluate|test|elicit))\b"
)
"""What stands in a field that nobody answered."""
_BOXED = re.compile(
    r"\s?[:?]?(?:\s?[/,]?\s?(?:[\[(][ x_]?[\])]|[☐☒☑✓])\s?(?:y(?:es)?|no?|pos(?:itive)?|neg(?:ative)?)(?![a-z])){2}"
    r"|\s?[:?]?(?:\s?[/,]?\s?(?:y(?:es)?|no?|pos(?:itive)?|neg(?:ative)?)\s?(?:[\[(][ x_]?[\])]|[☐☒☑✓])){2}"
)
"""The two answers of a field, each with a box."""
_TICKED = re.compile(r"(?:\[x\]|\(x\)|[☒☑✓])")
_BOX_ANSWER = re.compile(r"(?P<yes>y(?:es)?|pos\w*)|no?|neg\w*")
_ANY_BOX = re.compile(r"[\[(][ x_]?[\])]|[☐☒☑✓]")
_EMPTY = {"", " ", "_", "☐"}
_GRADE = r"(?:[1-4]\+|\+[1-4]|none|trace|mild|moderate|severe|absent|present|nil|negative|positive|no|yes)(?![a-z])"
_SIDE = re.compile(
    r"(?<![a-z])(?:right|left|r|l)\b(?:[^:,;]{0,25}:\s?(?P<value>[\w+/-]+)"
    rf"| (?:lower |upper )?(?:leg |arm |foot |ankle |side |[lu]e )?(?P<plain>{_GRADE}))"
)
_SIDES = re.compile(rf"\s?:?\s*{_SIDE.pattern}")
_NOTHING = re.compile(r"(?:absent|none|no|n|negative|neg|0|nil)$")
_NOT = "no(t)"
_SIGN = re.compile(r"(?:^|[\s,;(/•])(?P<sign>[+-])$")
_SIGNS = re.compile(r"(?:^|[\s,;(/])[+-](?=[a-z])")
_JOINED = re.compile(r"\s?/\s?")


def read_templates(text: str, mentions: Sequence[Span], start: int, end: int) -> dict[int, str]:
    """The status of the mentions that a template decides, by their place in ``mentions``.

    Args:
        text: lower-case text.
        mentions: offsets of the mentions of a sentence, in order.
        start: offset of the sentence in ``text``.
        end: offset of its end.
    """
    statement = text[start:end]
    if _NOT in statement:
        return {i: _not_before(text, start, mention) for i, mention in enumerate(mentions)}
    found: dict[int, str] = {}
    box_first = _boxes_come_first(statement, mentions[0][0] - start)
    signed = len(_SIGNS.findall(statement)) > 1
    for i, mention in enumerate(mentions):
        begin = mentions[i - 1][1] if i else start
        until = mentions[i + 1][0] if i + 1 < len(mentions) else end
        status = (
            (_boxed_answer(text, mention, until) if box_first is not None else None)
            or _box(text, begin, mention, until, box_first)
            or _sides(text, mention, end)
            or (_sign(text, begin, mention) if signed else None)
            or (HYPOTHETICAL if _UNANSWERED.match(text, mention[1], until) else _answer(text, mention, until, end))
        )
        if status is not None:
            found[i] = status
    for i in range(len(mentions) - 2, -1, -1):  # "Nausea / vomiting: denies" is of both
        joined = _JOINED.fullmatch(text, mentions[i][1], mentions[i + 1][0])
        if joined and i + 1 in found and i not in found:
            found[i] = found[i + 1]
    return found


def _not_before(text: str, start: int, mention: Span) -> str:
    """MetaVision writes "No(t)" before each item that is denied; items are apart by commas."""
    item = max(start, *(text.rfind(mark, start, mention[0]) + 1 for mark in ",;:\n"))
    return NEGATED if _NOT in text[item : mention[0]] else AFFIRMED


def _boxes_come_first(statement: str, first_mention: int) -> bool | None:
    """Whether boxes stand before their symptoms; None where there are none."""
    box = _ANY_BOX.search(statement)
    return None if box is None else box.start() < first_mention


def _boxed_answer(text: str, mention: Span, until: int) -> str | None:
    """ "Fever: [ ] Yes [x] No": the answer that is ticked."""
    boxes = _BOXED.match(text, mention[1], until)
    if boxes is None:
        return None
    ticked = _TICKED.findall(boxes[0])
    if len(ticked) != 1:
        return HYPOTHETICAL
    before, after = boxes[0].split(ticked[0])
    answer = _BOX_ANSWER.search(after) if _ANY_BOX.match(boxes[0].lstrip(" :?")) else _last_answer(before)
    return None if answer is None else AFFIRMED if answer["yes"] else NEGATED


def _last_answer(text: str) -> re.Match[str] | None:
    return max(_BOX_ANSWER.finditer(text), key=lambda answer: answer.start(), default=None)


def _box(text: str, begin: int, mention: Span, until: int, first: bool | None) -> str | None:
    if first is None:
        return None
    box = _BOX_BEFORE.search(text[begin : mention[0]]) if first else _BOX_AFTER.match(text, mention[1], until)
    if box is None:
        return None
    mark = box["sign"] if box["sign"] is not None else box["mark"]
    if mark in _EMPTY:
        return HYPOTHETICAL
    return NEGATED if first and _DENIAL.match(box["words"]) else AFFIRMED  # "[x] denies fever"


def _sides(text: str, mention: Span, end: int) -> str | None:
    """ "Edema: Right: Trace, Left: Absent": present where one side has it."""
    if not _SIDES.match(text, mention[1], end):
        return None
    values = [match["value"] or match["plain"] for match in _SIDE.finditer(text, mention[1], end)]
    return NEGATED if all(map(_NOTHING.match, values)) else AFFIRMED


def _sign(text: str, begin: int, mention: Span) -> str | None:
    sign = _SIGN.search(text[max(begin - 1, 0) : mention[0]])
    return None if sign is None else AFFIRMED if sign["sign"] == "+" else NEGATED


def _answer(text: str, mention: Span, until: int, end: int) -> str | None:
    answer = _ANSWER.match(text, mention[1], until)
    if answer is None or (until < end and _denies_next(text, answer, until, end)):
        return None
    return AFFIRMED if answer["yes"] or answer["plain_yes"] else NEGATED


def _denies_next(text: str, answer: re.Match[str], until: int, end: int) -> bool:
    """Whether a "no" is of the symptom after it: "has cough no fever", not "cough no, fever no"."""
    return answer[0].strip() == "no" and text[answer.end() : until] == " " and not _LAST_NO.search(text, until, end)
