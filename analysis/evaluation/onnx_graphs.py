"""The model of a trial as ONNX Runtime runs it: what is evaluated, timed and exported."""

import dataclasses
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from analysis.evaluation.predictions import VALIDATION
from analysis.evaluation.result_files import read_result, result_json
from clinical_notes.batches import TokenisedExamples
from clinical_notes.run_examples import tokenised_examples
from run_folder.errors import InputError
from run_folder.names import DEPLOYED, MODEL, TRIALS
from run_folder.results import Agreement, ModelFacts
from run_folder.run import Run
from trainables.parts.agreement import agreement as measured_agreement
from trainables.parts.calibration import Calibrated, logit_scale
from trainables.parts.deployed import (
    CARD_FILE,
    ONNX_FILE,
    Card,
    OnnxRunner,
    Runner,
    TorchRunner,
    predict,
    read_card,
    sha256,
)
from trainables.parts.int8.onnx_export import export_onnx
from trainables.parts.model import stored
from trainables.parts.open_deployed import load_deployed

ONNX, AGREEMENT_FILE = "onnx", "agreement.json"
"""Folder next to ``deployed`` with the graph of a model that trials run by PyTorch, and how closely the two agree."""

TOLERANCE = 1e-3
"""Largest difference of logits between a PyTorch model and its FP32 graph; what is seen is about 1e-6."""


@dataclass(frozen=True, kw_only=True)
class GraphAgreement(Agreement):
    """How closely a graph follows the PyTorch model that it was made from.

    Attributes:
        sha256: of the graph; a graph with another hash is made again.
    """

    sha256: str | None = None


def check_kept(run: Run, names: Sequence[str]) -> None:
    """Raises: InputError: a trial's model is not on the storage any more."""
    gone = [name for name in names if not run.folder.exists(f"{_deployed(name)}/{CARD_FILE}")]
    lost = [name for name in gone if name in {best.name for best in run.best(run.trials[name].strategy, 1)[:1]}]
    if lost:
        raise InputError(
            f"{run.folder}: {_deployed(lost[0])}, a strategy's best model, is missing or has another name; "
            "restore it from a copy of the run"
        )
    if gone:
        raise InputError(
            f"{run.folder}: the models of {', '.join(gone)} were not kept (only the best of each strategy are); "
            "ask for fewer, or keep more in the search"
        )


def deployed_folder(run: Run, name: str) -> Path:
    """A local copy of the trial's deployed model."""
    return run.folder.local_copy(_deployed(name))


def _deployed(name: str) -> str:
    return f"{TRIALS}/{name}/{DEPLOYED}"


def read_own_card(run: Run, name: str, directory: Path) -> Card:
    """The card of a trial's deployed model.

    Raises:
        InputError: as ``read_card``, or the model is not the one that the trial's last event tells of.
    """
    card, told = read_card(directory), run.trials[name].deployed
    as_told = all(getattr(card, fact.name) == getattr(told, fact.name) for fact in dataclasses.fields(ModelFacts))
    if not as_told or card.symptoms != run.symptoms or told.sha256 not in (None, card.sha256):
        raise InputError(f"{directory}: not the model that {name} deployed; restore it from a copy of the run")
    return card


def has_graph(run: Run, name: str) -> bool:
    """Whether ONNX Runtime can run the trial's model; what was quantized for GPUs it cannot."""
    return run.trials[name].deployed.runtime in ("torch", "onnxruntime")


def runnable(run: Run, name: str, threads: int) -> Runner:
    """The trial's model with its temperatures, ready to predict. Raises: InputError, as ``onnx_file``."""
    model, scale = _runner(run, name, threads), scale_of(run, name)
    return model if scale is None else Calibrated(model, scale)


def scale_of(run: Run, name: str) -> NDArray[np.float32] | None:
    """(symptoms,) what the logits of a trial's stored model are multiplied by; None: by nothing."""
    return logit_scale(run.trials[name].deployed.temperatures, run.symptoms)


def _runner(run: Run, name: str, threads: int) -> Runner:
    if has_graph(run, name):
        return OnnxRunner(onnx_file(run, name), threads)
    check_kept(run, [name])
    read_own_card(run, name, deployed_folder(run, name))
    return load_deployed(deployed_folder(run, name), threads, "cuda" if torch.cuda.is_available() else "cpu")


def onnx_file(run: Run, name: str) -> Path:
    """The trial's model as an ONNX graph: as deployed, or made from the deployed model and then kept.

    Its logits are not multiplied by ``scale_of`` yet.

    Raises:
        InputError: the deployed model is missing, damaged or of another version, or its graph computes something else.
    """
    check_kept(run, [name])
    directory = deployed_folder(run, name)
    if read_own_card(run, name, directory).runtime == "onnxruntime":
        return directory / ONNX_FILE
    kept = f"{TRIALS}/{name}/{ONNX}"
    if not _is_whole(run, kept):
        _make_graph(run, name, directory)
    return run.folder.local_copy(kept) / ONNX_FILE


def _is_whole(run: Run, kept: str) -> bool:
    """Whether a graph was made and is as it was then."""
    if not run.folder.exists(f"{kept}/{AGREEMENT_FILE}") or not run.folder.exists(f"{kept}/{ONNX_FILE}"):
        return False
    written = read_result(run, f"{kept}/{AGREEMENT_FILE}", GraphAgreement)
    return written is not None and sha256(run.folder.local_copy(kept) / ONNX_FILE) == written.sha256


def agreement(run: Run, name: str) -> Agreement | None:
    """How closely the trial's graph follows the PyTorch model that it was made from, on validation.

    An INT8 model is compared with the model before its weights were rounded, as its trial found; None where that was
    not measured.
    """
    kept = read_result(run, f"{TRIALS}/{name}/{ONNX}/{AGREEMENT_FILE}", GraphAgreement)
    if kept is None:
        return run.trials[name].deployed.agreement
    return Agreement(max_logit_difference=kept.max_logit_difference, same_predictions=kept.same_predictions)


def _make_graph(run: Run, name: str, deployed: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="symptune-"))
    try:
        staged = scratch / ONNX
        staged.mkdir()
        model = stored.load_model(deployed)
        export_onnx(model, staged / ONNX_FILE)
        validation = tokenised(run, VALIDATION)
        pad = run.manifest.pad_token_id
        torch_logits = predict(TorchRunner(model).logits, validation, pad)
        onnx_logits = predict(OnnxRunner(staged / ONNX_FILE, threads=1).logits, validation, pad)
        found = measured_agreement(torch_logits, onnx_logits, run.settings.labels.task)
        if found.max_logit_difference > TOLERANCE:
            raise InputError(
                f"{name}: its ONNX graph differs from the model by {found.max_logit_difference:.2g} in a logit "
                f"(at most {TOLERANCE}); the versions of torch, onnx and onnxruntime don't fit together"
            )
        written = GraphAgreement(**vars(found), sha256=sha256(staged / ONNX_FILE))
        kept = f"{TRIALS}/{name}/{ONNX}"
        (staged / AGREEMENT_FILE).write_bytes(result_json(run, f"{kept}/{AGREEMENT_FILE}", written))
        run.folder.put_folder(staged, kept)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def tokenised(run: Run, split: str) -> TokenisedExamples:
    """A split's examples as models read them."""
    return tokenised_examples(run, split, stored.load_tokenizer(run.folder.local_copy(MODEL)))
