"""A model of any shape on disk: ``config.json``, and ``model.safetensors`` or, if not stock, our own file."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from run_folder.errors import InputError
from run_folder.records import from_plain, to_plain
from trainables.parts.model.encoder import build_model, classifier_class, config_from, last_linear
from trainables.parts.model.surgery import STOCK, Structure, restructure, structure_of

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
OWN_WEIGHTS_FILE = "symptune.safetensors"
"""Weights file of a model that is not stock; ``from_pretrained`` would draw missing ones at random if it found it."""
STRUCTURE_KEY = "symptune_structure"
"""Key in ``config.json`` of a model whose shape no stock configuration describes."""

_PACKED = "packed"
_MASK, _VALUES = ".packed_mask", ".packed_values"
_WORTH_PACKING = 1 / 16
"""Fraction of zeros above which one bit per weight takes less room than the zeros."""


def save_model(model: PreTrainedModel, directory: Path, *, packed: bool = False) -> None:
    """Write a model; one of stock shape that is not packed reloads by ``from_pretrained``.

    Args:
        packed: zeros take no disk: a tensor with many is written as one bit per weight and its other weights.
    """
    directory.mkdir(parents=True, exist_ok=True)
    save_config(model, directory)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    metadata = {"format": "pt"}
    if packed:
        state, shapes = _pack(state)
        metadata = {_PACKED: json.dumps(shapes)}  # of several keys, safetensors writes the order at random
    stock = not packed and structure_of(model) == STOCK
    save_file(state, directory / (WEIGHTS_FILE if stock else OWN_WEIGHTS_FILE), metadata=metadata)


def weights_file(directory: Path) -> str | None:
    """Name of the file with a stored model's weights; None where there is none."""
    return next((name for name in (WEIGHTS_FILE, OWN_WEIGHTS_FILE) if (directory / name).exists()), None)


def save_config(model: PreTrainedModel, directory: Path) -> None:
    """Write the configuration, and under ``STRUCTURE_KEY`` what it cannot say of the model's shape."""
    model.config.architectures = [type(model).__name__]
    values = model.config.to_dict()
    structure = structure_of(model)
    if structure != STOCK:
        values[STRUCTURE_KEY] = to_plain(structure)
    (directory / CONFIG_FILE).write_text(json.dumps(values, indent=2, sort_keys=True))


def load_model(directory: Path) -> PreTrainedModel:
    """Read what ``save_model`` wrote: stock, pruned, factorised, trimmed or packed."""
    config, structure = _read_config(directory)
    state = _read_state(directory / (weights_file(directory) or WEIGHTS_FILE))
    if structure == STOCK:
        return build_model(config, state)
    model = empty_model(directory)
    model.load_state_dict(state)
    model.eval()
    return model


def empty_model(directory: Path) -> PreTrainedModel:
    """A model of the shape that ``save_config`` wrote; its weights must be loaded afterwards."""
    config, structure = _read_config(directory)
    model = classifier_class(config)(config)
    restructure(model, structure)
    return model


def scale_logits(directory: Path, scale: NDArray[np.floating]) -> None:
    """Have a stored model's last layer multiply its logits, whatever its other tensors are; its files keep their form.

    Args:
        scale: (classes,).
    """
    path = directory / (weights_file(directory) or WEIGHTS_FILE)
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        metadata = file.metadata() or {}
    packed = _PACKED in metadata
    if packed:
        state = _unpack(state, json.loads(metadata[_PACKED]))
    model, by = empty_model(directory), torch.from_numpy(scale)
    last = next(name for name, module in model.named_modules() if module is last_linear(model))
    state[f"{last}.weight"] = state[f"{last}.weight"] * by[:, None]
    state[f"{last}.bias"] = state[f"{last}.bias"] * by
    if packed:
        state, shapes = _pack(state)
        metadata = {_PACKED: json.dumps(shapes)}
    save_file(state, path, metadata)


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """A model's tokenizer; code in its folder is never run. Raises: InputError: it cannot be loaded."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        return tokenizer
    except Exception as error:  # a damaged one raises anything
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise InputError(f"{directory}: its tokenizer cannot be loaded ({reason}); restore it") from error


def _read_config(directory: Path) -> tuple[PreTrainedConfig, Structure]:
    path = directory / CONFIG_FILE
    values = json.loads(path.read_text("utf-8"))
    structure = from_plain(values.pop(STRUCTURE_KEY, {}), Structure, str(path))
    return config_from(values), structure


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        shapes = json.loads((file.metadata() or {}).get(_PACKED, "{}"))
    return _unpack(state, shapes)


def _pack(state: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, list[int]]]:
    """The tensors to write, and the shapes of those that are packed."""
    written: dict[str, torch.Tensor] = {}
    shapes: dict[str, list[int]] = {}
    for name, tensor in state.items():
        kept = tensor != 0
        if not tensor.is_floating_point() or float(kept.float().mean()) > 1 - _WORTH_PACKING:
            written[name] = tensor
            continue
        shapes[name] = list(tensor.shape)
        written[name + _MASK] = torch.from_numpy(np.packbits(kept.numpy()))
        written[name + _VALUES] = tensor[kept]
    return written, shapes


def _unpack(state: dict[str, torch.Tensor], shapes: Mapping[str, list[int]]) -> dict[str, torch.Tensor]:
    for name, shape in shapes.items():
        values = state.pop(name + _VALUES)
        bits = np.unpackbits(state.pop(name + _MASK).numpy(), count=int(np.prod(shape)))
        tensor = torch.zeros(shape, dtype=values.dtype)
        tensor[torch.from_numpy(bits.astype(bool)).view(shape)] = values
        state[name] = tensor
    return state
