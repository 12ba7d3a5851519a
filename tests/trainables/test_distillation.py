"""Distillation: the student's shape, what it copies, and the losses it learns by."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.samplers import RandomSampler
from safetensors.torch import load_file
from transformers import (
    AutoModelForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    PreTrainedModel,
)

from clinical_notes.batches import TrialData, collate
from search_spaces import space_of
from tests.conftest import tiny_model
from trainables.base import TrialError
from trainables.distillation import DistillationTrial
from trainables.parts.deployed import TorchRunner, deploy_torch, predict
from trainables.parts.model import encoder, stored
from trainables.parts.model.encoder import EncoderWeights
from trainables.parts.model.student import axes_of, chosen_layers, narrow, narrowed_config, residual_importance
from trainables.parts.tasks import TASKS
from trainables.parts.training.teaching import (
    PROJECTIONS,
    distillation_loss,
    last_projections,
    relation_heads,
    relation_loss,
)

from .conftest import SETTINGS, configuration, logits, start


def started(
    variant: str,
    teacher: str,
    model: PreTrainedModel,
    data: TrialData,
    epochs: int = SETTINGS.epochs,
    **changes: Any,
) -> DistillationTrial:
    config = configuration(variant, teacher, **changes)
    trial = start(variant, config, data, EncoderWeights.of(model), epochs=epochs)
    assert isinstance(trial, DistillationTrial)
    return trial


def parameter_count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# The student's shape


def test_every_suggested_student_is_smaller_than_its_teacher(
    model: PreTrainedModel, trial_data: TrialData, own_teacher: str, tmp_path: Path
) -> None:
    study = optuna.create_study(sampler=RandomSampler(seed=2))
    shapes = set()
    for _ in range(25):
        suggested = space_of("distillation")(study.ask())
        student = started("distillation", own_teacher, model, trial_data, **suggested).model
        shapes.add((suggested.get("depth_ratio"), suggested.get("width_ratio")))
        assert parameter_count(student) < parameter_count(model)
    assert len(shapes) > 5


def test_a_student_as_large_as_its_teacher_is_refused(
    model: PreTrainedModel, trial_data: TrialData, own_teacher: str, tmp_path: Path
) -> None:
    with pytest.raises(TrialError, match="as large as its teacher"):
        started("distillation", own_teacher, model, trial_data, depth_ratio=1.0)


def test_the_student_copies_the_chosen_layers(
    model: PreTrainedModel, trial_data: TrialData, own_teacher: str, tmp_path: Path
) -> None:
    trial = started("distillation", own_teacher, model, trial_data, depth_ratio=0.5, layers="last")
    students = list(encoder.layers_of(trial.model))
    teachers = list(encoder.layers_of(model))
    assert len(students) == 1
    assert torch.equal(students[0].query.weight, teachers[-1].query.weight)


def test_layers_are_spread_over_the_teacher() -> None:
    assert chosen_layers(12, 6, "spread") == [0, 2, 4, 7, 9, 11]
    assert chosen_layers(12, 3, "first") == [0, 1, 2]
    assert chosen_layers(12, 3, "last") == [9, 10, 11]
    assert chosen_layers(6, 1, "spread") == [5]


@pytest.mark.parametrize(("ratio", "heads", "neurons"), [(0.75, 3, 36), (0.5, 2, 24), (0.1, 1, 4)])
def test_a_narrow_student_has_the_asked_sizes_and_reloads_by_stock_transformers(
    model: PreTrainedModel, trial_data: TrialData, tmp_path: Path, ratio: float, heads: int, neurons: int
) -> None:
    student = narrow(model, ratio)
    stored.save_model(student, tmp_path)
    assert stored.STRUCTURE_KEY not in (tmp_path / "config.json").read_text()
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert (stock.config.num_attention_heads, stock.config.hidden_size) == (heads, heads * 8)
    assert getattr(stock.config, encoder.layer_names(stock.config).neurons_option) == neurons
    assert stock.get_input_embeddings().embedding_dim == heads * 8
    assert all(layer.feed_forward_in.out_features == neurons for layer in encoder.layers_of(stock))
    np.testing.assert_array_equal(logits(stock, trial_data), logits(student, trial_data))


def test_at_full_width_nothing_changes(model: PreTrainedModel, trial_data: TrialData) -> None:
    np.testing.assert_array_equal(logits(narrow(model, 1.0), trial_data), logits(model, trial_data))


@torch.no_grad()
def test_what_contributes_nothing_is_what_is_cut(model: PreTrainedModel, trial_data: TrialData) -> None:
    """Dimensions, heads and neurons that are zero go, and the student computes what its teacher did.

    A layer norm averages over all dimensions, so that it is made the identity here.
    """
    dead = torch.arange(32) % 4 == 1  # 8 residual dimensions of 32
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            module.weight[:, dead] = 0
    for layer in encoder.layers_of(model):
        layer.attention_output.weight[:, 8:16] = 0  # head 1
        for part in (layer.query, layer.key, layer.value):
            part.weight[8:16] = 0
        layer.feed_forward_in.weight[::4] = 0
        layer.feed_forward_out.weight[:, ::4] = 0
        for linear in (layer.query, layer.key, layer.value, layer.feed_forward_in):
            linear.weight[:, dead] = 0
        for linear in (layer.attention_output, layer.feed_forward_out):
            linear.weight[dead] = 0
            linear.bias[dead] = 0
        layer.feed_forward_in.bias[::4] = 0
    *_, hidden, last = (m for m in model.modules() if isinstance(m, torch.nn.Linear))
    hidden.weight[:, dead] = 0
    hidden.weight[8:16] = 0  # other dimensions than the residual ones: what is read there was written by this layer
    last.weight[:, 8:16] = 0
    replace_norms(model)
    student = narrow(model, 0.75)
    assert student.config.hidden_size == 24
    replace_norms(student)
    np.testing.assert_allclose(logits(student, trial_data), logits(model, trial_data), atol=1e-5)


def replace_norms(model: torch.nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.forward = lambda hidden: hidden  # type: ignore[method-assign]


def first_norm(model: torch.nn.Module) -> torch.nn.LayerNorm:
    return next(module for module in model.modules() if isinstance(module, torch.nn.LayerNorm))


@torch.no_grad()
def test_the_largest_are_kept_in_their_order(model: PreTrainedModel) -> None:
    large = [1, 6, 7, 8, 13, 19, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31]
    embedding = model.get_input_embeddings()
    norm = first_norm(model)
    norm.weight[large] *= torch.arange(101, 117)
    first = next(encoder.layers_of(model))
    for head in (1, 3):
        first.query.weight[head * 8 : head * 8 + 8] *= 100
    neurons = torch.arange(48) % 2 == 1
    first.feed_forward_out.weight[:, neurons] *= 100
    student = narrow(model, 0.5)
    assert torch.equal(first_norm(student).weight, norm.weight[large])
    assert torch.equal(student.get_input_embeddings().weight, embedding.weight[:, large])
    cut = next(encoder.layers_of(student))
    rows = torch.cat([torch.arange(8, 16), torch.arange(24, 32)])
    assert torch.equal(cut.query.weight, first.query.weight[rows][:, large])
    assert torch.equal(cut.query.bias, first.query.bias[rows])
    assert torch.equal(cut.attention_output.weight, first.attention_output.weight[large][:, rows])
    assert torch.equal(cut.feed_forward_out.weight, first.feed_forward_out.weight[large][:, neurons])


@torch.no_grad()
def test_large_weights_that_read_a_small_gain_do_not_count_for_more(model: PreTrainedModel) -> None:
    before = residual_importance(model, axes_of(model))
    assert (before > 0).all()
    scale = torch.linspace(1, 9, 32)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.weight /= scale
    for name, axes in axes_of(model).items():
        if axes[-1] == "residual" and len(axes) == 2 and "embeddings" not in name:
            model.get_parameter(name).mul_(scale)
    torch.testing.assert_close(residual_importance(model, axes_of(model)), before)


def test_real_shapes_divide() -> None:
    sizes = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
    bert = tiny_model("bert").config
    for name, value in sizes.items():
        setattr(bert, name, value)
    student = narrowed_config(bert, 0.75)
    assert (student.hidden_size, student.num_attention_heads, student.intermediate_size) == (576, 9, 2304)
    assert relation_heads(bert, student) == 12
    bert.hidden_size = 384
    assert relation_heads(bert, narrowed_config(bert, 0.75)) == 12  # 32 and 24 dimensions each


def test_electra_is_narrowed_where_a_stock_configuration_can_say_it(trial_data: TrialData) -> None:
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1}
    common = {**sizes, "intermediate_size": 48, "num_labels": 3, "max_position_embeddings": 40}
    base = ElectraForSequenceClassification(ElectraConfig(embedding_size=32, **common))
    assert narrow(base, 0.5).config.embedding_size == 16
    assert np.isfinite(logits(narrow(base, 0.5), trial_data)).all()
    small = ElectraForSequenceClassification(ElectraConfig(embedding_size=16, **common))
    with pytest.raises(ValueError, match="embeddings 16 wide before layers 32 wide"):
        narrow(small, 0.5)


# What it learns


def test_distillation_loss_against_a_hand_computation() -> None:
    student = torch.tensor([[1.0, 2.0, 0.5]])
    teacher = torch.tensor([[0.0, 3.0, 1.0]])
    temperature, alpha, hard = 2.0, 0.25, 0.7
    p = [math.exp(x / temperature) for x in (0.0, 3.0, 1.0)]
    q = [math.exp(x / temperature) for x in (1.0, 2.0, 0.5)]
    p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
    divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    expected = alpha * hard + (1 - alpha) * temperature**2 * divergence
    soft = TASKS["multiclass"].divergence(student, teacher, temperature)
    assert float(distillation_loss(soft, torch.tensor(hard), alpha, temperature)) == pytest.approx(expected)


def test_the_divergence_of_a_multilabel_task_is_that_of_bernoulli_distributions() -> None:
    student, teacher, temperature = [[1.0, -2.0], [0.5, 3.0]], [[0.0, -3.0], [1.0, 1.0]], 2.0

    def of_one(theirs: float, ours: float) -> float:
        p, q = (1 / (1 + math.exp(-x / temperature)) for x in (theirs, ours))
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

    expected = sum(of_one(t, s) for a, b in zip(teacher, student, strict=True) for t, s in zip(a, b, strict=True)) / 2
    found = TASKS["multilabel"].divergence(torch.tensor(student), torch.tensor(teacher), temperature)
    assert float(found) == pytest.approx(expected)
    same = TASKS["multilabel"].divergence(torch.tensor(teacher), torch.tensor(teacher), temperature)
    assert float(same) == pytest.approx(0, abs=1e-7)


def test_the_teachers_logits_are_computed_once(
    model: PreTrainedModel,
    trial_data: TrialData,
    own_teacher: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = started("distillation", own_teacher, model, trial_data)
    live = predict(TorchRunner(model).logits, trial_data.train, trial_data.pad_token_id)
    np.testing.assert_allclose(first._teacher_logits.numpy(), live, atol=1e-6)
    monkeypatch.setattr("trainables.parts.training.teaching.predict", None)  # a second computation would fail
    second = started("distillation", own_teacher, model, trial_data)
    assert torch.equal(first._teacher_logits, second._teacher_logits)


def vectors(width: int, seed: int, length: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {part: torch.randn(2, length, width, generator=generator) for part in PROJECTIONS}


def relations_by_hand(rows: np.ndarray) -> np.ndarray:
    scores = rows @ rows.T / math.sqrt(rows.shape[1])
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def test_relation_loss_against_a_hand_computation() -> None:
    student, teacher = vectors(4, 1), vectors(8, 2)
    lengths, heads = (4, 2), 2
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    total = 0.0
    for part in PROJECTIONS:
        divergences = []
        for text, length in enumerate(lengths):
            for head in range(heads):
                p = relations_by_hand(teacher[part][text, :length, head * 4 : head * 4 + 4].double().numpy())
                q = relations_by_hand(student[part][text, :length, head * 2 : head * 2 + 2].double().numpy())
                divergences += list((p * np.log(p / q)).sum(axis=1))
        total += float(np.mean(divergences))
    assert float(relation_loss(student, teacher, mask, heads)) == pytest.approx(total, rel=1e-5)


@torch.no_grad()
def sharpen(model: PreTrainedModel) -> None:
    """Freshly drawn projections are so small that all relations are alike."""
    for layer in encoder.layers_of(model):
        for part in PROJECTIONS:
            getattr(layer, part).weight.mul_(20)


def inputs(data: TrialData, n: int) -> dict[str, torch.Tensor]:
    batch = collate(data.train, np.arange(n), data.pad_token_id)
    return {name: tensor for name, tensor in batch.items() if name != "labels"}


def test_relations_of_a_model_with_itself_are_equal(model: PreTrainedModel, trial_data: TrialData) -> None:
    sharpen(model)
    batch = inputs(trial_data, 6)
    with torch.no_grad(), last_projections(model) as found:
        model(**batch)
    assert {part: tuple(found[part].shape) for part in PROJECTIONS} == dict.fromkeys(
        PROJECTIONS, (*batch["input_ids"].shape, 32)
    )
    assert float(relation_loss(found, found, batch["attention_mask"], 4)) == pytest.approx(0, abs=1e-6)
    layer = list(encoder.layers_of(model))[-1]
    assert not any(getattr(layer, part)._forward_hooks for part in PROJECTIONS)


def test_padding_neither_counts_nor_learns() -> None:
    student, teacher = vectors(8, 3), vectors(16, 4)
    mask = torch.ones(2, 4, dtype=torch.int64)
    alone = relation_loss(student, teacher, mask, 2)
    padded_student = {part: torch.cat([student[part], 9 * vectors(8, 5)[part]], dim=1) for part in PROJECTIONS}
    padded_teacher = {part: torch.cat([teacher[part], 9 * vectors(16, 6)[part]], dim=1) for part in PROJECTIONS}
    for part in PROJECTIONS:
        padded_student[part].requires_grad_()
    padded = relation_loss(padded_student, padded_teacher, torch.cat([mask, 0 * mask], dim=1), 2)
    torch.testing.assert_close(padded, alone)
    padded.backward()
    for part in PROJECTIONS:
        gradient = padded_student[part].grad
        assert gradient is not None
        assert gradient.isfinite().all()
        assert gradient[:, :4].abs().sum() > 0
        assert not gradient[:, 4:].any()


def test_the_live_teacher_is_neither_trained_nor_saved(
    model: PreTrainedModel, trial_data: TrialData, own_teacher: str, tmp_path: Path
) -> None:
    trial = started("distillation-relations", own_teacher, model, trial_data)
    trial.epoch()
    teacher = trial._live_teacher
    assert teacher is not None
    assert not teacher.training
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in teacher.state_dict().items())
    trial.save(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    whole_table = {name for name in trial.model.state_dict() if name.endswith("word_embeddings.embedding.weight")}
    assert saved.keys() == trial.model.state_dict().keys() - whole_table
    layers = encoder.layer_names(model.config).layers
    assert not any(f"{layers}.1." in name for name in saved)  # the student has one layer, the teacher two


def test_no_teacher_is_kept_where_relations_are_not_matched(
    model: PreTrainedModel, trial_data: TrialData, own_teacher: str, tmp_path: Path
) -> None:
    assert started("distillation-relations", own_teacher, model, trial_data)._live_teacher is not None
    trial = started("distillation", own_teacher, model, trial_data)
    assert trial._live_teacher is None
    assert math.isfinite(trial.epoch().train_loss)


@pytest.mark.parametrize("width_ratio", [1.0, 0.75])
def test_a_students_relations_approach_its_teachers(
    model: PreTrainedModel, trial_data: TrialData, own_teacher: str, tmp_path: Path, width_ratio: float
) -> None:
    sharpen(model)
    deploy_torch(model, Path(own_teacher) / "deployed", trial_data)
    changes = {"width_ratio": width_ratio, "matching_weight": 10.0, "dropout": 0.0, "learning_rate": 1e-3}
    trial = started("distillation-relations", own_teacher, model, trial_data, epochs=8, **changes)
    batch = inputs(trial_data, 16)

    @torch.no_grad()
    def distance() -> float:
        trial.forward(batch)
        return float(relation_loss(*trial._vectors, trial._relation_heads))

    before = distance()
    losses = [trial.epoch().train_loss for _ in range(trial.epochs)]
    assert losses[-1] < 0.9 * losses[0]
    assert distance() < 0.7 * before
