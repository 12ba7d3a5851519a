"""Texts unlike those that a model was trained on."""

import json

import numpy as np
import pytest

from clinical_notes.batches import TokenisedExamples
from clinical_notes.known_tokens import KnownTokens

VOCABULARY = 103


def examples(*texts: list[int]) -> TokenisedExamples:
    offsets = np.cumsum([0, *map(len, texts)])
    tokens = np.array([token for text in texts for token in text], np.int32)
    return TokenisedExamples(np.arange(len(texts)).astype(str), tokens, offsets, np.zeros(len(texts), np.int64))


def test_unseen_tokens_are_those_of_no_training_text() -> None:
    known = KnownTokens.of(examples([1, 5, 6, 2], [1, 7, 2]), examples([1, 5, 2], [1, 9, 7, 2]), VOCABULARY)
    assert np.flatnonzero(known.seen).tolist() == [1, 2, 5, 6, 7]
    assert known.most_unseen == pytest.approx(0.25)
    assert known.unseen(examples([1, 8, 9, 2], [1, 2], [1, 102, 6, 2])).tolist() == [2, 0, 1]
    again = KnownTokens.from_record(json.loads(json.dumps(known.record())))
    assert again.most_unseen == known.most_unseen
    np.testing.assert_array_equal(again.seen, known.seen)


def test_nearly_all_validation_texts_are_like_the_training_texts() -> None:
    random = np.random.default_rng(0)
    train = examples(*(random.integers(0, 60, 10).tolist() for _ in range(50)))
    validation = examples(*(random.integers(0, 70, 10).tolist() for _ in range(300)))
    known = KnownTokens.of(train, validation, VOCABULARY)
    assert 0 < (known.unseen(validation) / 10 > known.most_unseen).mean() + 1e-9 <= 0.011
