"""Open a deployed model, whatever runs it."""

from pathlib import Path

import torch

from trainables.parts.deployed import ONNX_FILE, Deployed, OnnxDeployed, TorchDeployed, read_card
from trainables.parts.model import stored


def load_deployed(directory: Path, threads: int = 1, device: str = "cpu") -> Deployed:
    """Open a deployed model.

    Raises:
        InputError: as ``read_card``.
    """
    card = read_card(directory)
    if card["runtime"] == "onnxruntime":
        return OnnxDeployed(directory / ONNX_FILE, card, threads)
    if card["runtime"] == "torchao":
        from trainables.parts.int8.torchao_model import load_int8  # an optional extra

        return load_int8(directory, card, torch.device(device))
    model = stored.load_model(directory)
    return TorchDeployed(model.to(torch.device(device)), card)  # type: ignore[arg-type]
