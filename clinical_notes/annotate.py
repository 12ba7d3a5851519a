"""Notes to units of text with their mentions, by as many processes as asked."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from typing import Any

import pandas as pd
import pyarrow as pa

from clinical_notes.clean import clean
from clinical_notes.lexicon import Lexicon
from clinical_notes.mentions import Mention, MentionFinder
from clinical_notes.units import GROUP, UNITS, UnitKind

_ROWS_PER_TASK = 2_000
_IN_FLIGHT_PER_WORKER = 2


@dataclass(frozen=True)
class _Settings:
    unit: UnitKind
    window_chars: int
    raw_window: bool


def annotate_notes(
    chunks: Iterable[pd.DataFrame],
    lexicon: Lexicon,
    *,
    unit: UnitKind,
    window_chars: int = 1000,
    raw_window: bool = False,
    workers: int = 1,
) -> Iterator[pa.Table]:
    """Units that mention a symptom, as tables of ``units.UNITS``; the same for any number of workers.

    Args:
        chunks: frames of note, patient, category, text and groups, as ``read_notes`` gives them.
        unit: ``sentence``: each sentence with a mention; ``note``: the window of each note with a mention in it.
        window_chars: characters of the cleaned note that make its window, cut at a word.
        raw_window: the window is the start of the lower-case note as written, as in the paper author's run.
    """
    settings = _Settings(unit, window_chars, raw_window)
    yield UNITS.empty_table()
    pieces = (
        chunk.iloc[start : start + _ROWS_PER_TASK] for chunk in chunks for start in range(0, len(chunk), _ROWS_PER_TASK)
    )
    first = next(pieces, None)
    if first is None:
        return
    second = next(pieces, None)
    if workers == 1 or second is None:  # a process pool costs more than one piece
        finder = MentionFinder(lexicon)
        for piece in _chain(first, second, pieces):
            yield _annotate(piece, finder, settings)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start, initargs=(lexicon,)) as pool:
        waiting: deque[Future[pa.Table]] = deque()
        for piece in _chain(first, second, pieces):
            waiting.append(pool.submit(_annotate_in_worker, piece, settings))
            if len(waiting) >= workers * _IN_FLIGHT_PER_WORKER:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _chain(first: pd.DataFrame, second: pd.DataFrame | None, others: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    yield first
    if second is not None:
        yield second
    yield from others


_lexicon: Lexicon | None = None


def _start(lexicon: Lexicon) -> None:
    global _lexicon
    _lexicon = lexicon


@lru_cache(maxsize=1)
def _finder() -> MentionFinder:
    assert _lexicon is not None
    return MentionFinder(_lexicon)


def _annotate_in_worker(chunk: pd.DataFrame, settings: _Settings) -> pa.Table:
    return _annotate(chunk, _finder(), settings)


def _annotate(chunk: pd.DataFrame, finder: MentionFinder, settings: _Settings) -> pa.Table:
    rows: list[dict[str, Any]] = []
    grouped_by = [name for name in chunk.columns if name.startswith(GROUP)]
    groups = chunk[grouped_by].to_numpy(dtype=object).tolist()
    for note, patient, category, of_groups, text in zip(
        chunk["note"], chunk["patient"], chunk["category"], groups, chunk["text"], strict=True
    ):
        for sentence, cleaned, mentions in _units(text, finder, settings):
            rows.append(
                {
                    "note": note,
                    "sentence": sentence,
                    "patient": patient,
                    "category": category,
                    "groups": of_groups,
                    "text": cleaned,
                    "mentions": mentions,
                }
            )
    return pa.Table.from_pylist(rows, schema=UNITS)


def _units(text: str, finder: MentionFinder, settings: _Settings) -> Iterator[tuple[int, str, list[dict[str, Any]]]]:
    if settings.unit == "sentence":
        for number, part, mentions in finder.mentioning(text):
            cleaned, carried = _cleaned(text, part.body, part.end, mentions)
            if carried:
                yield number, cleaned, carried
    elif settings.raw_window:
        window = text[: settings.window_chars].lower()
        carried = raw_window_mentions(text, finder, len(window))
        if carried:
            yield 0, window, carried
    else:
        cleaned, carried = note_window(text, finder, settings.window_chars)
        if carried:
            yield 0, cleaned, carried


def cleaned_sentences(text: str, finder: MentionFinder) -> Iterator[tuple[int, str, list[dict[str, Any]]]]:
    """Index within the note, cleaned text and mentions of every sentence."""
    for number, (part, mentions) in enumerate(finder.by_sentence(text)):
        yield number, *_cleaned(text, part.body, part.end, mentions)


def raw_window_mentions(text: str, finder: MentionFinder, window_chars: int) -> list[dict[str, Any]]:
    """The mentions wholly inside the first characters of the note as written."""
    return [_record(m, m.start, m.end) for m in finder.find(text) if m.end <= window_chars]


def note_window(text: str, finder: MentionFinder, window_chars: int) -> tuple[str, list[dict[str, Any]]]:
    """The cleaned sentences of a note up to the window's end, and the mentions wholly inside."""
    parts: list[str] = []
    kept: list[dict[str, Any]] = []
    length = 0
    for part, mentions in finder.by_sentence(text):
        cleaned, carried = _cleaned(text, part.body, part.end, mentions)
        kept += [m | {"start": m["start"] + length, "end": m["end"] + length} for m in carried]
        if cleaned:
            parts.append(cleaned)
            length += len(cleaned) + 1
        if length > window_chars:
            break
    window = " ".join(parts)
    if len(window) > window_chars:
        window = window[: window_chars + 1].rpartition(" ")[0]
    return window, [m for m in kept if m["end"] <= len(window)]


def _cleaned(text: str, start: int, end: int, mentions: list[Mention]) -> tuple[str, list[dict[str, Any]]]:
    cleaned, places = clean(text, (start, end), [(m.start, m.end) for m in mentions])
    return cleaned, [_record(m, *place) for m, place in zip(mentions, places, strict=True) if place is not None]


def _record(mention: Mention, start: int, end: int) -> dict[str, Any]:
    return {"concept": mention.concept, "assertion": mention.assertion, "start": start, "end": end}
