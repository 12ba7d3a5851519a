"""Packed models: what they reload to, and what they cost on disk."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from trainables.parts.model import stored
from trainables.parts.model.encoder import Layer, layers_of


def drop_weights(model: PreTrainedModel, ratio: float) -> int:
    """Zero a random ``ratio`` of each of the encoder's matrices; returns how many weights those have."""
    linears = [getattr(layer, part) for layer in layers_of(model) for part in Layer.__dataclass_fields__]
    for linear in linears:
        linear.weight.data *= torch.rand_like(linear.weight) >= ratio
    return sum(linear.weight.numel() for linear in linears)


def test_a_packed_model_reloads_to_the_same_weights(model: PreTrainedModel, tmp_path: Path) -> None:
    drop_weights(model, 0.7)
    stored.save_model(model, tmp_path, packed=True)
    written, reloaded = load_file(tmp_path / stored.OWN_WEIGHTS_FILE), stored.load_model(tmp_path).state_dict()
    assert reloaded.keys() == model.state_dict().keys()
    assert not written.keys() & {name for name, t in model.state_dict().items() if (t == 0).float().mean() > 0.5}
    for name, tensor in model.state_dict().items():
        assert reloaded[name].dtype == tensor.dtype
        assert torch.equal(reloaded[name], tensor)


def test_the_same_packed_model_is_the_same_file(model: PreTrainedModel, tmp_path: Path) -> None:
    drop_weights(model, 0.7)
    for number in range(8):
        stored.save_model(model, tmp_path / str(number), packed=True)
    assert len({(tmp_path / str(number) / stored.OWN_WEIGHTS_FILE).read_bytes() for number in range(8)}) == 1


def test_a_tensor_with_few_zeros_is_written_as_it_is(model: PreTrainedModel, tmp_path: Path) -> None:
    drop_weights(model, 0.03)  # fewer than a bit per weight costs
    stored.save_model(model, tmp_path, packed=True)
    written = load_file(tmp_path / stored.OWN_WEIGHTS_FILE)
    weights = [name for name, tensor in model.state_dict().items() if tensor.ndim == 2]
    assert all(torch.equal(written[name], model.state_dict()[name]) for name in weights)


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.9])
def test_zeros_cost_a_bit(ratio: float, tmp_path: Path) -> None:
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=60, hidden_size=128, num_attention_heads=4, num_hidden_layers=2, intermediate_size=512
    )
    model = BertForSequenceClassification(config)
    for parameter in model.parameters():
        parameter.data += 1e-3  # biases are zeros at first
    dense = 4 * drop_weights(model, ratio)
    bytes_of = {}
    for packed in (False, True):
        stored.save_model(model, tmp_path / str(packed), packed=packed)
        folder = tmp_path / str(packed)
        bytes_of[packed] = (folder / (stored.weights_file(folder) or "")).stat().st_size
    saved = bytes_of[False] - bytes_of[True]
    assert dense - saved == pytest.approx(((1 - ratio) + 1 / 32) * dense, rel=0.02)
