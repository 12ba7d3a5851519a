"""A note's text as the rules read it: wrapped lines joined, blanks single, marks in ASCII, with a way back."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

_RUN = re.compile(r"(\s(?:\s+|(?<! )))")
"""All but single blanks; begins with one set of characters, so that the search skips over all others."""
_MARKS = str.maketrans({"’": "'", "‘": "'", "–": "-", "—": "-", "∅": "ø", "\u00a0": " "})
_GLUED = re.compile(r"-(?<![^\s\w]-)(?=(?i:no|denies|denied|without|negative|neg)\b)")
"""The hyphen of "Ext-no edema" and of the bullet in "-denies pain"."""
_STATEMENT = re.compile(r"[A-Z\d]|[-+*•]\s?[A-Za-z]|[\[(]")
"""How a line begins that may be a statement of its own."""
_CONTINUES = re.compile(
    r"(?:[,(/&-]|\b(?:and|or|nor|of|for|the|a|an|with|to|in|on|at|by|no|any|her|his))$", re.IGNORECASE
)
_WRAPPED = 60
"""Characters of a note's long lines from which on its lines count as wrapped at a width."""
_LONG_LINES = 20
"""One line in this many may be longer than the width at which the note is wrapped."""


@dataclass(frozen=True, slots=True)
class Squeezed:
    """The text as read, and how its offsets relate to the note's.

    Attributes:
        text: as long as the note less what was taken out; a line break in it ends a statement.
        lowered: the same in lower case, as long as ``text``.
        _cuts: places in ``text`` before which something was taken out, and ``_origins``, the same in the note.
    """

    text: str
    lowered: str
    _cuts: Sequence[int]
    _origins: Sequence[int]

    def place_in_note(self, offset: int) -> int:
        """The note's offset of a character."""
        i = bisect_right(self._cuts, offset)
        return offset + self._origins[i - 1] - self._cuts[i - 1] if i else offset

    def place_of(self, offset: int) -> int:
        """The offset in ``text`` of one in the note; of what was taken out, that of what follows."""
        i = bisect_right(self._origins, offset)
        place = offset - (self._origins[i - 1] - self._cuts[i - 1] if i else 0)
        return min(place, self._cuts[i]) if i < len(self._cuts) else place


def squeeze(note: str) -> Squeezed:
    """Join wrapped lines and blanks, and write marks in ASCII."""
    text = note if note.isascii() else note.translate(_MARKS)
    if "-" in text:
        text = _GLUED.sub("•", text)
    ends_statement = _Lines(text) if "\n" in text else None
    parts = _RUN.split(text)  # what stays, and at odd places the blanks between
    cuts: list[int] = []
    origins: list[int] = []
    start = length = 0
    for i in range(1, len(parts), 2):
        kept, blanks = len(parts[i - 1]), parts[i]
        start += kept
        length += kept + 1
        end = start + len(blanks)
        breaks = blanks != "  " and "\n" in blanks and ends_statement and ends_statement(start, end)
        parts[i] = "\n" if breaks else " "
        if end - start > 1:
            cuts.append(length)
            origins.append(end)
        start = end
    text = "".join(parts)
    lowered = text.lower()
    if len(lowered) != len(text):  # a few capitals have a longer lower case
        lowered = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    return Squeezed(text, lowered, cuts, origins)


class _Lines:
    """Tells a line break that ends a statement from one that wraps it: the next word would have fit there."""

    def __init__(self, text: str) -> None:
        self._text = text
        lengths = sorted(len(line.rstrip()) for line in text.split("\n"))
        self._width = lengths[-max(1, len(lengths) // _LONG_LINES)]

    def __call__(self, start: int, end: int) -> bool:
        """Whether the blanks from ``start`` to ``end``, with a line break in them, end a statement."""
        text = self._text
        if text.count("\n", start, end) > 1:
            return True
        if not _STATEMENT.match(text, end) or _CONTINUES.search(text, max(0, start - 8), start):
            return False
        if self._width < _WRAPPED:
            return True
        word = re.match(r"\S*", text[end : end + 40])
        assert word is not None
        line = start - (text.rfind("\n", 0, start) + 1)
        return line + 1 + len(word[0]) <= self._width
