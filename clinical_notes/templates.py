"""What forms and templates say of their symptoms: check boxes, yes and no, signs, left and right.

They are read before the cues, which are of sentences. A symptom whose box or field is empty is neither affirmed nor
denied: it is HYPOTHETICAL.
"""

import re
from collections.abc import Sequence

from clinical_notes.units import AFFIRMED, HYPOTHETICAL, NEGATED

Span = tuple[int, int]

_SHORT_YES, _SHORT_NO = "(?:y|yes|[1-4]\\+|\\+[1-4])", "(?:n|no|none|ø)"
_YES = rf"(?:{_SHORT_YES}|pos|positive|present|trace|mild|moderate|severe)"
_DENIED = "(?:neg|negative|absent|nil|denie[sd])"
_NO = rf"(?:{_SHORT_NO}|(?:all |both )?{_DENIED}|not present)"
_TIME = r"(?:today|now|currently|overnight|at present|this (?:morning|am|week))"
_STOPS = r"\s*(?:[,;.)\]\n]|$)"
_NEXT_FIELD = r"\s*-?\s*[a-z][a-z /]{2,40}"
_ENDED = rf"(?={_STOPS}|{_NEXT_FIELD}[:?(])"
"""After an answer: a stop, the next symptom (where the search ends) or the next field."""
_ANSWER = re.compile(
    r"(?:\s(?:present|reported|noted)(?=\s?[:?]))?(?:"
    rf"\s?[:?=]\s?(?:(?P<yes>{_YES})|{_NO})\)?{_ENDED}"
    rf"|\s?[:=]\s?(?:(?P<plus>\+)|(?P<minus>-))(?={_STOPS}|{_NEXT_FIELD}:\s?[+-])"
    rf"|(?P<dash>\s-\s?)(?:(?P<yes_after_dash>{_YES})|{_NO})(?={_STOPS}|{_NEXT_FIELD}[:?])"
    rf"|\s?[\[(]\s?(?:(?P<yes_in_bracket>{_YES})|{_NO})(?: {_TIME})?(?:\s?[\])]|(?=[,;])){_ENDED}"
    rf"|\s(?:(?P<plain_yes>y|yes)|{_SHORT_NO}|{_DENIED}(?! for\b))\)?{_ENDED}"
    rf"|,?\s(?:all|both) {_DENIED}{_ENDED})"
)
_AFFIRMING = ("yes", "plus", "yes_after_dash", "yes_in_bracket", "plain_yes")
_PLAIN_DENIALS = {"no", "ø", "neg", "negative"}
"""What may stand before a symptom as well as after one."""
_LAST_NO = re.compile(r"\s(?:no|ø|neg|negative)[\s.]*$")
_LAST_SIGNED = re.compile(r":\s?[+-][\s.]*$")
_LAST_DASHED = re.compile(rf"\s-\s?(?:{_YES}|{_NO})[\s.)]*$")
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
_FIELD = re.compile(r"\s?:(?=\s|$)")
_LAST_FIELD = re.compile(r"\s?: ?(?:\n|$)")
_BLANK_FIELD = re.compile(r"\s?:\s")
"""All that stands between a symptom whose field is blank and the symptom of the next field."""
_NOTHING = re.compile(r"(?:absent|none|no|n|negative|neg|0|nil)$")
_NOT = "no(t)"
_SIGN = re.compile(r"(?:^|[\s,;(/•])(?P<sign>[+-])$")
_SIGNS = re.compile(r"(?:^|[\s,;(/])[+-](?=[a-z])")
_JOINED = re.compile(r"\s?/\s?")
_LISTED = re.compile(r"\s?/\s?|,\s?(?:(?:and|or)\s)?|\s(?:and|or|&)\s")
_ALL_DENIED = re.compile(rf"(?:\s?[:,-])?\s(?:all|both) {_DENIED}\b")
_DENIED_AFTER = re.compile(rf"\s{_DENIED}\b")
_LAST_OF_LIST = re.compile(r",?\s(?:and|or|&)\s")


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
        return {i: NEGATED for i, mention in enumerate(mentions) if _not_before(text, start, mention)}
    found: dict[int, str] = {}
    box_first = _boxes_come_first(statement, mentions[0][0] - start)
    signed = len(_SIGNS.findall(statement)) > 1
    for i, mention in enumerate(mentions):
        begin = mentions[i - 1][1] if i else start
        until = mentions[i + 1][0] if i + 1 < len(mentions) else end
        status = (
            (_boxed_answer(text, mention, until) if box_first is not None else None)
            or _box(text, begin, mention, until, box_first)
            or _sides(text, mention, until)
            or (_sign(text, begin, mention) if signed else None)
            or (HYPOTHETICAL if _UNANSWERED.match(text, mention[1], until) else _answer(text, mention, until, end))
            or (_blank(text, mention, mentions[i + 1]) if until < end else None)
            or (_blank_last(text, mention, end) if found.get(i - 1) == HYPOTHETICAL else None)
        )
        if status is not None:
            found[i] = status
    of_list = False
    for i in range(len(mentions) - 2, -1, -1):
        if i in found or i + 1 not in found:
            of_list = False
        elif _JOINED.fullmatch(text, mentions[i][1], mentions[i + 1][0]):  # "Nausea / vomiting: denies" is of both
            found[i] = found[i + 1]
        elif found[i + 1] == NEGATED and (of_list or _denies_list(text, mentions[i], mentions[i + 1])):
            of_list = _LISTED.fullmatch(text, mentions[i][1], mentions[i + 1][0]) is not None
            if of_list:
                found[i] = NEGATED
    return found


def _not_before(text: str, start: int, mention: Span) -> bool:
    """MetaVision writes "No(t)" before each item that is denied; items are apart by commas."""
    item = max(start, *(text.rfind(mark, start, mention[0]) + 1 for mark in ",;:\n"))
    return _NOT in text[item : mention[0]]


def _blank(text: str, mention: Span, following: Span) -> str | None:
    """ "Fever:    Cough: yes": nobody filled in the first field."""
    blank = _BLANK_FIELD.fullmatch(text, mention[1], following[0]) and _FIELD.match(text, following[1])
    return HYPOTHETICAL if blank else None


def _blank_last(text: str, mention: Span, end: int) -> str | None:
    """ "Fever:    Cough:": whether the last field of several is blank, as the one before it is."""
    return HYPOTHETICAL if _LAST_FIELD.match(text, mention[1], end) else None


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
    if answer is None or (until < end and _is_of_next(text, answer, until, end)):
        return None
    return AFFIRMED if any(map(answer.group, _AFFIRMING)) else NEGATED


def _is_of_next(text: str, answer: re.Match[str], until: int, end: int) -> bool:
    """Whether an answer between two symptoms is of the second: "has cough no fever", not "cough no, fever no"."""
    between = text[answer.end() : until]
    if between not in ("", " "):
        return False
    if answer["dash"]:  # "cough - no fever", not "cough - no fever - yes"
        return not _LAST_DASHED.search(text, until, end)
    if answer["plus"] or answer["minus"]:
        return not _LAST_SIGNED.search(text, until, end)
    return between == " " and answer[0].strip() in _PLAIN_DENIALS and not _LAST_NO.search(text, until, end)


def _denies_list(text: str, before: Span, last: Span) -> bool:
    """Whether a denial after the last symptom is of the one before too: "fever and cough negative"."""
    if _ALL_DENIED.match(text, last[1]):
        return True
    return bool(_LAST_OF_LIST.fullmatch(text, before[1], last[0]) and _DENIED_AFTER.match(text, last[1]))
