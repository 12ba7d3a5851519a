"""Tokenised examples as flat arrays, and batches of similar length padded to their longest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from run_folder.results import Labels

MASK = "[SYMPTOM]"
"""Replaces a hidden symptom name in an example's text, until the tokenizer's own mask token replaces it."""

_MEGABATCH = 50


@dataclass(frozen=True)
class TokenisedExamples:
    """n examples, laid flat so that Ray's object store hands them out without a copy.

    Attributes:
        ids: (n,) example ids.
        tokens: (sum of lengths,) int32 token ids, special tokens included.
        offsets: (n + 1,) int64; example i is ``tokens[offsets[i]:offsets[i + 1]]``.
        labels: (n,) class indices, or of a multilabel task (n, symptoms).
        notes: (n,) the note that each example is a window of; None where it is a text by itself.
    """

    ids: NDArray[np.str_]
    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    labels: Labels
    notes: NDArray[np.str_] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)


@dataclass(frozen=True)
class TrialData:
    """What a trial may see: training and validation examples, never test.

    Attributes:
        symptoms: class names, by label.
        task: ``multiclass`` or ``multilabel``.
        note_rule: how a note's probability follows from its windows'; see ``LabelSettings``.
        sensitivity: the recall that thresholds of a multilabel task are to reach; None: they are those of largest F1.
        class_weights: (classes,) float32 weights of the loss, or None for equal weights.
        pad_token_id: fills batches.
        unknown_token_id: replaces tokens that a trimmed vocabulary lacks.
    """

    train: TokenisedExamples
    validation: TokenisedExamples
    symptoms: tuple[str, ...]
    class_weights: NDArray[np.float32] | None
    pad_token_id: int
    unknown_token_id: int
    task: str = "multiclass"
    sensitivity: float | None = None
    note_rule: str = "largest"

    @property
    def typical_length(self) -> int:
        """Mean tokens of a training example, special tokens included; costs are counted at this length."""
        return max(1, round(float(self.train.lengths.mean())))

    @property
    def training_tokens(self) -> list[int]:
        """Ids of the tokens that training batches hold, padding included, in order."""
        return np.union1d(self.train.tokens, [self.pad_token_id]).tolist()  # type: ignore[no-any-return]


def tokenise(
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[str],
    texts: Sequence[str],
    labels: Labels | None,
    max_length: int,
) -> TokenisedExamples:
    """Tokens of each text, cut at ``max_length`` (special tokens included); without labels, 0 fills their place."""
    mask = tokenizer.mask_token or tokenizer.unk_token
    prepared = [text.replace(MASK, mask) for text in texts]
    encoded = tokenizer(prepared, truncation=True, max_length=max_length)["input_ids"] if prepared else []
    lengths = np.fromiter((len(tokens) for tokens in encoded), np.int64, len(encoded))
    return TokenisedExamples(
        ids=np.asarray(ids, dtype=np.str_),
        tokens=np.fromiter((token for tokens in encoded for token in tokens), np.int32, int(lengths.sum())),
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        labels=np.zeros(len(ids), np.int64) if labels is None else labels,
    )


def shuffled_batches(
    examples: TokenisedExamples, batch_size: int, generator: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Random batches whose members have similar lengths, in random order.

    A random permutation is cut into pieces of 50 batches, each piece sorted by length, so that padding is rare
    and the composition of batches still changes from epoch to epoch.
    """
    order = generator.permutation(len(examples))
    lengths = examples.lengths
    piece = batch_size * _MEGABATCH
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), piece):
        chunk = order[start : start + piece]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def sorted_batches(examples: TokenisedExamples, batch_size: int) -> Iterator[NDArray[np.int64]]:
    """All examples by length, for prediction; always the same batches."""
    order = np.argsort(examples.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def collate(examples: TokenisedExamples, index: NDArray[np.int64], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Tensors of one batch: input_ids and attention_mask (batch, longest), labels (batch,) or (batch, symptoms)."""
    lengths = examples.lengths[index]
    width = int(lengths.max())
    inside = np.arange(width) < lengths[:, None]
    input_ids = np.full((len(index), width), pad_token_id, dtype=np.int64)
    input_ids[inside] = np.concatenate([examples.tokens[examples.offsets[i] : examples.offsets[i + 1]] for i in index])
    return {
        "input_ids": torch.from_numpy(input_ids),
        "attention_mask": torch.from_numpy(inside.astype(np.int64)),
        "labels": torch.from_numpy(examples.labels[index]),
    }
