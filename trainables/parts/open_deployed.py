"""Open a deployed model, whatever runs it."""

from pathlib import Path

import torch

from trainables.parts.deployed import ONNX_FILE, Deployed, OnnxRunner, TorchRunner, read_card
from trainables.parts.model import stored


def load_deployed(directory: Path, threads: int = 1, device: str = "cpu") -> Deployed:
    """Open a deployed model.

    Args:
        threads: of ONNX Runtime; PyTorch keeps its own number.
        device: of PyTorch, "cpu" or "cuda"; ONNX Runtime runs on the CPU.

    Raises:
        InputError: as ``read_card``.
    """
    card = read_card(directory)
    if card.runtime == "onnxruntime":
        return Deployed(card, OnnxRunner(directory / ONNX_FILE, threads))
    if card.runtime == "torchao":
        from trainables.parts.int8.torchao_model import load_int8  # an optional extra

        return Deployed(card, load_int8(directory, torch.device(device)))
    model = stored.load_model(directory)
    return Deployed(card, TorchRunner(model.to(torch.device(device))))  # type: ignore[arg-type]
