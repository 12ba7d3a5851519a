"""What a model's ``config.json`` says, checked before anything is built from it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from run_folder.errors import InputError, Problem, first_line, quoted
from trainables.parts.model import encoder

_POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert")
"""Types whose positions are counted from the padding token's id."""

_LARGEST_SIZE = 10**8
"""Of anything in an encoder: more than memory holds, or than any has."""

_MOST_CLASSES = 10**6

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
    classes = values.get("num_labels")
    if isinstance(classes, int | float) and classes > _MOST_CLASSES:  # each of them would get a name
        raise _wrong(model, f"num_labels must be at most {_MOST_CLASSES}, got {quoted(classes)}")
    try:
        config = encoder.config_from(values)
    except StrictDataclassError as error:
        raise _wrong(model, _field_error(error)) from error
    except Exception as error:  # a value of the wrong kind raises anything
        raise _wrong(model, first_line(error)) from error
    contradiction = next(_contradictions(config), None)
    if contradiction is not None:
        raise _wrong(model, contradiction)
    return config


def longest_input(config: PreTrainedConfig) -> int:
    """Tokens that the position embeddings are for; RoBERTa's start after the padding index."""
    offset = config.pad_token_id + 1 if counts_from_padding(config) else 0
    return int(config.max_position_embeddings) - offset


def counts_from_padding(config: PreTrainedConfig) -> bool:
    """Whether a token's position depends on which token pads."""
    return config.model_type in _POSITIONS_AFTER_PADDING


def _wrong(model: str, message: str) -> InputError:
    return InputError(Problem("model", f"the config.json of {model} is wrong: {message}", _RESTORE))


def _json_object(model: str, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        message = f"the config.json of {model} cannot be read ({first_line(error)})"
        raise InputError(Problem("model", message, _RESTORE)) from error
    if not isinstance(values, dict):
        raise InputError(Problem("model", f"the config.json of {model} is no JSON object", _RESTORE))
    return values


def _field_error(error: StrictDataclassError) -> str:
    """The line that says what is wrong with which field; the first only names the field."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].partition(": ")[2][:160] or first_line(error)


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
    activation = getattr(config, "hidden_act", None) or getattr(config, "activation", None)
    if activation not in ACT2FN:
        yield f"there is no activation {activation!r}"
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
