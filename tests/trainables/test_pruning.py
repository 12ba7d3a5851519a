"""Pruning: importances, masks, schedule and scope, recovery, and what is deployed."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from clinical_notes.batches import TrialData, collate
from tests.conftest import tiny_model
from trainables.base import Trial
from trainables.parts.deployed import TorchRunner, predict
from trainables.parts.model import encoder, masks, stored, structured, surgery
from trainables.parts.model.encoder import EncoderWeights
from trainables.parts.model.unstructured import prunable
from trainables.parts.training.seen_words import restore_words

from .conftest import RECOVERY, STRUCTURED, configuration, logits, run_to_end, start

SCHEMES: dict[str, dict[str, Any]] = {
    "magnitude": {**STRUCTURED, "importance": "magnitude"},
    "taylor": {**STRUCTURED, "importance": "taylor"},
    "layer": {"scheme": "unstructured", "scope": "layer", "sparsity": 0.5, "schedule_end": 0.7},
    "global": {"scheme": "unstructured", "scope": "global", "sparsity": 0.5, "schedule_end": 0.7},
}
Begin = Callable[..., Trial]


@pytest.fixture
def begin(trial_data: TrialData, teacher: str) -> Begin:
    """A pruning trial with these hyperparameters, about to take its first step."""

    def begin(hyperparameters: dict[str, Any], model: PreTrainedModel | None = None, epochs: int = 2) -> Trial:
        config = configuration("pruning", teacher, **hyperparameters)
        weights = EncoderWeights.of(model or tiny_model("bert"))
        return start("pruning", config, trial_data, weights, epochs=epochs)

    return begin


def loss_of(model: nn.Module, data: TrialData) -> torch.Tensor:
    batch = collate(data.train, np.arange(16), data.pad_token_id)
    labels = batch.pop("labels")
    return functional.cross_entropy(model.eval()(**batch).logits, labels)


def masks_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: mask.clone() for name, mask in model.named_buffers() if name.endswith("weight_mask")}


def output_projections(model: PreTrainedModel) -> list[tuple[nn.Linear, int]]:
    """Those of attention, with the columns of a head, and of the feed-forward parts, with those of a neuron."""
    size = encoder.head_size(model.config)
    parts = [((layer.attention_output, size), (layer.feed_forward_out, 1)) for layer in encoder.layers_of(model)]
    return [pair for pairs in parts for pair in pairs]


# Importances


def test_taylor_scores_are_the_squared_derivatives_of_the_loss_by_a_gate(
    model: PreTrainedModel, trial_data: TrialData
) -> None:
    model.double()
    gates, hooks = [], []
    for linear, columns in output_projections(model):
        gate = torch.ones(linear.in_features // columns, dtype=torch.float64, requires_grad=True)
        wide = gate.repeat_interleave(columns)
        hooks.append(linear.register_forward_pre_hook(lambda _, inputs, wide=wide: inputs[0] * wide))
        gates.append(gate)
    derivatives = torch.autograd.grad(loss_of(model, trial_data), gates)
    for hook in hooks:
        hook.remove()

    structured.install_masks(model)
    loss_of(model, trial_data).backward()
    for batches in (1, 2):
        structured.accumulate_taylor(model)
        for (linear, _), derivative in zip(output_projections(model), derivatives, strict=True):
            expected = (1 - structured.DECAY**batches) * derivative.square()
            torch.testing.assert_close(linear.taylor_score, expected, rtol=1e-6, atol=0.0)


def test_taylor_keeps_the_head_whose_removal_changes_the_loss_most_though_it_is_small(
    model: PreTrainedModel, trial_data: TrialData
) -> None:
    layer, size = next(encoder.layers_of(model.double())), encoder.head_size(model.config)
    whole, changes = float(loss_of(model, trial_data)), []
    for head in range(4):
        columns = layer.attention_output.weight.data[:, head * size : (head + 1) * size]
        kept = columns.clone()
        columns.zero_()
        changes.append(abs(float(loss_of(model, trial_data)) - whole))
        columns.copy_(kept)
    worst = int(np.argmax(changes))
    rows = torch.arange(4 * size) // size != worst
    layer.query.weight.data[rows] *= 10  # the others grow, and compute what they did
    layer.key.weight.data[rows] /= 10

    structured.install_masks(model)
    loss_of(model, trial_data).backward()
    structured.accumulate_taylor(model)
    assert int(structured.magnitude(structured.heads_of(layer, size)).argmin()) == worst
    structured.update_masks(model, 0.75, structured.taylor)
    assert masks.mask_of(layer.attention_output)[::size].tolist() == [head == worst for head in range(4)]


def test_taylor_is_the_magnitude_until_a_gradient_was_seen(model: PreTrainedModel, trial_data: TrialData) -> None:
    structured.install_masks(model)
    groups = structured.neurons_of(next(encoder.layers_of(model)))
    rows, columns = groups.inward[0].weight.detach().numpy(), groups.outward.weight_orig.detach().numpy()
    expected = (rows**2).sum(axis=1) + (columns**2).sum(axis=0)
    np.testing.assert_allclose(structured.taylor(groups), expected, rtol=1e-5)
    loss_of(model, trial_data).backward()
    structured.accumulate_taylor(model)
    assert not np.allclose(structured.taylor(groups), expected)


@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
def test_scores_are_gathered_where_they_are_read(begin: Begin, importance: str) -> None:
    trial = begin(SCHEMES[importance])
    trial.epoch()
    assert isinstance(trial.model, PreTrainedModel)
    for linear, _ in output_projections(trial.model):
        assert bool(linear.taylor_score.any()) == (importance == "taylor")


# Masks


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_masked_stays_masked_whatever_becomes_of_the_weights(begin: Begin, scheme: str) -> None:
    trial = begin(SCHEMES[scheme])
    before = masks_of(trial.model)
    for stage in (0.15, 0.3, 0.45, 0.7):
        trial.before_step(stage)
        after = masks_of(trial.model)
        assert before.keys() == after.keys()
        assert all(not (after[name] & ~before[name]).any() for name in after)
        assert sum(int(mask.sum()) for mask in after.values()) < sum(int(mask.sum()) for mask in before.values())
        before = after
        for tensor in trial.model.state_dict().values():  # the order of all importances changes
            if tensor.dtype == torch.float32:
                tensor.copy_(torch.rand_like(tensor))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_training_moves_no_masked_weight_into_the_model(begin: Begin, scheme: str, tmp_path: Path) -> None:
    trial = begin(SCHEMES[scheme], epochs=3)
    run_to_end(trial, tmp_path)
    assert [result.selectable for result in trial.results] == [False, False, True]
    pruned = stored.load_model(tmp_path / "deployed")
    if "scope" in SCHEMES[scheme]:
        weights = torch.cat([linear.weight.flatten() for linear in prunable(pruned)])
        assert float((weights == 0).float().mean()) == pytest.approx(0.5, abs=0.001)
    else:
        assert surgery.widths(pruned) == [surgery.Width(2, 24)] * 2


def test_one_head_is_always_left() -> None:
    kept = structured.keep_most_important(torch.tensor([3.0, 1.0, 2.0]), torch.ones(3, dtype=torch.bool), 0.99)
    assert kept.tolist() == [True, False, False]


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_scope_of_a_threshold(begin: Begin, model: PreTrainedModel, scope: str) -> None:
    layers = list(encoder.layers_of(model))
    layers[0].query.weight.data *= 3
    trial = begin({**SCHEMES[scope], "sparsity": 0.8}, model)
    trial.before_step(1.0)
    assert isinstance(trial.model, PreTrainedModel)
    found = [masks.mask_of(linear) for linear in prunable(trial.model)]
    ratios = [1 - float(mask.float().mean()) for mask in found]
    total = 1 - float(torch.cat([mask.flatten() for mask in found]).float().mean())
    assert len(found) == 2 * 6
    assert total == pytest.approx(0.8, abs=0.001)
    if scope == "layer":
        assert ratios == pytest.approx([0.8] * len(ratios), abs=0.001)
    else:
        assert ratios[0] < 0.5 < 0.8 < ratios[1]


# Schedule


def test_the_cubic_schedule_starts_steep_and_ends_at_the_target() -> None:
    assert masks.scheduled_ratio(0.5, 0.6, 0.0) == 0.0
    assert masks.scheduled_ratio(0.5, 0.6, 0.3) == pytest.approx(0.4375)
    assert masks.scheduled_ratio(0.5, 0.6, 0.6) == masks.scheduled_ratio(0.5, 0.6, 1.0) == 0.5


def test_the_ratio_rises_in_few_stages() -> None:
    assert len({masks.scheduled_ratio(0.5, 0.7, step / 1000) for step in range(1001)}) == masks.STAGES + 1


def test_a_schedule_of_no_length_prunes_before_the_first_step(begin: Begin) -> None:
    trial = begin({**SCHEMES["layer"], "schedule_end": 0.0})
    trial.before_step(1 / trial.total_steps)
    assert trial.selectable


@pytest.mark.parametrize("scheme", SCHEMES)
def test_even_one_step_of_training_prunes_to_the_target(begin: Begin, scheme: str) -> None:
    assert begin({**SCHEMES[scheme], "batch_size": 64}, epochs=1).epoch().selectable


# Recovery


@pytest.mark.parametrize("origin", ["baseline", "pretrained"])
def test_recovery_by_distillation_listens_to_the_teachers_logits(
    begin: Begin, trial_data: TrialData, origin: str
) -> None:
    pretrained = tiny_model("bert")
    nn.init.normal_(pretrained.classifier.weight)
    trial = begin({**SCHEMES["magnitude"], **RECOVERY, "start": origin}, pretrained)
    index = np.array([7, 2])
    of_teacher = predict(TorchRunner(tiny_model("bert")).logits, trial_data.train, trial_data.pad_token_id)
    of_student = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], np.float32)
    labels = trial_data.train.labels[index]

    hard = soft = 0.0
    for teacher_row, student_row, label in zip(of_teacher[index].tolist(), of_student.tolist(), labels, strict=True):
        hard -= math.log(math.exp(student_row[label]) / sum(map(math.exp, student_row))) / 2
        p, q = ([math.exp(x / 2.0) for x in row] for row in (teacher_row, student_row))
        soft += sum(a / sum(p) * math.log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q, strict=True)) / 2
    expected = 0.4 * hard + 0.6 * 2.0**2 * soft
    got = trial.loss(torch.from_numpy(of_student), torch.from_numpy(labels), index)
    assert float(got) == pytest.approx(expected, rel=1e-5)

    by_labels = begin({**SCHEMES["magnitude"], "start": origin}, pretrained)
    got = by_labels.loss(torch.from_numpy(of_student), torch.from_numpy(labels), index)
    assert float(got) == pytest.approx(hard, rel=1e-5)


@pytest.mark.parametrize("origin", ["baseline", "pretrained"])
def test_training_starts_from_the_asked_weights(begin: Begin, origin: str) -> None:
    pretrained = tiny_model("bert")
    nn.init.normal_(pretrained.classifier.weight)
    trial = begin({**SCHEMES["layer"], **RECOVERY, "start": origin}, pretrained)
    source = pretrained if origin == "pretrained" else tiny_model("bert")
    assert torch.equal(trial.model.classifier.weight, source.classifier.weight)


# What is deployed


@pytest.mark.parametrize("variant", ["pruning-structured", "pruning-taylor"])
def test_heads_and_neurons_are_removed_and_nothing_else_changes(
    variant: str, model: PreTrainedModel, trial_data: TrialData, own_teacher: str, tmp_path: Path
) -> None:
    config = configuration(variant, own_teacher)
    trial = start(variant, config, trial_data, EncoderWeights.of(model))
    trial.epoch()
    trial.epoch()
    masked = logits(trial.model, trial_data)
    restore_words(trial.model)
    before = sum(p.numel() for p in trial.model.parameters())
    trial.write_model(tmp_path)
    pruned = stored.load_model(tmp_path)
    assert surgery.widths(pruned) == [surgery.Width(2, 24)] * 2
    assert sum(p.numel() for p in pruned.parameters()) < before
    assert pruned.state_dict().keys() == model.state_dict().keys()
    np.testing.assert_allclose(logits(pruned, trial_data), masked, atol=1e-5)


def test_heads_of_an_odd_size_are_cut(trial_data: TrialData, tmp_path: Path) -> None:
    sizes = {"hidden_size": 35, "num_attention_heads": 5, "num_hidden_layers": 2, "intermediate_size": 11}
    model = BertForSequenceClassification(BertConfig(vocab_size=60, max_position_embeddings=40, num_labels=3, **sizes))
    structured.install_masks(model)
    structured.update_masks(model, 0.6, structured.magnitude)
    masked = logits(model, trial_data)
    structured.cut(model)
    stored.save_model(model, tmp_path)
    pruned = stored.load_model(tmp_path)
    assert surgery.widths(pruned) == [surgery.Width(2, 4)] * 2
    np.testing.assert_allclose(logits(pruned, trial_data), masked, atol=1e-6)


def test_a_pruned_model_says_its_widths_in_its_configuration(begin: Begin, tmp_path: Path) -> None:
    final = run_to_end(begin(SCHEMES["magnitude"]), tmp_path)
    assert final.scheme == "structured"
    assert not final.packed
    values = json.loads((tmp_path / "deployed" / "config.json").read_text())
    assert values[stored.STRUCTURE_KEY]["widths"] == [{"heads": 2, "neurons": 24}] * 2


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_masked_weights_are_zeros_that_cost_no_disk(
    begin: Begin, model: PreTrainedModel, trial_data: TrialData, scope: str, tmp_path: Path
) -> None:
    trial = begin({**SCHEMES[scope], "sparsity": 0.9}, model)
    trial.epoch()
    trial.epoch()
    masked = logits(trial.model, trial_data)
    final = trial.deploy(tmp_path / "deployed")
    assert final.scheme == "unstructured"
    pruned = stored.load_model(tmp_path / "deployed")
    np.testing.assert_array_equal(logits(pruned, trial_data), masked)
    weights = sum(linear.weight.numel() for linear in prunable(pruned))
    assert final.parameters - final.nonzero_parameters >= int(0.899 * weights)
    classifier = [p for name, p in pruned.named_parameters() if "classifier" in name and p.ndim == 2]
    assert all(bool((weight != 0).all()) for weight in classifier)
    stored.save_model(pruned, tmp_path / "dense")
    dense = (tmp_path / "dense" / stored.WEIGHTS_FILE).stat().st_size
    assert dense - final.bytes > 0.8 * 4 * weights
