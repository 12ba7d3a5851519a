"""Changes to a model's shape that no stock configuration describes, and the record by which they are made again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from trainables.parts.model.encoder import Layer, head_size, layer_names, layers_of


class FactorisedLinear(nn.Module):
    """A Linear layer of rank r: (in, r) without a bias, then (r, out)."""

    def __init__(self, in_features: int, out_features: int, rank: int) -> None:
        super().__init__()
        self.in_features, self.out_features, self.rank = in_features, out_features, rank
        self.down = nn.Linear(in_features, rank, bias=False)
        self.up = nn.Linear(rank, out_features)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.up(self.down(inputs))
        return outputs


class TrimmedEmbedding(nn.Module):
    """A word embedding with rows for the tokens in use only; every other token reads the unknown token's row.

    Token ids are still those of the whole vocabulary, so that the tokenizer needs no change.

    Args:
        row_of: (vocabulary,) int32 row of each token id.
        rows: number of rows.
        width: numbers per row.
    """

    row_of: torch.Tensor

    def __init__(self, row_of: torch.Tensor, rows: int, width: int) -> None:
        super().__init__()
        self.register_buffer("row_of", row_of)
        self.rows = nn.Embedding(rows, width)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.rows(functional.embedding(ids, self.row_of[:, None]).squeeze(-1))
        return outputs


def factorise(model: nn.Module, path: str, rank: int) -> FactorisedLinear:
    """Replace the Linear layer at ``path`` by a factorised one, whose weights are not set yet."""
    linear = model.get_submodule(path)
    assert isinstance(linear, nn.Linear)
    factorised = FactorisedLinear(linear.in_features, linear.out_features, rank).to(linear.weight.device)
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, factorised)
    return factorised


def trim_vocabulary(model: PreTrainedModel, kept: Sequence[int], unknown: int) -> None:
    """Keep the word embeddings of these token ids, in place.

    Args:
        kept: token ids in use; ``unknown`` is kept too.
        unknown: id of the token as which all others are read.
    """
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    ids = torch.tensor(sorted({*kept, unknown}))
    row_of = torch.full((embedding.num_embeddings,), int((ids == unknown).nonzero()), dtype=torch.int32)
    row_of[ids] = torch.arange(len(ids), dtype=torch.int32)
    trimmed = TrimmedEmbedding(row_of, len(ids), embedding.embedding_dim)
    trimmed.rows.weight.data.copy_(embedding.weight.detach()[ids])
    model.set_input_embeddings(trimmed.to(embedding.weight.device))


def slice_layer(layer: Layer, heads: list[int], neurons: list[int], size: int) -> None:
    """Remove all attention heads and feed-forward neurons except these, in place.

    Args:
        layer: its Linear modules shrink.
        heads, neurons: indices to keep.
        size: rows of a head.
    """
    rows = torch.cat([torch.arange(head * size, (head + 1) * size) for head in heads])
    columns = torch.tensor(neurons)
    for linear in (layer.query, layer.key, layer.value):
        keep_rows(linear, rows)
    keep_columns(layer.attention_output, rows)
    keep_rows(layer.feed_forward_in, columns)
    keep_columns(layer.feed_forward_out, columns)


def keep_rows(linear: nn.Linear, rows: torch.Tensor) -> None:
    """Keep these output features of a Linear layer, in place."""
    linear.weight = nn.Parameter(linear.weight.detach()[rows].clone())
    linear.bias = nn.Parameter(linear.bias.detach()[rows].clone())
    linear.out_features = len(rows)


def keep_columns(linear: nn.Linear, columns: torch.Tensor) -> None:
    """Keep these input features of a Linear layer, in place."""
    linear.weight = nn.Parameter(linear.weight.detach()[:, columns].clone())
    linear.in_features = len(columns)


@dataclass(frozen=True)
class Width:
    """Attention heads and feed-forward neurons of one layer."""

    heads: int
    neurons: int


@dataclass(frozen=True)
class Structure:
    """What a model's configuration does not say of its shape; each field is None where the shape is stock.

    Attributes:
        widths: by layer.
        ranks: of the factorised layers, by path.
        rows: word embeddings that a trimmed vocabulary keeps.
    """

    widths: tuple[Width, ...] | None = None
    ranks: Mapping[str, int] | None = None
    rows: int | None = None


STOCK = Structure()


def widths(model: PreTrainedModel) -> list[Width]:
    """The present width of each layer."""
    size = head_size(model.config)
    return [Width(layer.query.out_features // size, layer.feed_forward_in.out_features) for layer in layers_of(model)]


def structure_of(model: PreTrainedModel) -> Structure:
    """What the model's configuration does not say of its shape; ``STOCK`` where it says all."""
    neurons = getattr(model.config, layer_names(model.config).neurons_option)
    stock = Width(int(model.config.num_attention_heads), int(neurons))
    found = widths(model)
    ranks = {path: module.rank for path, module in model.named_modules() if isinstance(module, FactorisedLinear)}
    embedding = model.get_input_embeddings()
    return Structure(
        widths=tuple(found) if any(width != stock for width in found) else None,
        ranks=ranks or None,
        rows=embedding.rows.num_embeddings if isinstance(embedding, TrimmedEmbedding) else None,
    )


def restructure(model: PreTrainedModel, structure: Structure) -> None:
    """Give a new model of stock shape this shape, in place; its weights must be loaded afterwards."""
    size = head_size(model.config)
    if structure.widths is not None:
        for layer, width in zip(layers_of(model), structure.widths, strict=True):
            slice_layer(layer, list(range(width.heads)), list(range(width.neurons)), size)
    for path, rank in (structure.ranks or {}).items():
        factorise(model, path, rank)
    if structure.rows is not None:
        embedding = model.get_input_embeddings()
        assert isinstance(embedding, nn.Embedding)
        row_of = torch.zeros(embedding.num_embeddings, dtype=torch.int32)
        model.set_input_embeddings(TrimmedEmbedding(row_of, structure.rows, embedding.embedding_dim))
