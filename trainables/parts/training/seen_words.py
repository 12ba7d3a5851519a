"""Word embeddings of which only the rows of the training texts' tokens are trained; others would only cost time."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel


class SeenWords(nn.Module):
    """Replaces a word embedding during training.

    A token that no training text has gets no gradient, but computing a dense table's gradient, moments and update
    includes its row in every step. Here its row stays as it is, also where the optimizer decays weights.

    Args:
        embedding: the whole table; the trained rows are written to it when the module switches to evaluation.
        tokens: ids in the training batches, without repeats.
    """

    row_of: torch.Tensor
    tokens: torch.Tensor

    def __init__(self, embedding: nn.Embedding, tokens: Sequence[int]) -> None:
        super().__init__()
        device = embedding.weight.device
        ids = torch.tensor(tokens, device=device)
        row_of = torch.zeros(embedding.num_embeddings, dtype=torch.int64, device=device)
        row_of[ids] = torch.arange(len(ids), device=device)
        self.register_buffer("row_of", row_of, persistent=False)
        self.register_buffer("tokens", ids, persistent=False)
        self.rows = nn.Parameter(embedding.weight.detach()[ids])
        self.embedding = embedding.requires_grad_(False)
        padding = embedding.padding_idx
        self._padding_row = int(row_of[padding]) if padding is not None and padding in tokens else None

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        if self.training:
            return functional.embedding(self.row_of[ids], self.rows, padding_idx=self._padding_row)
        outputs: torch.Tensor = self.embedding(ids)
        return outputs

    def train(self, mode: bool = True) -> "SeenWords":
        if not mode:
            self.write_back()
        return super().train(mode)

    @torch.no_grad()
    def write_back(self) -> None:
        """Put the trained rows into the whole table."""
        self.embedding.weight[self.tokens] = self.rows


def train_seen_words(model: nn.Module, tokens: Sequence[int]) -> None:
    """Train only the word embeddings of these token ids, in place; no change where they are frozen or not stock."""
    if not isinstance(model, PreTrainedModel):  # peft's, whose encoder is frozen
        return
    embedding = model.get_input_embeddings()
    if type(embedding) is nn.Embedding and embedding.weight.requires_grad:
        model.set_input_embeddings(SeenWords(embedding, tokens))


def restore_words(model: nn.Module) -> None:
    """Undo ``train_seen_words``; the table then has the trained rows."""
    words = model.get_input_embeddings() if isinstance(model, PreTrainedModel) else None
    if isinstance(model, PreTrainedModel) and isinstance(words, SeenWords):
        words.write_back()
        model.set_input_embeddings(words.embedding.requires_grad_(True))
