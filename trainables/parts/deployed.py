"""The deployed model: what a trial leaves behind, and the only thing whose figures count."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from clinical_notes.batches import TokenisedExamples, TrialData, collate, sorted_batches
from trainables.parts import stored
from trainables.parts.cost import multiply_accumulates

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


def deploy_torch(model: PreTrainedModel, directory: Path, data: TrialData, *, packed: bool = False) -> None:
    """Write a model that PyTorch runs, and its card; see ``stored.save_model`` for ``packed``."""
    stored.save_model(model, directory, packed=packed)
    weights = (directory / stored.WEIGHTS_FILE).stat().st_size
    _write_card(directory, {"runtime": "torch", **size_of(model, data), "bytes": weights, "packed": packed}, data)


def deploy_onnx(directory: Path, size: Mapping[str, int], data: TrialData, **more: Any) -> None:
    """Write the card beside a finished ``model.onnx``.

    Args:
        size: of the model that was exported, as ``size_of`` gives it.
        more: what else the card says of the model.
    """
    weights = (directory / ONNX_FILE).stat().st_size
    _write_card(directory, {"runtime": "onnxruntime", **size, "bytes": weights, **more}, data)


def deploy_torchao(directory: Path, size: Mapping[str, int], data: TrialData, **more: Any) -> None:
    """As ``deploy_onnx``, for the weights of a model of torchao's."""
    weights = (directory / stored.WEIGHTS_FILE).stat().st_size
    _write_card(directory, {"runtime": "torchao", **size, "bytes": weights, **more}, data)


def size_of(model: PreTrainedModel, data: TrialData) -> dict[str, int]:
    """Parameters, those that are not zero, and multiply–accumulates of a text of typical length."""
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "nonzero_parameters": sum(int(p.detach().count_nonzero()) for p in model.parameters()),
        "macs": multiply_accumulates(model, data.typical_length),
        "macs_length": data.typical_length,
    }


def _write_card(directory: Path, card: Mapping[str, Any], data: TrialData) -> None:
    (directory / CARD_FILE).write_text(json.dumps({**card, "symptoms": list(data.symptoms)}, indent=2))


def load_deployed(directory: Path, threads: int = 1, device: str = "cpu") -> Deployed:
    """Open a deployed model.

    Raises:
        FileNotFoundError: the folder has no deployed model.
    """
    card = json.loads((directory / CARD_FILE).read_text())
    if card["runtime"] == "onnxruntime":
        return OnnxDeployed(directory / ONNX_FILE, card, threads)
    if card["runtime"] == "torchao":
        from trainables.parts.int8_gpu import load_int8  # an optional extra

        return load_int8(directory, card, torch.device(device))
    model = stored.load_model(directory)
    return TorchDeployed(model.to(torch.device(device)), card)  # type: ignore[arg-type]
