"""What a model's files of weights hold, read from their headers before anything is built."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import PreTrainedConfig

from trainables.parts.model import encoder

_TIMES = 4
"""A model this much larger than its weights is not built to say how they differ: it may not fit into memory."""
_SMALL = 1_000_000
"""Numbers that any machine holds."""
_NO_WEIGHTS = ("position_ids", "token_type_ids")
"""Ends of the names of tensors that hold whole numbers, and are not trained."""


@dataclass(frozen=True)
class Stored:
    """A tensor's shape, and the type of its numbers as its file names it."""

    shape: tuple[int, ...]
    dtype: str


def stored_tensors(file: Path) -> Mapping[str, Stored]:
    """By name, the tensors of a file of weights, or of all that an index names.

    Raises:
        Exception: whatever a damaged or incomplete file raises, by its format.
    """
    if file.suffix == ".json":
        parts = sorted(set(json.loads(file.read_bytes())["weight_map"].values()))
        return {name: tensor for part in parts for name, tensor in stored_tensors(file.with_name(part)).items()}
    if file.suffix == ".safetensors":
        return dict(_of_safetensors(file))
    state = torch.load(file, map_location="meta", weights_only=True)
    return {name: Stored(tuple(tensor.shape), str(tensor.dtype)) for name, tensor in state.items()}


def _of_safetensors(file: Path) -> Iterator[tuple[str, Stored]]:
    with safe_open(file, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - it is no mapping
            part = tensors.get_slice(name)
            yield name, Stored(tuple(part.get_shape()), part.get_dtype())


def no_encoder(tensors: Mapping[str, Stored], config: PreTrainedConfig) -> str | None:
    """Why these tensors are not those of the model that a configuration describes, as far as it shows at once."""
    held = sum(math.prod(tensor.shape) for tensor in tensors.values())
    described = _least_size(config)
    if described > _TIMES * held + _SMALL:
        return f"it describes at least {described:,} numbers, they hold {held:,}"
    for name, tensor in tensors.items():
        is_real = tensor.dtype.removeprefix("torch.").startswith(("F", "BF", "float", "bfloat"))
        if not is_real and not name.endswith(_NO_WEIGHTS):
            return f"{name} holds {tensor.dtype}, and not floating-point numbers"
    return None


def _least_size(config: PreTrainedConfig) -> int:
    """Numbers in the embeddings and in the matrices of all layers."""
    width, neurons = config.hidden_size, getattr(config, encoder.layer_names(config).neurons_option)
    rows = config.vocab_size + config.max_position_embeddings
    layer = 4 * width * width + 2 * width * neurons
    return int(config.num_hidden_layers * layer + rows * getattr(config, "embedding_size", width))
