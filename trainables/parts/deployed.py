"""The deployed model: what a trial leaves behind, and the only thing whose figures count."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from clinical_notes.batches import TokenisedExamples, TrialData, collate, sorted_batches
from run_folder.errors import InputError
from trainables.parts.model import stored
from trainables.parts.model.multiply_accumulates import multiply_accumulates

FORMAT = 1
"""Of a deployed model's folder."""
CARD_FILE = "deployed.json"
ONNX_FILE = "model.onnx"
PREDICT_BATCH = 32
"""Fixed, since the activations of a dynamically quantized model share one scale per batch."""

LogitsOf = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]
"""(input_ids, attention_mask), each (batch, length), to logits (batch, classes)."""


class Deployed(Protocol):
    card: dict[str, Any]

    def logits(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]: ...


class TorchDeployed:
    """A model that PyTorch runs."""

    def __init__(self, model: PreTrainedModel, card: dict[str, Any]) -> None:
        self.model, self.card = model.eval(), card

    def logits(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.inference_mode():
            output = self.model(
                input_ids=torch.from_numpy(input_ids).to(self.model.device),
                attention_mask=torch.from_numpy(attention_mask).to(self.model.device),
            )
        return np.asarray(output.logits.float().cpu().numpy())


class OnnxDeployed:
    """A model that ONNX Runtime runs.

    A dynamically quantized model's logits of a text depend on its batch mates, since a batch's activations share one
    scale; a statically quantized model's don't.
    """

    def __init__(self, path: Path, card: dict[str, Any], threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Its fused kernel takes 0.29 ms for 64 tokens of BERT-base, the two that it replaces 0.06 ms.
        self._session = ort.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
        )
        self.card = card

    def logits(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        return np.asarray(self._session.run(["logits"], feed)[0])


def predict(logits_of: LogitsOf, examples: TokenisedExamples, pad_token_id: int) -> NDArray[np.float32]:
    """Logits (n, classes) in the order of the examples, computed in batches of similar length.

    The batches are always the same ones, so that figures can be repeated; those of a dynamically quantized model are
    the figures of texts in such company (see ``OnnxDeployed``).
    """
    rows: list[NDArray[np.float32]] = []
    order: list[NDArray[np.int64]] = []
    for index in sorted_batches(examples, PREDICT_BATCH):
        batch = collate(examples, index, pad_token_id)
        rows.append(logits_of(batch["input_ids"].numpy(), batch["attention_mask"].numpy()))
        order.append(index)
    logits = np.empty((len(examples), rows[0].shape[1]), np.float32)
    logits[np.concatenate(order)] = np.concatenate(rows)
    return logits


def deploy_torch(
    model: PreTrainedModel, directory: Path, data: TrialData, *, packed: bool = False, **more: Any
) -> None:
    """Write a model that PyTorch runs, and its card.

    Args:
        packed: see ``stored.save_model``.
        more: what else the card says.
    """
    stored.save_model(model, directory, packed=packed)
    card = {"runtime": "torch", **size_of(model, data), "packed": packed, **more}
    weights = stored.weights_file(directory)
    assert weights is not None
    _write_card(directory, card, data, [weights, stored.CONFIG_FILE])


def deploy_onnx(directory: Path, model: PreTrainedModel, size: Mapping[str, int], data: TrialData, **more: Any) -> None:
    """Write card and configuration beside a finished ``model.onnx``.

    Args:
        model: the model that was exported; its configuration tells shape and labels.
        size: of it, as ``size_of`` gives it.
        more: what else the card says.
    """
    stored.save_config(model, directory)
    _write_card(directory, {"runtime": "onnxruntime", **size, **more}, data, [ONNX_FILE, stored.CONFIG_FILE])


def deploy_torchao(
    directory: Path, model: PreTrainedModel, size: Mapping[str, int], data: TrialData, **more: Any
) -> None:
    """As ``deploy_onnx``, for the weights of a model of torchao's."""
    stored.save_config(model, directory)
    _write_card(directory, {"runtime": "torchao", **size, **more}, data, [stored.OWN_WEIGHTS_FILE, stored.CONFIG_FILE])


def size_of(model: PreTrainedModel, data: TrialData) -> dict[str, int]:
    """Parameters, those that are not zero, and multiply–accumulates of a text of typical length."""
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "nonzero_parameters": sum(int(p.detach().count_nonzero()) for p in model.parameters()),
        "macs": multiply_accumulates(model, data.typical_length),
        "macs_length": data.typical_length,
    }


def _write_card(directory: Path, card: Mapping[str, Any], data: TrialData, files: Sequence[str]) -> None:
    """``files``: the weights, whose bytes count, then what else the model needs."""
    record = {
        "format": FORMAT,
        "symptoms": list(data.symptoms),
        "bytes": (directory / files[0]).stat().st_size,
        "sha256": {name: sha256(directory / name) for name in files},
        **card,
    }
    (directory / CARD_FILE).write_text(json.dumps(record, indent=2))


def figures_of(card: Mapping[str, Any]) -> dict[str, Any]:
    """What a card says of the model itself: sizes, costs, scheme."""
    return {name: value for name, value in card.items() if name not in ("format", "symptoms", "sha256")}


def read_card(directory: Path) -> dict[str, Any]:
    """The card of a deployed model whose files are as they were written.

    Raises:
        InputError: there is none, it is of another version, or a file is missing or was changed.
    """
    try:
        card: dict[str, Any] = json.loads((directory / CARD_FILE).read_text())
        written, hashes = card["format"], dict(card["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{directory}: no deployed model here ({CARD_FILE} is missing or unreadable)") from None
    if written != FORMAT:
        raise InputError(
            f"{directory}: written by another version (format {written}, this one reads {FORMAT}); "
            "use the version that wrote it"
        )
    check_files(directory, hashes)
    return card


def check_files(directory: Path, hashes: Mapping[str, str]) -> None:
    """Raises: InputError: a file is missing, is not the one whose SHA-256 this is, or is not in this very folder."""
    for name, digest in hashes.items():
        if Path(name).name != name:
            raise InputError(f"{directory}: lists {name!r}, which is no file's name; make the folder again")
        if not (directory / name).is_file():
            raise InputError(f"{directory}: {name} is missing; restore it or make the folder again")
        if sha256(directory / name) != digest:
            raise InputError(f"{directory}: {name} is damaged or was changed; restore it or make the folder again")


def int8_overflows() -> bool:
    """Whether this CPU's INT8 kernels saturate on 8-bit weights (x86 without VNNI or AMX), so that 7 bits are right."""
    able = torch.cpu.get_capabilities()
    return able["architecture"] == "x86_64" and not any(
        able.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8")
    )


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
