"""Batches of similar length, and tokenised examples."""

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from clinical_notes.batches import TokenisedExamples, collate, shuffled_batches, sorted_batches, tokenise


def examples_of(lengths: list[int]) -> TokenisedExamples:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.arange(offsets[-1], dtype=np.int32) + 5
    return TokenisedExamples(
        np.array([str(i) for i in range(len(lengths))]), tokens, offsets, np.zeros(len(lengths), int)
    )


def test_an_epoch_has_every_example_once_and_little_padding() -> None:
    generator = np.random.default_rng(0)
    examples = examples_of(list(generator.integers(3, 120, 500)))
    batches = shuffled_batches(examples, 16, np.random.default_rng(1))
    assert sorted(np.concatenate(batches)) == list(range(500))
    padded = sum(examples.lengths[batch].max() * len(batch) for batch in batches)
    assert padded < 1.1 * examples.lengths.sum()
    again = shuffled_batches(examples, 16, np.random.default_rng(2))
    assert {tuple(sorted(batch)) for batch in batches} != {tuple(sorted(batch)) for batch in again}


def test_sorted_batches_cover_all_in_order_of_length() -> None:
    examples = examples_of([5, 3, 9, 4])
    assert [list(batch) for batch in sorted_batches(examples, 3)] == [[1, 3, 0], [2]]


def test_a_batch_is_padded_to_its_longest_only() -> None:
    batch = collate(examples_of([2, 4, 3]), np.array([0, 2]), pad_token_id=1)
    assert batch["input_ids"].tolist() == [[5, 6, 1], [11, 12, 13]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]


def test_the_mask_becomes_the_tokenizers_own() -> None:
    words = {"[UNK]": 0, "[MASK]": 1, "has": 2, "today": 3}
    core = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", mask_token="[MASK]")
    examples = tokenise(tokenizer, ["a"], ["has [SYMPTOM] today"], None, max_length=8)
    assert examples.tokens.tolist() == [2, 1, 3]
