"""Single values of a ``config.json``: which are wrong by themselves, and which one a class does not take."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING
from transformers.activations import ACT2FN

from run_folder.errors import first_line, quoted
from trainables.parts.model import encoder

Values = Mapping[str, Any]

_MOST_CLASSES = 10**6
"""Each of them gets a name when a configuration is built."""
_OF_LABELS = ("num_labels", "id2label", "label2id")
_ATTENTIONS = ("eager", "sdpa")
"""What every processor has, and every exporter takes."""


@dataclass(frozen=True)
class _Rule:
    """Which values a field may have, and how that is said: "hidden_act must be …"."""

    holds: Callable[[Any], bool]
    wanted: str
    fix: str = ""


@dataclass(frozen=True)
class WrongValue:
    """What is wrong with one field, and what to do where restoring the file does not help."""

    message: str
    fix: str = ""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value < 1


def _is_small(value: Any) -> bool:
    """Neither zero nor so large that all else is lost in it."""
    return _is_number(value) and 0 < value <= 1


def _is_index(text: Any) -> bool:
    return _is_whole(text) or (isinstance(text, str) and text.strip().isdecimal())


def _are_names(value: Any) -> bool:
    """Class names by number; only whole numbers as keys, and no lists or objects as names."""
    return isinstance(value, dict) and all(
        _is_index(key) and isinstance(name, str | int | float) for key, name in value.items()
    )


def _are_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_index, value.values()))


def _is_real_type(value: Any) -> bool:
    dtype = getattr(torch, value.removeprefix("torch."), None) if isinstance(value, str) else None
    return isinstance(dtype, torch.dtype) and dtype.is_floating_point


_SHARE = _Rule(_is_share, "a number of at least 0 and below 1")
_SMALL = _Rule(_is_small, "a number above 0 and at most 1")
_ACTIVATION = _Rule(
    lambda value: isinstance(value, str) and value in ACT2FN,
    f"the name of an activation ({', '.join(name for name in ACT2FN if '_' not in name)})",
)
_REAL_TYPE = _Rule(_is_real_type, "a floating-point type, such as float32")
_NO_QUANTIZATION = _Rule(
    lambda value: False,
    "left out, as only a model that is not quantized can be trained",
    "give the model as it was before it was quantized",
)
_ATTENTION = _Rule(
    lambda value: value in _ATTENTIONS, " or ".join(f'"{name}"' for name in _ATTENTIONS), "write one of them, or none"
)
_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), _SHARE),
    **dict.fromkeys(("dropout", "attention_dropout", "seq_classif_dropout", "qa_dropout"), _SHARE),
    **dict.fromkeys(("layer_norm_eps", "initializer_range"), _SMALL),
    **dict.fromkeys(("hidden_act", "activation"), _ACTIVATION),
}
_RULES_UNLESS_NULL: Mapping[str, _Rule] = {
    **dict.fromkeys(("classifier_dropout", "summary_last_dropout"), _SHARE),
    **dict.fromkeys(("dtype", "torch_dtype"), _REAL_TYPE),
    **dict.fromkeys(("quantization_config", "compression_config"), _NO_QUANTIZATION),
    **dict.fromkeys(("attn_implementation", "_attn_implementation"), _ATTENTION),
    "id2label": _Rule(_are_names, 'an object of numbers and names, such as {"0": "pain"}'),
    "label2id": _Rule(_are_numbers, 'an object of names and numbers, such as {"pain": 0}'),
    "chunk_size_feed_forward": _Rule(lambda value: _is_whole(value) and value >= 0, "a whole number of at least 0"),
    "pruned_heads": _Rule(
        lambda value: value in ({}, []),
        "empty, as a model without some of its heads cannot be read",
        "give the model as it was before its heads were pruned",
    ),
    "torchscript": _Rule(lambda value: value is False, "false or left out"),
    "position_embedding_type": _Rule(
        lambda value: value == "absolute",
        '"absolute", as no other positions can be trained',
        "give a model with absolute positions",
    ),
}


def wrong_value(values: Values) -> WrongValue | None:
    """The first value of a ``config.json`` that no model of a known type can have."""
    classes = values.get("num_labels", 1)
    if not _is_whole(classes) or classes < 1:
        return WrongValue(f"num_labels must be a whole number of at least 1, got {quoted(classes)}")
    if classes > _MOST_CLASSES:
        return WrongValue(f"num_labels must be at most {_MOST_CLASSES}, got {quoted(classes)}")
    cls = CONFIG_MAPPING[values["model_type"]]
    for name, value in values.items():
        rule = _RULES.get(name) or (None if value is None else _RULES_UNLESS_NULL.get(name))
        if rule is not None and not rule.holds(value):
            return WrongValue(f"{name} must be {rule.wanted}, got {quoted(value)}", rule.fix)
        if isinstance(value, float) and not math.isfinite(value):
            return WrongValue(f"{name} must be a finite number, got {value}")
        if callable(getattr(cls, name, None)):  # it would hide a method of the class
            return WrongValue(f"{name} is no field of a configuration")
    return None


def refused_field(values: Values, error: Exception) -> str:
    """What is wrong where a configuration cannot be built: the first value that its class does not take.

    Args:
        error: what building it raised.
    """
    taken: dict[str, Any] = {"model_type": values["model_type"]}
    for name, value in values.items():
        taken[name] = value
        try:
            encoder.config_from(taken)
        except Exception as reason:  # a value of the wrong kind raises anything
            return f"{name} {_wanted(taken, name, reason)}, got {quoted(value)}"
    return first_line(error)


def _wanted(values: Values, name: str, error: Exception) -> str:
    fields = getattr(CONFIG_MAPPING[values["model_type"]], "__dataclass_fields__", {})
    if not isinstance(error, StrictDataclassError) or name not in fields:
        return f"cannot be used ({_reason(error)})"
    kinds = get_args(fields[name].type) or (fields[name].type,)
    words = dict.fromkeys(_KINDS.get(kind, "") for kind in kinds)
    return f"must be {' or '.join(filter(None, words))}" if all(words) else f"cannot be used ({_reason(error)})"


def _reason(error: Exception) -> str:
    """What is wrong: the last line where the first only names the check."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].partition(": ")[2][:160] or first_line(error) if len(lines) > 1 else first_line(error)


_KINDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number with a point",
    bool: "true or false",
    str: "a text",
    type(None): "null",
    list[int]: "a list of whole numbers",
    list[str]: "a list of texts",
}


def unbuilt_field(values: Values, error: Exception) -> str:
    """What is wrong where no model can be built of a configuration: the value without which one can.

    Args:
        error: what building it raised.
    """
    for name, value in values.items():
        if name != "model_type" and _is_built(without(values, [name])):
            return f"{name} cannot be used ({first_line(error)}), got {quoted(value)}"
    return f"no model can be built of it ({first_line(error)})"


def without(values: Values, names: Iterable[str]) -> dict[str, Any]:
    """The values of all other fields."""
    left_out = set(names)
    return {name: value for name, value in values.items() if name not in left_out}


def build_empty(values: Values) -> None:
    """Build a model of these values that takes no memory. Raises: Exception: whatever stops that."""
    config = encoder.config_from(without(values, _OF_LABELS))  # a head is for other classes anyway
    with torch.device("meta"):
        encoder.classifier_class(config)(config)


def _is_built(values: Values) -> bool:
    try:
        build_empty(values)
    except Exception:  # a value of the wrong kind raises anything
        return False
    return True
