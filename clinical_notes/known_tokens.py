"""Which tokens a model saw in training, so that texts unlike those are known when it reads them."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_notes.batches import TokenisedExamples

_USUAL = 0.99
"""Share of the validation texts that count as like the training texts."""


@dataclass(frozen=True)
class KnownTokens:
    """The tokens of the training texts.

    Attributes:
        seen: (tokens of the vocabulary,) whether a training text has it.
        most_unseen: largest share of unseen tokens in a text that is like the training texts.
    """

    seen: NDArray[np.bool_]
    most_unseen: float

    @classmethod
    def of(cls, train: TokenisedExamples, validation: TokenisedExamples, vocabulary: int) -> "KnownTokens":
        """The tokens of these examples.

        Args:
            vocabulary: number of tokens that the tokenizer has.
        """
        seen = np.zeros(vocabulary, bool)
        seen[train.tokens] = True
        shares = cls(seen, 1.0).unseen(validation) / np.maximum(validation.lengths, 1)
        return cls(seen, float(np.quantile(shares, _USUAL, method="higher")))

    def unseen(self, examples: TokenisedExamples) -> NDArray[np.int64]:
        """(n,) number of each text's tokens that no training text has; special tokens are seen."""
        before = np.append(0, np.cumsum(~self.seen[examples.tokens]))
        return np.asarray(np.diff(before[examples.offsets]))

    def record(self) -> dict[str, Any]:
        """Plain data."""
        packed = base64.b64encode(np.packbits(self.seen).tobytes()).decode()
        return {"tokens": len(self.seen), "seen": packed, "most_unseen": self.most_unseen}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "KnownTokens":
        """Read what ``record`` gave."""
        bits = np.frombuffer(base64.b64decode(record["seen"]), np.uint8)
        return cls(np.unpackbits(bits, count=record["tokens"]).astype(bool), record["most_unseen"])
