"""Training in bfloat16; a CPU does it too, if slowly where its instructions lack it."""

import math
from pathlib import Path

import pytest
import torch

from clinical_notes.batches import TrialData
from trainables.base import Trial
from trainables.parts.deployed import predict
from trainables.parts.metrics import classification_metrics, softmax
from trainables.parts.model.encoder import EncoderWeights
from trainables.parts.open_deployed import load_deployed

from .conftest import configuration, run_to_end, start


def products_of(trial: Trial) -> set[torch.dtype]:
    """What the Linear layers give from now on."""
    seen: set[torch.dtype] = set()
    for module in trial.model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda _module, _inputs, output: seen.add(output.dtype))
    return seen


@pytest.mark.parametrize(
    "variant", ["baseline", "distillation-relations", "low_rank", "low_rank-svd", "pruning-taylor"]
)
def test_products_are_bfloat16_and_all_that_lasts_is_float32(
    variant: str, teacher: str, trial_data: TrialData, encoder_weights: EncoderWeights, tmp_path: Path
) -> None:
    config = configuration(variant, teacher)
    trial = start(variant, config, trial_data, encoder_weights, epochs=4, precision="bfloat16")
    seen = products_of(trial)
    results = [trial.epoch() for _ in range(4)]
    assert seen == {torch.bfloat16}
    assert results[-1].train_loss < results[0].train_loss
    assert {p.dtype for p in trial.model.parameters()} == {torch.float32}
    final = run_to_end(trial, tmp_path)
    deployed = load_deployed(tmp_path / "deployed")
    logits = predict(deployed.logits, trial_data.validation, trial_data.pad_token_id)
    assert final.validation == classification_metrics(
        trial_data.validation.labels, softmax(logits), trial_data.symptoms
    )
    assert final.precision == "bfloat16"


@pytest.mark.parametrize(
    ("variant", "capabilities", "trains_in"),
    [
        ("baseline", {"avx2": True}, torch.float32),
        ("baseline", {"avx2": True, "avx512_bf16": True}, torch.bfloat16),
        ("quantization", {"avx2": True, "avx512_bf16": True}, torch.float32),
    ],
)
def test_a_cpu_trains_in_bfloat16_where_it_has_it_and_for_the_int8_grid_in_float32(
    variant: str,
    capabilities: dict[str, bool],
    trains_in: torch.dtype,
    teacher: str,
    trial_data: TrialData,
    encoder_weights: EncoderWeights,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    config = configuration(variant, teacher)
    trial = start(variant, config, trial_data, encoder_weights, epochs=1, precision="auto")
    seen = products_of(trial)
    assert math.isfinite(trial.epoch().train_loss)
    assert seen == {trains_in}
    assert trial.precision == str(trains_in).removeprefix("torch.")
