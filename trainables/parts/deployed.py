"""The deployed model: what a trial leaves behind, and the only thing whose figures count."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from clinical_notes.batches import TokenisedExamples, TrialData, collate, sorted_batches
from run_folder.errors import InputError, first_line, one_line
from run_folder.records import from_plain, to_json
from run_folder.results import Agreement, Int8Facts, ModelFacts, Runtime
from trainables.parts.model import stored
from trainables.parts.model.multiply_accumulates import multiply_accumulates

FORMAT = 1
"""Version of a deployed model's folder."""
CARD_FILE = "deployed.json"
ONNX_FILE = "model.onnx"
PREDICT_BATCH = 32
"""Batch size of predictions; fixed, since a dynamically quantized model has one activation scale per batch."""

_GRAPH_NAMES = {"input_ids", "attention_mask", "logits"}

LogitsOf = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]
"""(input_ids, attention_mask), each (batch, length), to logits (batch, classes)."""


@dataclass(frozen=True, kw_only=True)
class Card(ModelFacts):
    """What the file ``deployed.json`` of a deployed model's folder says.

    Attributes:
        format: version of the folder.
        symptoms: class names, in the order of the logits.
        sha256: hashes of the files that the model needs, by name.
    """

    format: int
    symptoms: tuple[str, ...]
    sha256: Mapping[str, str]


