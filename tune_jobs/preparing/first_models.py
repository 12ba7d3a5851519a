"""Whether every strategy can start from a model: a plain one of its models is built as a trial builds it, and run."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from optuna.storages import InMemoryStorage
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from clinical_notes.batches import TokenisedExamples, TrialData, tokenise
from run_folder.errors import Problem, first_line
from run_folder.folder import Folder
from run_folder.names import DEPLOYED
from run_folder.settings import RunSettings, SearchSettings
from trainables import trainable_class
from trainables.base import Hyperparameters, TrainSettings, TrialConfig, TrialError
from trainables.parts.model import stored
from trainables.parts.model.encoder import EncoderWeights
from trainables.parts.quiet import quiet
from tune_jobs.preparing.pretrained import load_pretrained
from tune_jobs.searching.study import StrategyStudy
from tune_jobs.searching.study_storage import StudyStorage

_CLASSES = ("first", "second")
_TEXTS = ("The patient has pain.", "No fever, no cough.")
_FEWEST_TOKENS = 2
"""Different ones of these texts; a single one is the token of all that is unknown, whether it is called so or not."""
_TOKENS = 16
"""At most, of each text: what depends on the length is checked from the configuration."""


def model_problems(settings: RunSettings) -> list[Problem]:
    """What is wrong with the model asked for, found by loading and running it.

    Args:
        settings: without other problems.

    Raises:
        InputError: its files cannot be read, or do not fit together.
    """
    asked = settings.model
    model, tokenizer = load_pretrained(asked.name, asked.layers, _CLASSES, settings.search.seed)
    try:
        data = _data(tokenizer, min(asked.max_length, _TOKENS))
    except Exception as error:  # a damaged tokenizer raises anything
        reason = f"{type(error).__name__}: {first_line(error)}"
        return [Problem("model", f"the tokenizer of {asked.name} reads no text ({reason})", "save it there again")]
    if len(set(data.train.tokens.tolist()) - set(tokenizer.all_special_ids)) < _FEWEST_TOKENS:
        message = f"the tokenizer of {asked.name} knows no word of plain sentences"
        return [Problem("model", message, "give the tokenizer that the model was trained with")]
    return _problems_of_first_models(settings, model, data)


def _data(tokenizer: PreTrainedTokenizerBase, length: int) -> TrialData:
    examples: TokenisedExamples = tokenise(tokenizer, _TEXTS, _TEXTS, np.arange(len(_TEXTS)), length)
    pad, unknown = tokenizer.pad_token_id, tokenizer.unk_token_id
    return TrialData(examples, examples, _CLASSES, None, pad, unknown if unknown is not None else pad)


def _problems_of_first_models(settings: RunSettings, model: PreTrainedModel, data: TrialData) -> list[Problem]:
    strategies, name = settings.search.strategies, settings.model.name
    encoder = EncoderWeights.of(model)
    untrained = TrainSettings(epochs=0, threads=torch.get_num_threads(), reduce_range=settings.model.reduce_range)
    with quiet(), tempfile.TemporaryDirectory() as teacher:
        if any(trainable_class(strategy).needs_teacher for strategy in strategies):
            try:
                stored.save_model(model, Path(teacher) / DEPLOYED)
            except Exception as error:  # a full disk is an OSError or safetensors' own
                message = f"{tempfile.gettempdir()} takes no copy of {name} ({first_line(error)})"
                return [Problem("model", message, "set TMPDIR to a larger folder")]
        for strategy in strategies:
            started_from = Folder(teacher) if trainable_class(strategy).needs_teacher else None
            config = TrialConfig(_plain_configuration(strategy, settings.search), settings.search.seed, started_from)
            try:
                _run(strategy, config, data, encoder, untrained)
            except Exception as error:
                reason = str(error) if isinstance(error, TrialError) else f"{type(error).__name__}: {first_line(error)}"
                message = f"{strategy} cannot run {name} ({reason})"
                return [Problem("model", message, "give another model")]
    return []


def _plain_configuration(strategy: str, search: SearchSettings) -> Hyperparameters:
    """The paper's, moved into the space: a random one may ask for more than every encoder has."""
    study = StrategyStudy(strategy, StudyStorage(InMemoryStorage()), search.seed, search.space.get(strategy, {}))
    return study.ask()[1]


def _run(strategy: str, config: TrialConfig, data: TrialData, encoder: EncoderWeights, settings: TrainSettings) -> None:
    try:
        trial = trainable_class(strategy)(config, data, encoder, settings)
    except TrialError:  # this configuration has no model; others of the strategy may
        return
    trial.validate()
