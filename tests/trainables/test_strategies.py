"""What each strategy does to a model, on BERT, DistilBERT and RoBERTa names of layers."""

import dataclasses
import json
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
from trainables.distillation import DistillationTrainable, chosen_layers
from trainables.parts import encoder, stored, surgery
from trainables.parts.deployed import TorchDeployed, deploy_torch, predict
from trainables.parts.encoder import EncoderWeights
from trainables.parts.teaching import distillation_loss
from trainables.pruning import cubic_ratio

from .conftest import configuration, run_to_end, start


@pytest.fixture
def own_teacher(model: PreTrainedModel, trial_data: TrialData, tmp_path: Path) -> str:
    """A teacher of the architecture under test."""
    deploy_torch(model, tmp_path / "teacher" / "deployed", trial_data)
    return str(tmp_path / "teacher")


def logits(model: torch.nn.Module, data: TrialData) -> np.ndarray:
    return predict(TorchDeployed(model, {}).logits, data.validation, data.pad_token_id)


@pytest.mark.parametrize("variant", ["baseline", "distillation", "low_rank", "pruning-structured", "quantization"])
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


def test_distillation_loss_against_a_hand_computation() -> None:
    student = torch.tensor([[1.0, 2.0, 0.5]])
    teacher = torch.tensor([[0.0, 3.0, 1.0]])
    temperature, alpha, hard = 2.0, 0.25, 0.7
    p = [math.exp(x / temperature) for x in (0.0, 3.0, 1.0)]
    q = [math.exp(x / temperature) for x in (1.0, 2.0, 0.5)]
    p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
    divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    expected = alpha * hard + (1 - alpha) * temperature**2 * divergence
    assert float(distillation_loss(student, teacher, torch.tensor(hard), alpha, temperature)) == pytest.approx(expected)


def test_the_student_copies_the_chosen_layers(
    model: PreTrainedModel, trial_data: TrialData, own_teacher: str, tmp_path: Path
) -> None:
    config = configuration("distillation", own_teacher)
    config["hyperparameters"] |= {"depth_ratio": 0.5, "layers": "last"}
    trainable = start("distillation", config, trial_data, EncoderWeights.of(model), tmp_path)
    students = list(encoder.layers_of(trainable.model))
    teachers = list(encoder.layers_of(model))
    assert len(students) == 1
    assert torch.equal(students[0].query.weight, teachers[-1].query.weight)


def test_layers_are_spread_over_the_teacher() -> None:
    assert chosen_layers(12, 6, "spread") == [0, 2, 4, 7, 9, 11]
    assert chosen_layers(12, 3, "first") == [0, 1, 2]
    assert chosen_layers(12, 3, "last") == [9, 10, 11]
    assert chosen_layers(6, 1, "spread") == [5]


def test_the_teachers_logits_are_computed_once(
    model: PreTrainedModel,
    trial_data: TrialData,
    own_teacher: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights, config = EncoderWeights.of(model), configuration("distillation", own_teacher)
    first = start("distillation", config, trial_data, weights, tmp_path)
    assert isinstance(first, DistillationTrainable)
    live = predict(TorchDeployed(model, {}).logits, trial_data.train, trial_data.pad_token_id)
    np.testing.assert_allclose(first._teacher_logits.numpy(), live, atol=1e-6)
    monkeypatch.setattr("trainables.parts.teaching.predict", None)  # a second computation would fail
    second = start("distillation", config, trial_data, weights, tmp_path)
    assert isinstance(second, DistillationTrainable)
    assert torch.equal(first._teacher_logits, second._teacher_logits)


def test_structured_pruning_removes_heads_and_neurons_and_changes_nothing_else(
    model: PreTrainedModel, trial_data: TrialData, own_teacher: str, tmp_path: Path
) -> None:
    config = configuration("pruning-structured", own_teacher)
    trainable = start("pruning-structured", config, trial_data, EncoderWeights.of(model), tmp_path)
    trainable.step()
    trainable.step()
    masked = logits(trainable.model, trial_data)
    before = sum(p.numel() for p in trainable.model.parameters())
    trainable.deploy(tmp_path)
    pruned = stored.load_model(tmp_path)
    assert surgery.widths(pruned) == [{"heads": 2, "neurons": 24}] * 2
    assert sum(p.numel() for p in pruned.parameters()) < before
    np.testing.assert_allclose(logits(pruned, trial_data), masked, atol=1e-5)


def test_unstructured_pruning_reaches_the_asked_ratio(
    trial_data: TrialData, encoder_weights: EncoderWeights, teacher: str, tmp_path: Path
) -> None:
    config = configuration("pruning", teacher)
    config["hyperparameters"] |= {"ratio": 0.4, "schedule_end": 0.5}
    trainable = start("pruning", config, trial_data, encoder_weights, tmp_path, epochs=4)
    results = run_to_end(trainable)
    assert [result.get("selectable") for result in results[:4]] == [False, True, True, True]
    pruned = stored.load_model(tmp_path / "deployed")
    weights = torch.cat(
        [
            getattr(layer, part).weight.flatten()
            for layer in encoder.layers_of(pruned)
            for part in encoder.Layer.__dataclass_fields__
        ]
    )
    assert float((weights == 0).float().mean()) == pytest.approx(0.4, abs=0.01)
    final = results[-1]["final"]
    assert final["parameters"] - final["nonzero_parameters"] >= int(0.39 * len(weights))


def test_even_one_step_of_training_prunes_to_the_target(
    trial_data: TrialData, encoder_weights: EncoderWeights, teacher: str, tmp_path: Path
) -> None:
    config = configuration("pruning", teacher)
    config["hyperparameters"] |= {"batch_size": 64, "schedule_end": 0.7}
    trainable = start("pruning", config, trial_data, encoder_weights, tmp_path, epochs=1)
    assert trainable.step()["selectable"]


def test_the_cubic_schedule_starts_steep_and_ends_at_the_target() -> None:
    assert cubic_ratio(0.5, 0.0) == 0.0
    assert cubic_ratio(0.5, 0.5) == pytest.approx(0.4375)
    assert cubic_ratio(0.5, 1.0) == 0.5


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


def test_a_pruned_model_says_its_widths_in_its_configuration(
    trial_data: TrialData, encoder_weights: EncoderWeights, teacher: str, tmp_path: Path
) -> None:
    config = configuration("pruning-structured", teacher)
    run_to_end(start("pruning-structured", config, trial_data, encoder_weights, tmp_path))
    values = json.loads((tmp_path / "deployed" / "config.json").read_text())
    assert values[stored.STRUCTURE_KEY]["widths"] == [{"heads": 2, "neurons": 24}] * 2
