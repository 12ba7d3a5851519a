"""Export a trial's model as a self-contained folder: ONNX, Hugging Face form, tokenizer, card, figures."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from analysis.evaluation.costs import read_costs
from analysis.evaluation.evaluate import evaluate_trials, measure_missing_costs, read_evaluation
from analysis.evaluation.onnx_graphs import (
    agreement,
    check_kept,
    deployed_folder,
    has_graph,
    onnx_file,
    read_own_card,
    scale_of,
)
from analysis.evaluation.predictions import TRAIN, VALIDATION
from analysis.models.model_card import DeployedFacts, ExportRecord, PyTorchForm, model_card
from clinical_notes.known_tokens import KnownTokens
from clinical_notes.run_examples import input_settings, tokenised_examples
from run_folder.errors import InputError, Problem
from run_folder.lock import held, staged_next_to
from run_folder.names import MODEL
from run_folder.records import from_plain, to_plain
from run_folder.results import Runtime
from run_folder.run import Run
from trainables.parts.deployed import ONNX_FILE, Card, check_files, sha256
from trainables.parts.int8.onnx_export import scale_graph
from trainables.parts.model import stored

FORMAT = 1
"""Version of the layout of an exported folder."""
LOADED_FILES = (
    ONNX_FILE,
    stored.CONFIG_FILE,
    stored.WEIGHTS_FILE,
    stored.OWN_WEIGHTS_FILE,
    "pytorch_model.bin",
    "input.json",
    "known_tokens.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
"""What a loader may read from a folder; any other file that was put there does no harm."""
METRICS_FILE, INPUT_FILE, CARD = "metrics.json", "input.json", "README.md"
KNOWN_TOKENS_FILE = "known_tokens.json"
_EMPTY_WHERE_NONE = ("agreement", "cost", "gpu_cost")
"""Fields that the file shows as an empty object where they are None."""


@dataclass(frozen=True, kw_only=True)
class ExportedModelFacts:
    """What loading needs to know of the model.

    Attributes:
        thresholds: by symptom; None where it names exactly one.
    """

    runtime: Runtime
    thresholds: Mapping[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class ExportHeader:
    """What loading an exported folder reads from its ``metrics.json``; see ``ExportRecord`` for all of it.

    Attributes:
        settings: of the run.
        sha256: by file of the folder.
    """

    format: int
    model: ExportedModelFacts
    settings: Mapping[str, Any]
    sha256: Mapping[str, str]


def export(run: Run, name: str, to: Path) -> None:
    """Write the trial's model to a new folder, whole or not at all.

    Its test figures are computed if they have not been; nothing is chosen by them.

    Raises:
        InputError: the folder exists, the model was not kept, is damaged, or is of another version, or a file that the
            run was created with is not as it was.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InputError(Problem("to", f"{to} exists and is not an empty folder", "name a new one"))
    run.check_files()
    check_kept(run, [name])
    deployed = deployed_folder(run, name)
    card = read_own_card(run, name, deployed)
    evaluate_trials(run, [name])
    measure_missing_costs(run, name)
    staged = staged_next_to(to)
    try:
        staged.mkdir(parents=True)
    except OSError as error:
        message = f"{to} cannot be made ({type(error).__name__})"
        raise InputError(Problem("to", message, "name another folder")) from None
    try:
        with held(staged):
            _fill(run, name, staged, deployed, card)
            if to.exists():
                to.rmdir()
            staged.replace(to)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _fill(run: Run, name: str, staged: Path, deployed: Path, card: Card) -> None:
    """Write all files of an exported folder."""
    _copy_model(run, name, staged, deployed, card)
    tokenizer = stored.load_tokenizer(run.folder.local_copy(MODEL))
    tokenizer.model_max_length = run.settings.model.max_length  # what a stock pipeline cuts texts to
    tokenizer.save_pretrained(staged)
    (staged / INPUT_FILE).write_text(json.dumps(input_settings(run).record(), indent=2))
    train, validation = (tokenised_examples(run, split, tokenizer) for split in (TRAIN, VALIDATION))
    known = KnownTokens.of(train, validation, len(tokenizer))
    (staged / KNOWN_TOKENS_FILE).write_text(json.dumps(known.record(), indent=2))
    structure = json.loads((staged / stored.CONFIG_FILE).read_text("utf-8")).get(stored.STRUCTURE_KEY, {})
    record = _record(run, name, structure.get("rows"))
    (staged / CARD).write_text(model_card(record, pytorch_form(staged)), "utf-8")
    record = replace(record, sha256={path.name: sha256(path) for path in sorted(staged.iterdir())})
    (staged / METRICS_FILE).write_text(_record_json(record))


