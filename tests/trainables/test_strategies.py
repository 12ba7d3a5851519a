"""What each strategy does to a model, on BERT, DistilBERT and RoBERTa names of layers."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from clinical_notes.batches import TrialData, collate
from trainables.base import StrategyTrainable
from trainables.parts import encoder, stored
from trainables.parts.deployed import deploy_torch
from trainables.parts.encoder import EncoderWeights

from .conftest import configuration, logits, run_to_end, start


@pytest.mark.parametrize(
    "variant", ["baseline", "distillation", "distillation-narrow", "low_rank", "pruning-structured", "quantization"]
)
def test_every_architecture_trains_and_deploys(
    variant: str, model: PreTrainedModel, own_teacher: str, trial_data: TrialData, tmp_path: Path
) -> None:
    trainable = start(variant, configuration(variant, own_teacher), trial_data, EncoderWeights.of(model), tmp_path)
    final = run_to_end(trainable)[-1]["final"]
    assert final["runtime"] == ("onnxruntime" if variant == "quantization" else "torch")
    assert math.isfinite(final["validation"]["f1"])


def test_a_saved_model_reloads_by_stock_transformers(
    model: PreTrainedModel, trial_data: TrialData, tmp_path: Path
) -> None:
    deploy_torch(model, tmp_path, trial_data)
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    np.testing.assert_array_equal(logits(stock, trial_data), logits(model, trial_data))


def test_lora_merged_equals_unmerged(
    model: PreTrainedModel, trial_data: TrialData, own_teacher: str, tmp_path: Path
) -> None:
    trainable = start("low_rank", configuration("low_rank", ""), trial_data, EncoderWeights.of(model), tmp_path)
    trainable.step()
    unmerged = logits(trainable.model, trial_data)
    trainable.deploy(tmp_path)
    np.testing.assert_allclose(logits(stored.load_model(tmp_path), trial_data), unmerged, atol=1e-5)


def test_lora_trains_the_asked_projections_and_the_head_alone(
    model: PreTrainedModel, trial_data: TrialData, tmp_path: Path
) -> None:
    config = configuration("low_rank", "")
    config["hyperparameters"] |= {"targets": "query_value", "rank": 8}
    trainable = start("low_rank", config, trial_data, EncoderWeights.of(model), tmp_path)
    peft_config = trainable.model.peft_config["default"]
    assert isinstance(peft_config, LoraConfig)
    assert peft_config.r == 8
    trained = [name for name, p in trainable.model.named_parameters() if p.requires_grad]
    lora = [name for name in trained if "lora_" in name]
    names = encoder.layer_names(model.config)
    assert len(lora) == 2 * 2 * 2  # layers, projections, A and B
    assert all(names.query in name or names.value in name for name in lora)
    assert all("lora_" in name or "classifier" in name or "pooler" in name for name in trained)


def test_class_weights_weigh_the_loss(
    trial_data: TrialData, encoder_weights: EncoderWeights, teacher: str, tmp_path: Path
) -> None:
    weights = np.array([0.1, 1.0, 3.0], np.float32)
    weighted = dataclasses.replace(trial_data, class_weights=weights)
    trainable: StrategyTrainable = start(
        "baseline", configuration("baseline", teacher), weighted, encoder_weights, tmp_path
    )
    batch = collate(trial_data.train, np.arange(6), trial_data.pad_token_id)
    scores = torch.randn(6, 3)
    expected = functional.cross_entropy(scores, batch["labels"], weight=torch.tensor(weights))
    assert torch.equal(trainable.loss(scores, batch["labels"], np.arange(6)), expected)
