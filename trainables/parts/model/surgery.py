"""Changes to a model's shape that no stock configuration describes, and the plain record that makes them again."""

from collections.abc import Mapping, Sequence
from typing import Any

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
    """A word embedding with rows for the tokens in use alone; every other token reads the unknown token's row.

    Token ids stay those of the whole vocabulary, so that the tokenizer is used as it is.

    Args:
        row_of: (vocabulary,) int32 row of each token id.
        rows: how many there are.
        width: of a row.
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
    """Put a factorised layer, weights not set, in the place of the Linear layer at ``path``."""
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
        unknown: id of the token that stands for all others.
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
    """Remove all attention heads and feed-forward neurons but these, in place.

    Args:
        layer: its Linear modules shrink.
        heads, neurons: indices to keep.
        size: rows per head.
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


def widths(model: PreTrainedModel) -> list[dict[str, int]]:
    """Heads and neurons of each layer as they stand."""
    size = head_size(model.config)
    return [
        {"heads": layer.query.out_features // size, "neurons": layer.feed_forward_in.out_features}
        for layer in layers_of(model)
    ]


def structure_of(model: PreTrainedModel) -> dict[str, Any]:
    """What the model's configuration does not say of its shape; empty for a stock shape.

    Returns: ``widths`` (heads and neurons by layer), ``ranks`` (path of each factorised layer to its rank) and
        ``rows`` (word embeddings that a trimmed vocabulary keeps), each where it applies.
    """
    structure: dict[str, Any] = {}
    neurons = getattr(model.config, layer_names(model.config).neurons_option)
    stock = {"heads": int(model.config.num_attention_heads), "neurons": int(neurons)}
    if any(found != stock for found in widths(model)):
        structure["widths"] = widths(model)
    ranks = {path: module.rank for path, module in model.named_modules() if isinstance(module, FactorisedLinear)}
    if ranks:
        structure["ranks"] = ranks
    embedding = model.get_input_embeddings()
    if isinstance(embedding, TrimmedEmbedding):
        structure["rows"] = embedding.rows.num_embeddings
    return structure


def restructure(model: PreTrainedModel, structure: Mapping[str, Any]) -> None:
    """Give a freshly made model the shape that ``structure_of`` recorded; its weights are to be loaded after."""
    size = head_size(model.config)
    if "widths" in structure:
        for layer, shape in zip(layers_of(model), structure["widths"], strict=True):
            slice_layer(layer, list(range(shape["heads"])), list(range(shape["neurons"])), size)
    for path, rank in structure.get("ranks", {}).items():
        factorise(model, path, rank)
    if "rows" in structure:
        embedding = model.get_input_embeddings()
        assert isinstance(embedding, nn.Embedding)
        row_of = torch.zeros(embedding.num_embeddings, dtype=torch.int32)
        model.set_input_embeddings(TrimmedEmbedding(row_of, structure["rows"], embedding.embedding_dim))
