"""What a model's ``config.json`` says, checked before anything is built from it."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, PreTrainedConfig

from run_folder.errors import InputError, Problem, first_line, quoted
from trainables.parts.model import encoder
from tune_jobs.preparing.config_values import build_empty, refused_field, unbuilt_field, wrong_value

_POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert")
"""Types whose positions are counted from the padding token's id."""

_TYPES_BY_CLASS = {CONFIG_MAPPING[name].__name__.removesuffix("Config"): name for name in encoder.ARCHITECTURES}
_CLASS = re.compile(r"(\w+?)(?:Model|For[A-Z]\w+|LMHeadModel)$")
"""Of a class's name, the part that its type has: ``XLMRobertaForMaskedLM``."""

_LARGEST_SIZE = 10**8
"""Of anything in an encoder: more than memory holds, or than any has."""

_RESTORE = "restore it as save_pretrained wrote it"


def read_config(model: str, path: Path) -> PreTrainedConfig:
    """The configuration in a model's ``config.json``.

    Args:
        model: as the user named it.
        path: of the file.

    Raises:
        InputError: the file is damaged, of a type that is not known, or describes no encoder that can be trained.
    """
    values = _json_object(model, path)
    model_type = values.get("model_type")
    known = ", ".join(encoder.ARCHITECTURES)
    if model_type is None:
        fix = f'add the type that its weights are of, such as "model_type": "bert" (known: {known})'
        raise InputError(Problem("model", f"the config.json of {model} has no model_type", fix))
    if not isinstance(model_type, str) or model_type not in encoder.ARCHITECTURES:
        raise InputError(Problem("model", f"{model} is of type {model_type!r}; known: {known}"))
    if wrong := wrong_value(values):
        raise _wrong(model, wrong.message, wrong.fix)
    try:
        config = encoder.config_from(values)
    except Exception as error:  # a value of the wrong kind raises anything
        raise _wrong(model, refused_field(values, error)) from error
    if named := _other_class(values, config.model_type):
        message = f"model_type is {config.model_type}, but architectures says {named}"
        raise _wrong(model, message, "write the type that its weights are of")
    contradiction = next(_contradictions(config), None)
    if contradiction is not None:
        raise _wrong(model, contradiction)
    return config


def check_built(model: str, path: Path) -> None:
    """Build a model of the configuration in this file, without its numbers, so that no other file is blamed.

    Args:
        model: as the user named it.
        path: of a file that ``read_config`` takes, with sizes that memory holds.

    Raises:
        InputError: there is none.
    """
    values = _json_object(model, path)
    try:
        build_empty(values)
    except Exception as error:  # a value of the wrong kind raises anything
        raise _wrong(model, unbuilt_field(values, error)) from error


def longest_input(config: PreTrainedConfig) -> int:
    """Tokens that the position embeddings are for; RoBERTa's start after the padding index."""
    offset = config.pad_token_id + 1 if counts_from_padding(config) else 0
    return int(config.max_position_embeddings) - offset


def counts_from_padding(config: PreTrainedConfig) -> bool:
    """Whether a token's position depends on which token pads."""
    return config.model_type in _POSITIONS_AFTER_PADDING


def counts_otherwise(config: PreTrainedConfig, positions: torch.Tensor) -> bool:
    """Whether the weights count positions from the padding token, and the configuration's type does not.

    The row of the padding token's own position stays zero then. In all other types every text has the first positions.

    Args:
        positions: (positions, width) the position embeddings.
    """
    rows = {1, config.pad_token_id or 0} & set(range(len(positions)))
    return not counts_from_padding(config) and any(not positions[row].any() for row in rows)


def other_type(model: str, config: PreTrainedConfig) -> InputError:
    """The error where ``counts_otherwise``; the model is named as the user did."""
    message = f"model_type is {config.model_type}, but its weights count positions from the padding token"
    return _wrong(model, message, f"write the type that they are of: {' or '.join(_POSITIONS_AFTER_PADDING)}")


def _other_class(values: Mapping[str, Any], model_type: str) -> str | None:
    """The first class in ``architectures`` if all are of types that number positions otherwise, or have other layers.

    RoBERTa, XLM-R and CamemBERT are one architecture. A class that is not known says nothing.
    """
    named = values.get("architectures")
    if not isinstance(named, list) or not named:
        return None
    own, types = _family(model_type), [_type_of_class(name) for name in named]
    return str(named[0]) if all(found and _family(found) != own for found in types) else None


def _type_of_class(name: Any) -> str | None:
    found = _CLASS.match(name) if isinstance(name, str) else None
    return _TYPES_BY_CLASS.get(found[1]) if found else None


def _family(model_type: str) -> str:
    return _POSITIONS_AFTER_PADDING[0] if model_type in _POSITIONS_AFTER_PADDING else model_type


def _wrong(model: str, message: str, fix: str = "") -> InputError:
    return InputError(Problem("model", f"the config.json of {model} is wrong: {message}", fix or _RESTORE))


def _json_object(model: str, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        message = f"the config.json of {model} cannot be read ({first_line(error)})"
        raise InputError(Problem("model", message, _RESTORE)) from error
    if not isinstance(values, dict):
        raise InputError(Problem("model", f"the config.json of {model} is no JSON object", _RESTORE))
    return values


def _contradictions(config: PreTrainedConfig) -> Iterator[str]:
    """What no encoder can have, the worst first; names are those of the file."""
    neurons = encoder.layer_names(config).neurons_option
    sizes = ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", neurons]
    sizes += ["max_position_embeddings", "type_vocab_size", "embedding_size"]
    for name in sizes:
        size = getattr(config, name, 1)
        if size < 1:
            yield f"{_name_in_file(config, name)} must be at least 1, got {size}"
        if size > _LARGEST_SIZE:
            yield f"{_name_in_file(config, name)} must be at most {_LARGEST_SIZE}, got {quoted(size)}"
    hidden, heads = config.hidden_size, config.num_attention_heads
    if hidden % heads:
        names = _name_in_file(config, "hidden_size"), _name_in_file(config, "num_attention_heads")
        yield f"{names[0]} {hidden} is no multiple of {names[1]} {heads}"
    for name in ("is_decoder", "add_cross_attention", "is_encoder_decoder"):
        if getattr(config, name, False):
            yield f"{name} is true, but only an encoder can be trained here"
    yield from _padding_contradictions(config)


def _padding_contradictions(config: PreTrainedConfig) -> Iterator[str]:
    pad = config.pad_token_id
    if pad is None:
        if counts_from_padding(config):
            yield "pad_token_id is missing, from which positions are counted"
        return
    if not isinstance(pad, int) or not 0 <= pad < config.vocab_size:
        yield f"pad_token_id {pad} is not below vocab_size {config.vocab_size}"
    elif longest_input(config) < 1:
        yield f"max_position_embeddings {config.max_position_embeddings} leaves no position for a token"


def _name_in_file(config: PreTrainedConfig, name: str) -> str:
    return config.attribute_map.get(name, name)