def _copy_model(run: Run, name: str, staged: Path, deployed: Path, card: Card) -> None:
    """The graph and the PyTorch files, each with the model's temperatures in it, so that any program reads them."""
    scale = scale_of(run, name)
    for file in card.sha256:
        if file != ONNX_FILE:
            shutil.copyfile(deployed / file, staged / file)
    if scale is not None and stored.weights_file(staged):
        stored.scale_logits(staged, scale)
    if has_graph(run, name) and scale is not None:
        scale_graph(onnx_file(run, name), staged / ONNX_FILE, scale)
    elif has_graph(run, name):
        shutil.copyfile(onnx_file(run, name), staged / ONNX_FILE)


def pytorch_form(directory: Path) -> PyTorchForm:
    """How a folder's model is loaded by PyTorch: as any Hugging Face model, by ``load_pytorch``, or not at all."""
    forms: dict[str | None, PyTorchForm] = {None: "none", stored.WEIGHTS_FILE: "stock", stored.OWN_WEIGHTS_FILE: "own"}
    return forms[stored.weights_file(directory)]


def check_export(directory: Path) -> ExportHeader:
    """The header of an exported folder whose files are as they were written.

    Raises:
        InputError: it is no export, of another version, or a file is missing or was changed.
    """
    try:
        values = json.loads((directory / METRICS_FILE).read_text("utf-8"))
        written = values["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise InputError(
            f"{directory}: not an exported model (no readable {METRICS_FILE}); make one with export"
        ) from None
    if written != FORMAT:
        raise InputError(f"{directory}: exported by another version (format {written}); use it, or export again")
    header = from_plain(values, ExportHeader, f"{directory}: {METRICS_FILE}")
    unlisted = {name for name in LOADED_FILES if (directory / name).exists()} - {METRICS_FILE, *header.sha256}
    if unlisted or not header.sha256:
        raise InputError(f"{directory}: {METRICS_FILE} does not list {min(unlisted, default='any file')}; export again")
    check_files(directory, header.sha256)
    return header


def load_pytorch(directory: str | Path) -> PreTrainedModel:
    """An exported model for PyTorch, in whatever shape compression left it.

    Raises:
        InputError: the folder is no whole export, or its model exists as an ONNX graph alone.
    """
    path = Path(directory)
    header = check_export(path)
    if pytorch_form(path) == "none" or header.model.runtime == "torchao":
        raise InputError(f"{path}: an INT8 model has no PyTorch form; run its {ONNX_FILE} with ONNX Runtime")
    return stored.load_model(path)


def _record(run: Run, name: str, kept_word_embeddings: int | None) -> ExportRecord:
    """The record without hashes."""
    trial, figures, costs = run.trials[name], read_evaluation(run, name), read_costs(run)
    assert figures is not None
    cost, gpu_cost = costs.cpu.get(name), (costs.gpu or {}).get(name)
    facts = {field.name: getattr(trial.deployed, field.name) for field in fields(DeployedFacts)}
    facts |= {"agreement": None}  # measured again, beside the facts
    return ExportRecord(
        format=FORMAT,
        run=run.folder.name,
        trial=name,
        strategy=trial.strategy,
        hyperparameters=dict(trial.hyperparameters),
        seed=trial.seed,
        base_model=run.settings.model.name,
        data_fingerprint=run.manifest.fingerprint,
        settings=run.settings.record(),
        versions=run.manifest.versions,
        counts=run.manifest.counts,
        patients=run.manifest.patients,
        examples=run.examples_by_split,
        notes=run.manifest.notes,
        model=DeployedFacts(**facts),
        agreement=agreement(run, name),
        cost=cost,
        cost_measured_on=costs.machine if cost else None,
        gpu_cost=gpu_cost,
        gpu_cost_measured_on=costs.gpu_machine,
        validation=trial.deployed.validation,
        test=figures.test,
        kept_word_embeddings=kept_word_embeddings,
        sha256={},
    )


def _record_json(record: ExportRecord) -> str:
    values = to_plain(record)
    return json.dumps(values | {name: values[name] or {} for name in _EMPTY_WHERE_NONE}, indent=2, allow_nan=False)
