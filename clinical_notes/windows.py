"""Windows over a whole note: runs of its sentences that a model reads at once."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from clinical_notes.labeller import Mention

Part = tuple[str, list[Mention]]
"""A cleaned text and its mentions, with offsets into it."""

_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class WindowMaker:
    """Cuts notes at sentence bounds, so that a model reads all of each window.

    Attributes:
        max_length: most tokens of a window, special tokens included.
        stride: most tokens of a window's end that the next one begins with again, as whole sentences.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int
    stride: int

    def windows(self, sentences: Iterable[Part]) -> list[Part]:
        """The windows of a note's sentences, in order; a sentence that is too long is cut between words."""
        given = [(text, mentions) for text, mentions in sentences if text]
        pieces: list[Part] = []
        lengths: list[int] = []
        for (text, mentions), length in zip(given, self._lengths([text for text, _ in given]), strict=True):
            parts = [(text, mentions)] if length <= self._room else list(self._cut(text, mentions))
            pieces += parts
            lengths += [length] if len(parts) == 1 else self._lengths([part for part, _ in parts])
        return [_joined(pieces[start:end]) for start, end in runs(lengths, self._room, self.stride)]

    @property
    def _room(self) -> int:
        return self.max_length - self.tokenizer.num_special_tokens_to_add()

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text at the most, whether it begins a window or follows another text."""
        if not texts:
            return []
        both = self.tokenizer([*texts, *(f" {text}" for text in texts)], add_special_tokens=False)["input_ids"]
        return [max(map(len, pair)) for pair in zip(both[: len(texts)], both[len(texts) :], strict=True)]

    def _cut(self, text: str, mentions: Sequence[Mention]) -> Iterator[Part]:
        """Pieces of a text that fit each, cut between words and in no mention."""
        words = [match.span() for match in _WORD.finditer(text)]
        lengths = self._lengths([text[start:end] for start, end in words])
        first = 0
        while first < len(words):
            last, total = first, 0
            while last < len(words) and (last == first or total + lengths[last] <= self._room):
                total += lengths[last]
                last += 1
            last = _before_mention(words, first, last, mentions)
            start, end = words[first][0], words[last - 1][1]
            inside = [m for m in mentions if start <= m.start and m.end <= end]
            yield text[start:end], [replace(m, start=m.start - start, end=m.end - start) for m in inside]
            first = last


def runs(lengths: Sequence[int], room: int, stride: int) -> Iterator[tuple[int, int]]:
    """Starts and ends of runs of parts that fit into ``room``, each as long as possible; one part at least.

    Args:
        lengths: of the parts.
        stride: a run begins with as many of the last parts of the one before as fit into this.
    """
    start = 0
    while start < len(lengths):
        end, total = start, 0
        while end < len(lengths) and (end == start or total + lengths[end] <= room):
            total += lengths[end]
            end += 1
        yield start, end
        if end == len(lengths):
            return
        following, again = end, 0
        while following - 1 > start and again + lengths[following - 1] <= min(stride, room - lengths[end]):
            following -= 1
            again += lengths[following]
        start = following


def _before_mention(words: Sequence[tuple[int, int]], first: int, last: int, mentions: Sequence[Mention]) -> int:
    """The last word's place, or an earlier one where a mention reaches over it; there is one word at least."""
    if last == len(words):
        return last
    at = words[last][0]
    over = [m.start for m in mentions if m.start < at < m.end]
    while over and last - 1 > first and words[last - 1][1] > min(over):
        last -= 1
    return last


def _joined(parts: Sequence[Part]) -> Part:
    """The parts as one text."""
    carried: list[Mention] = []
    at = 0
    for text, mentions in parts:
        carried += [replace(m, start=m.start + at, end=m.end + at) for m in mentions]
        at += len(text) + 1
    return " ".join(text for text, _ in parts), carried
