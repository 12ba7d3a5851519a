"""What finds the mentions of symptoms in a note and tells each one's status."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from clinical_notes.clean import Sentence, sentences


@dataclass(frozen=True, slots=True)
class Mention:
    """One surface form in one place.

    Attributes:
        assertion: one of ``run_folder.settings.STATUSES``.
        start: offset of its first character in the text that it was found in.
        end: offset after its last character.
    """

    concept: str
    assertion: str
    start: int
    end: int


class Labeller(Protocol):
    """Text in, mentions with their status out; a class of its own needs no more than ``find``."""

    def find(self, text: str) -> list[Mention]:
        """Mentions in order."""

    def by_sentence(self, text: str) -> Iterator[tuple[Sentence, list[Mention]]]:
        """Every sentence of a note with its mentions, those in section headers left out."""
        found = self.find(text)
        first = 0
        for part in sentences(text):
            after = first
            while after < len(found) and found[after].start < part.end:
                after += 1
            yield part, [mention for mention in found[first:after] if mention.start >= part.body]
            first = after

    def mentioning(self, text: str) -> Iterator[tuple[int, Sentence, list[Mention]]]:
        """Index, sentence and mentions of the sentences that have any."""
        for number, (part, mentions) in enumerate(self.by_sentence(text)):
            if mentions:
                yield number, part, mentions
