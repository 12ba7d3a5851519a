"""Every type of encoder that ``--model`` takes, in every variant of every strategy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from clinical_notes.batches import TrialData
from run_folder.results import DeployedResult
from trainables.parts.deployed import int8_overflows, predict
from trainables.parts.metrics import classification_metrics, softmax
from trainables.parts.model.encoder import ARCHITECTURES, EncoderWeights
from trainables.parts.model.student import narrow
from trainables.parts.open_deployed import load_deployed

from .conftest import VARIANTS, configuration, logits, run_to_end, start, tiny

INT8 = ("quantization", "combined")
"""Strategies whose models are exported, which takes seconds."""
EXPORTED_ELSEWHERE = ("bert", "distilbert", "roberta")
"""Types whose INT8 graphs other tests export and compare."""


@pytest.fixture(params=ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    encoder: PreTrainedModel = tiny(request.param)
    return encoder


def check_figures(final: DeployedResult, directory: Path, data: TrialData) -> None:
    rows = predict(load_deployed(directory).logits, data.validation, data.pad_token_id)
    assert final.validation == classification_metrics(data.validation.labels, softmax(rows), data.symptoms)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if not name.startswith(INT8)])
def test_a_model_of_every_type_is_trained_and_deployed(
    variant: str, model: PreTrainedModel, own_teacher: str, trial_data: TrialData, tmp_path: Path
) -> None:
    config = configuration(variant, own_teacher, batch_size=48)
    trial = start(variant, config, trial_data, EncoderWeights.of(model), epochs=1)
    check_figures(run_to_end(trial, tmp_path), tmp_path / "deployed", trial_data)


def test_a_type_that_registers_its_head_first_keeps_the_same_dimensions() -> None:
    first, last = tiny("xlm-roberta"), tiny("roberta")
    last.load_state_dict(first.state_dict())
    expected = narrow(last, 0.5).state_dict()
    assert all(torch.equal(expected[name], tensor) for name, tensor in narrow(first, 0.5).state_dict().items())


@pytest.mark.parametrize("name", [name for name in VARIANTS if name.startswith(INT8)])
def test_a_model_of_every_type_is_trained_for_the_int8_grid(
    name: str, model: PreTrainedModel, own_teacher: str, trial_data: TrialData
) -> None:
    config = configuration(name, own_teacher, batch_size=48)
    trial = start(name, config, trial_data, EncoderWeights.of(model), epochs=1)
    while not trial.is_trained:
        trial.epoch()
    assert 0 <= trial.validate()[0].f1 <= 1


@pytest.mark.parametrize("model", [name for name in ARCHITECTURES if name not in EXPORTED_ELSEWHERE], indirect=True)
@pytest.mark.parametrize("variant", ["quantization-static"])
def test_a_model_of_the_remaining_types_is_deployed_as_int8(
    variant: str, model: PreTrainedModel, exported_teacher: str, trial_data: TrialData, tmp_path: Path
) -> None:
    config, weights = configuration(variant, exported_teacher), EncoderWeights.of(model)
    full = logits(model, trial_data)
    trial = start(variant, config, trial_data, weights, reduce_range=int8_overflows())
    final = run_to_end(trial, tmp_path)
    check_figures(final, tmp_path / "deployed", trial_data)
    assert final.agreement is not None
    assert 0 < final.agreement.max_logit_difference < 0.1 * np.abs(full).max()
