"""What each strategy does to a model, on BERT, DistilBERT and RoBERTa names of layers."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from clinical_notes.batches import TrialData, collate
from trainables.parts.deployed import deploy_torch
from trainables.parts.model.encoder import EncoderWeights

from .conftest import configuration, logits, run_to_end, start


@pytest.mark.parametrize(
    "variant", ["baseline", "distillation", "distillation-narrow", "low_rank", "pruning-structured", "quantization"]
)
def test_every_architecture_trains_and_deploys(
    variant: str, model: PreTrainedModel, own_teacher: str, trial_data: TrialData, tmp_path: Path
) -> None:
    trial = start(variant, configuration(variant, own_teacher), trial_data, EncoderWeights.of(model))
    final = run_to_end(trial, tmp_path)
    assert final.runtime == ("onnxruntime" if variant == "quantization" else "torch")
    assert math.isfinite(final.validation.f1)


def test_a_saved_model_reloads_by_stock_transformers(
    model: PreTrainedModel, trial_data: TrialData, tmp_path: Path
) -> None:
    deploy_torch(model, tmp_path, trial_data)
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    np.testing.assert_array_equal(logits(stock, trial_data), logits(model, trial_data))


def test_class_weights_weigh_the_loss(trial_data: TrialData, encoder_weights: EncoderWeights, teacher: str) -> None:
    weights = np.array([0.1, 1.0, 3.0], np.float32)
    weighted = dataclasses.replace(trial_data, class_weights=weights)
    trial = start("baseline", configuration("baseline", teacher), weighted, encoder_weights)
    batch = collate(trial_data.train, np.arange(6), trial_data.pad_token_id)
    scores = torch.randn(6, 3)
    expected = functional.cross_entropy(scores, batch["labels"], weight=torch.tensor(weights))
    assert torch.equal(trial.loss(scores, batch["labels"], np.arange(6)), expected)
