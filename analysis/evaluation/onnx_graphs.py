"""The model of a trial as ONNX Runtime runs it: what is evaluated, timed and exported."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from clinical_notes.batches import TokenisedExamples
from clinical_notes.run_examples import tokenised_examples
from run_folder.errors import InputError
from run_folder.names import DEPLOYED, MODEL, TRIALS
from run_folder.records import to_plain
from run_folder.run import Run
from trainables.parts.agreement import agreement as measured_agreement
from trainables.parts.deployed import (
    CARD_FILE,
    ONNX_FILE,
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
"""Folder beside ``deployed`` with the graph of a model that trials run by PyTorch, and how closely the two agree."""

TOLERANCE = 1e-3
"""Largest difference of logits between a PyTorch model and its FP32 graph; what is seen is about 1e-6."""


def check_kept(run: Run, names: Sequence[str]) -> None:
    """Raises: InputError: a trial's model is not on the storage any more."""
    gone = [name for name in names if not run.folder.exists(f"{_deployed(name)}/{CARD_FILE}")]
    if gone:
        raise InputError(
            f"the models of {', '.join(gone)} were not kept (best first, --keep of each strategy stay); "
            f"ask for fewer, or search with more --keep"
        )


def deployed_folder(run: Run, name: str) -> Path:
    """A local copy of the trial's deployed model."""
    return run.folder.local_copy(_deployed(name))


def _deployed(name: str) -> str:
    return f"{TRIALS}/{name}/{DEPLOYED}"


def has_graph(run: Run, name: str) -> bool:
    """Whether ONNX Runtime can run the trial's model; what was quantized for GPUs it cannot."""
    return run.trials[name].deployed.runtime in ("torch", "onnxruntime")


def runnable(run: Run, name: str, threads: int) -> Runner:
    """The trial's model, ready to predict. Raises: InputError, as ``onnx_file``."""
    if has_graph(run, name):
        return OnnxRunner(onnx_file(run, name), threads)
    check_kept(run, [name])
    return load_deployed(deployed_folder(run, name), threads, "cuda" if torch.cuda.is_available() else "cpu")


def onnx_file(run: Run, name: str) -> Path:
    """The trial's model as an ONNX graph: as deployed, or made of what was deployed and then kept.

    Raises:
        InputError: the deployed model is missing, damaged or of another version, or its graph computes something else.
    """
    check_kept(run, [name])
    directory = deployed_folder(run, name)
    if read_card(directory).runtime == "onnxruntime":
        return directory / ONNX_FILE
    kept = f"{TRIALS}/{name}/{ONNX}"
    if not _is_whole(run, kept):
        _make_graph(run, name, directory)
    return run.folder.local_copy(kept) / ONNX_FILE


def _is_whole(run: Run, kept: str) -> bool:
    """Whether a graph was made and is as it was then."""
    if not run.folder.exists(f"{kept}/{AGREEMENT_FILE}") or not run.folder.exists(f"{kept}/{ONNX_FILE}"):
        return False
    digest = json.loads(run.folder.read(f"{kept}/{AGREEMENT_FILE}")).get("sha256")
    return bool(sha256(run.folder.local_copy(kept) / ONNX_FILE) == digest)


def agreement(run: Run, name: str) -> dict[str, Any]:
    """How closely the graph follows the model it was made of: the largest difference of logits, and same predictions.

    Of an INT8 model: follows the model before its weights were rounded, as its trial found; {} where it did not look.
    """
    path = f"{TRIALS}/{name}/{ONNX}/{AGREEMENT_FILE}"
    if run.folder.exists(path):
        return {key: value for key, value in json.loads(run.folder.read(path)).items() if key != "sha256"}
    return to_plain(run.trials[name].deployed.agreement) or {}


def _make_graph(run: Run, name: str, deployed: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="symptune-"))
    try:
        staged = scratch / ONNX
        staged.mkdir()
        model = stored.load_model(deployed)
        export_onnx(model, staged / ONNX_FILE)
        validation = tokenised(run, "validation")
        pad = run.manifest["pad_token_id"]
        torch_logits = predict(TorchRunner(model).logits, validation, pad)
        onnx_logits = predict(OnnxRunner(staged / ONNX_FILE, threads=1).logits, validation, pad)
        found = measured_agreement(torch_logits, onnx_logits)
        if found.max_logit_difference > TOLERANCE:
            raise InputError(
                f"{name}: its ONNX graph differs from the model by {found.max_logit_difference:.2g} in a logit "
                f"(at most {TOLERANCE}); the versions of torch, onnx and onnxruntime don't fit together"
            )
        digest = sha256(staged / ONNX_FILE)
        (staged / AGREEMENT_FILE).write_text(json.dumps({**to_plain(found), "sha256": digest}))
        run.folder.put_folder(staged, f"{TRIALS}/{name}/{ONNX}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def tokenised(run: Run, split: str) -> TokenisedExamples:
    """A split's examples as models read them."""
    return tokenised_examples(run, split, stored.load_tokenizer(run.folder.local_copy(MODEL)))
