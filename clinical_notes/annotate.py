"""Notes to units of text with their mentions, by as many processes as asked."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

import pandas as pd
import pyarrow as pa

from clinical_notes.clean import clean
from clinical_notes.labeller import Labeller, Mention
from clinical_notes.labellers import labeller_of
from clinical_notes.lexicon import Lexicon
from clinical_notes.prevalence import is_whole
from clinical_notes.units import GROUP, UNITS, UnitKind, copy_number
from clinical_notes.windows import WindowMaker

ROWS_PER_TASK = 2_000
_IN_FLIGHT_PER_WORKER = 2


@dataclass(frozen=True)
class Annotator:
    """Makes units of notes, wherever it is sent to.

    Attributes:
        unit: ``sentence``: each sentence with a mention; ``note``: the window of each note with a mention in it, or
            with ``windows`` each of its windows that has one.
        window_chars: characters of the cleaned note that make its window, cut at a word.
        raw_window: the window is the start of the lower-case note as written, as in the paper author's run.
        labeller: what finds and asserts the mentions.
        whole_share: of this share of the patients, sentences or windows without a mention are units as well.
        windows: cuts whole notes.
    """

    lexicon: Lexicon
    unit: UnitKind
    window_chars: int = 1000
    raw_window: bool = False
    labeller: str = "rules"
    whole_share: float = 0.0
    windows: WindowMaker | None = None

    def __call__(self, notes: pd.DataFrame) -> pa.Table:
        """The units that mention a symptom, as a table of ``units.UNITS``.

        Args:
            notes: note, patient, category, text and groups, as ``read_notes`` gives them.
        """
        labeller = labeller_of(self.labeller, self.lexicon)
        rows: list[dict[str, Any]] = []
        grouped_by = [name for name in notes.columns if name.startswith(GROUP)]
        groups = notes[grouped_by].to_numpy(dtype=object).tolist()
        for note, patient, category, of_groups, text in zip(
            notes["note"], notes["patient"], notes["category"], groups, notes["text"], strict=True
        ):
            whole = (self.unit == "sentence" or self.windows is not None) and is_whole(patient, self.whole_share)
            units = list(_units(text, labeller, self, whole=whole))
            copy = copy_number(text) if units else 0
            for sentence, cleaned, mentions in units:
                rows.append(
                    {
                        "note": note,
                        "sentence": sentence,
                        "copy": copy,
                        "patient": patient,
                        "category": category,
                        "groups": of_groups,
                        "text": cleaned,
                        "mentions": [_row(mention) for mention in mentions],
                        "sure": [],
                    }
                )
        return pa.Table.from_pylist(rows, schema=UNITS)


Annotate = Callable[[pd.DataFrame], pa.Table]
"""Makes units of notes, in whichever process; see ``Annotator``."""


def annotate_notes(chunks: Iterable[pd.DataFrame], annotator: Annotate, workers: int = 1) -> Iterator[pa.Table]:
    """Units that mention a symptom, as tables of ``units.UNITS``; the same for any number of workers.

    Args:
        chunks: frames of notes, as ``read_notes`` gives them.
        workers: processes; this one reads meanwhile.
    """
    yield UNITS.empty_table()
    pieces = pieces_of(chunks)
    first = next(pieces, None)
    if first is None:
        return
    second = next(pieces, None)
    if workers == 1 or second is None:  # a process pool costs more than one piece
        for piece in _chain(first, second, pieces):
            yield annotator(piece)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting: deque[Future[pa.Table]] = deque()
        for piece in _chain(first, second, pieces):
            waiting.append(pool.submit(annotator, piece))
            if len(waiting) >= workers * _IN_FLIGHT_PER_WORKER:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def pieces_of(chunks: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Frames of as many notes as one worker gets at a time."""
    return (
        chunk.iloc[start : start + ROWS_PER_TASK] for chunk in chunks for start in range(0, len(chunk), ROWS_PER_TASK)
    )


def _chain(first: pd.DataFrame, second: pd.DataFrame | None, others: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    yield first
    if second is not None:
        yield second
    yield from others


def _units(
    text: str, labeller: Labeller, settings: Annotator, *, whole: bool
) -> Iterator[tuple[int, str, list[Mention]]]:
    if settings.windows is not None:
        for number, (window, carried) in enumerate(settings.windows.windows(note_sentences(text, labeller))):
            if whole or carried:
                yield number, window, carried
    elif settings.unit == "sentence" and whole:
        yield from (
            (number, cleaned, carried) for number, cleaned, carried in cleaned_sentences(text, labeller) if cleaned
        )
    elif settings.unit == "sentence":
        for number, part, mentions in labeller.mentioning(text):
            cleaned, carried = _cleaned(text, part.body, part.end, mentions)
            if carried:
                yield number, cleaned, carried
    elif settings.raw_window:
        window = text[: settings.window_chars].lower()
        carried = raw_window_mentions(text, labeller, len(window))
        if carried:
            yield 0, window, carried
    else:
        cleaned, carried = note_window(text, labeller, settings.window_chars)
        if carried:
            yield 0, cleaned, carried


def _row(mention: Mention) -> dict[str, str | int]:
    """A mention as a row of ``units.MENTION``."""
    return {
        "concept": mention.concept,
        "assertion": mention.assertion,
        "start": mention.start,
        "end": mention.end,
    }


def cleaned_sentences(text: str, labeller: Labeller) -> Iterator[tuple[int, str, list[Mention]]]:
    """Index within the note, cleaned text and mentions of every sentence; offsets into the cleaned text."""
    for number, (part, mentions) in enumerate(labeller.by_sentence(text)):
        yield number, *_cleaned(text, part.body, part.end, mentions)


def note_sentences(text: str, labeller: Labeller) -> Iterator[tuple[str, list[Mention]]]:
    """Cleaned text and mentions of every sentence."""
    return ((cleaned, mentions) for _, cleaned, mentions in cleaned_sentences(text, labeller))


def raw_window_mentions(text: str, labeller: Labeller, window_chars: int) -> list[Mention]:
    """The mentions wholly inside the first characters of the note as written; offsets into it."""
    return [mention for mention in labeller.find(text) if mention.end <= window_chars]


def note_window(text: str, labeller: Labeller, window_chars: int) -> tuple[str, list[Mention]]:
    """The cleaned sentences of a note up to the window's end, and the mentions wholly inside; offsets into them."""
    parts: list[str] = []
    kept: list[Mention] = []
    length = 0
    for part, mentions in labeller.by_sentence(text):
        cleaned, carried = _cleaned(text, part.body, part.end, mentions)
        kept += [replace(m, start=m.start + length, end=m.end + length) for m in carried]
        if cleaned:
            parts.append(cleaned)
            length += len(cleaned) + 1
        if length > window_chars:
            break
    window = " ".join(parts)
    if len(window) > window_chars:
        window = window[: window_chars + 1].rpartition(" ")[0]
    return window, [m for m in kept if m.end <= len(window)]


def _cleaned(text: str, start: int, end: int, mentions: list[Mention]) -> tuple[str, list[Mention]]:
    cleaned, places = clean(text, (start, end), [(m.start, m.end) for m in mentions])
    return cleaned, [
        Mention(mention.concept, mention.assertion, *place)
        for mention, place in zip(mentions, places, strict=True)
        if place is not None
    ]
