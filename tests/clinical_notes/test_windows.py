"""Whole notes cut into windows that a model reads to their ends."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from clinical_notes.annotate import Annotator, note_sentences
from clinical_notes.lexicon import load_lexicon
from clinical_notes.mentions import MentionFinder
from clinical_notes.notes import read_notes
from clinical_notes.windows import WindowMaker, runs

ROOM, STRIDE = 24, 6


@pytest.fixture(scope="module")
def tokenizer(model_folder: Path) -> PreTrainedTokenizerBase:
    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model_folder)
    return found


def texts_of(notes: Path) -> list[str]:
    texts = [text for frame in read_notes(notes) for text in frame["text"]][:40]
    return [*texts, "fever " * 60, "He has " + "very " * 40 + "severe shortness of breath and no fever.", "x" * 300]


def test_a_model_reads_all_of_each_window_and_each_mention_is_in_one(
    notes: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    finder = MentionFinder(load_lexicon())
    maker = WindowMaker(tokenizer, ROOM, STRIDE)
    several = 0
    for text in texts_of(notes):
        sentences = [(sentence, found) for sentence, found in note_sentences(text, finder) if sentence]
        windows = maker.windows(sentences)
        several += len(windows) > 1
        lengths = [len(tokenizer(window)["input_ids"]) for window, _ in windows]
        assert all(length <= ROOM for length, (window, _) in zip(lengths, windows, strict=True) if " " in window)
        named = sorted((m.concept, m.assertion) for _, found in sentences for m in found)
        in_windows = [(m.concept, m.assertion, window[m.start : m.end]) for window, found in windows for m in found]
        assert {pair[:2] for pair in in_windows} == set(named)
        assert len(in_windows) >= len(named)
        forms = {s[m.start : m.end] for s, found in sentences for m in found}
        assert {form for *_, form in in_windows} == forms
        words = " ".join(sentence for sentence, _ in sentences).split()
        assert set(words) == {word for window, _ in windows for word in window.split()}
    assert several > 10


def test_a_long_sentence_is_cut_between_words_and_in_no_mention(tokenizer: PreTrainedTokenizerBase) -> None:
    text = " ".join(f"w{i}" for i in range(9)) + " shortness of breath today and then some more words follow here"
    finder = MentionFinder(load_lexicon())
    sentences = list(note_sentences(text, finder))
    for room in range(8, 40):
        windows = WindowMaker(tokenizer, room, 0).windows(sentences)
        assert " ".join(window for window, _ in windows) == sentences[0][0]
        (found,) = [(window, m) for window, mentions in windows for m in mentions]
        assert found[0][found[1].start : found[1].end] == "shortness of breath"


@pytest.mark.parametrize("seed", range(20))
def test_runs_are_as_long_as_they_can_be_and_overlap_by_whole_parts(seed: int) -> None:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 14, random.integers(1, 40)).tolist()
    room, stride = 20, int(random.integers(0, 10))
    found = list(runs(lengths, room, stride))
    assert found[0][0] == 0
    assert found[-1][1] == len(lengths)
    for (start, end), (following, after) in itertools.pairwise(found):
        assert sum(lengths[start:end]) <= room < sum(lengths[start : end + 1])
        assert start < following <= end < after
        again = sum(lengths[following:end])
        assert again <= stride
        longer = sum(lengths[following - 1 : end])
        assert following - 1 == start or longer > stride or longer + lengths[end] > room


def test_windows_are_units_with_their_mentions_and_silent_ones_of_whole_patients(
    notes: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    frame = next(iter(read_notes(notes)))
    make = WindowMaker(tokenizer, ROOM, STRIDE)
    mentioning, whole = (
        Annotator(load_lexicon(), "note", whole_share=share, windows=make)(frame).to_pandas() for share in (0.0, 1.0)
    )
    assert (mentioning["mentions"].str.len() > 0).all()
    silent = whole[whole["mentions"].str.len() == 0]
    assert len(silent) > 0
    assert len(whole) == len(mentioning) + len(silent)
    numbers = whole.groupby("note")["sentence"].apply(list)
    assert all(of_note == list(range(len(of_note))) for of_note in numbers)