class Runner(Protocol):
    """A model in memory, ready to predict."""

    def logits(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """(batch, classes) of inputs (batch, length)."""
        ...


@dataclass(frozen=True)
class Deployed:
    """A deployed model, opened: its card, and what runs it."""

    card: Card
    runner: Runner

    def logits(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """(batch, classes) of inputs (batch, length)."""
        return self.runner.logits(input_ids, attention_mask)


class TorchRunner:
    """A model that PyTorch runs, on the device that it is on."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model.eval()

    def logits(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.inference_mode():
            output = self.model(
                input_ids=torch.from_numpy(input_ids).to(self.model.device),
                attention_mask=torch.from_numpy(attention_mask).to(self.model.device),
            )
        return np.asarray(output.logits.float().cpu().numpy())


class OnnxRunner:
    """A model that ONNX Runtime runs on the CPU.

    With a dynamically quantized model, the logits of a text depend on the other texts of its batch, since a batch's
    activations share one scale; with a statically quantized model they don't.

    Raises:
        InputError: the file is no such graph, or has its weights outside its folder.
    """

    def __init__(self, path: Path, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Its fused kernel takes 0.29 ms for 64 tokens of BERT-base, the two that it replaces 0.06 ms.
        try:
            self._session = ort.InferenceSession(
                path, options, providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
            )
        except Exception as error:  # ONNX Runtime's own have no common base
            reason = one_line(first_line(error))
            raise InputError(
                f"{path.parent}: {path.name} cannot be loaded by ONNX Runtime ({reason}); restore it or make the "
                "folder again"
            ) from error
        names = {part.name for part in (*self._session.get_inputs(), *self._session.get_outputs())}
        if names != _GRAPH_NAMES:
            raise InputError(f"{path.parent}: {path.name} is no graph of ours; restore it or make the folder again")

    def logits(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        return np.asarray(self._session.run(["logits"], feed)[0])


def predict(logits_of: LogitsOf, examples: TokenisedExamples, pad_token_id: int) -> NDArray[np.float32]:
    """Logits (n, classes) in the order of the examples, computed in batches of similar length.

    The batches are always the same, so that figures can be repeated: with a dynamically quantized model they depend on
    the batches (see ``OnnxRunner``).
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


@dataclass(frozen=True)
class Size:
    """How large a model is, and what a text costs it.

    Attributes:
        nonzero_parameters: those that are not zero.
        macs: multiply–accumulates of a text of ``macs_length`` tokens, the training texts' typical length.
    """

    parameters: int
    nonzero_parameters: int
    macs: int
    macs_length: int


def size_of(model: PreTrainedModel, data: TrialData) -> Size:
    """The size of a model before it is quantized."""
    return Size(
        parameters=sum(p.numel() for p in model.parameters()),
        nonzero_parameters=sum(int(p.detach().count_nonzero()) for p in model.parameters()),
        macs=multiply_accumulates(model, data.typical_length),
        macs_length=data.typical_length,
    )


def deploy_torch(
    model: PreTrainedModel, directory: Path, data: TrialData, *, packed: bool = False, scheme: str | None = None
) -> None:
    """Write a model that PyTorch runs, and its card.

    Args:
        packed: see ``stored.save_model``.
        scheme: how the strategy compressed it, where it has several ways.
    """
    stored.save_model(model, directory, packed=packed)
    weights = stored.weights_file(directory)
    assert weights is not None
    write_card(directory, data, size_of(model, data), "torch", weights, packed=packed, scheme=scheme)


def write_card(
    directory: Path,
    data: TrialData,
    size: Size,
    runtime: Runtime,
    weights: str,
    *,
    scheme: str | None = None,
    packed: bool | None = None,
    fp32_layers: Sequence[str] | None = None,
    agreement: Agreement | None = None,
    int8: Int8Facts | None = None,
) -> None:
    """Write the card of a deployed model whose weights and configuration are in ``directory``.

    Args:
        weights: name of the file with the weights; its bytes are the model's.
        scheme: and what follows: see ``ModelFacts``.
    """
    card = Card(
        format=FORMAT,
        symptoms=data.symptoms,
        sha256={name: sha256(directory / name) for name in (weights, stored.CONFIG_FILE)},
        bytes=(directory / weights).stat().st_size,
        runtime=runtime,
        parameters=size.parameters,
        nonzero_parameters=size.nonzero_parameters,
        macs=size.macs,
        macs_length=size.macs_length,
        packed=packed,
        scheme=scheme,
        fp32_layers=None if fp32_layers is None else tuple(fp32_layers),
        agreement=agreement,
        int8=int8,
    )
    (directory / CARD_FILE).write_bytes(to_json(card, indent=2))


def read_card(directory: Path) -> Card:
    """The card of a deployed model whose files are as they were written.

    Raises:
        InputError: there is none, it is of another version, or a file is missing or was changed.
    """
    try:
        values = json.loads((directory / CARD_FILE).read_text())
        written = values["format"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{directory}: no deployed model here ({CARD_FILE} is missing or unreadable)") from None
    if written != FORMAT:
        raise InputError(
            f"{directory}: written by another version (format {written}, this one reads {FORMAT}); "
            "use the version that wrote it"
        )
    card = from_plain(values, Card, str(directory / CARD_FILE))
    check_files(directory, card.sha256)
    return card


def check_files(directory: Path, hashes: Mapping[str, str]) -> None:
    """Check files by their SHA-256.

    Args:
        hashes: by the files' names in ``directory``.

    Raises:
        InputError: a file is missing or was changed, or its name leads out of the folder.
    """
    for name, digest in hashes.items():
        if Path(name).name != name:
            raise InputError(f"{directory}: lists {name!r}, which is no file's name; make the folder again")
        if not (directory / name).is_file():
            raise InputError(f"{directory}: {name} is missing; restore it or make the folder again")
        if sha256(directory / name) != digest:
            raise InputError(f"{directory}: {name} is damaged or was changed; restore it or make the folder again")


def int8_overflows() -> bool:
    """Whether this CPU's INT8 sums overflow with 8-bit weights, so that 7 bits are right: x86 without VNNI or AMX."""
    able = torch.cpu.get_capabilities()
    return able["architecture"] == "x86_64" and not any(
        able.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8")
    )


def saturates_here(facts: ModelFacts) -> bool:
    """Whether this CPU's sums may overflow as it runs the model, so that its figures are not those of other CPUs."""
    bits = facts.int8.weight_bits if facts.int8 is not None and facts.runtime == "onnxruntime" else None
    return bits == 8 and int8_overflows()


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
