"""Low rank: LoRA's ranks and merging; layers factorised by truncated SVD, on every architecture's names of layers."""

import dataclasses
from pathlib import Path

import pytest
import torch
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel

from clinical_notes.batches import TrialData
from trainables.parts.deployed import predict
from trainables.parts.model import encoder, factorisation, stored
from trainables.parts.model.encoder import EncoderWeights
from trainables.parts.model.factorisation import factorise_layers, input_moments, low_rank_factors, rank_for
from trainables.parts.model.lora import layer_ranks, target_paths
from trainables.parts.model.surgery import FactorisedLinear
from trainables.parts.open_deployed import load_deployed
from trainables.parts.training.seen_words import restore_words

from .conftest import configuration, logits, parameters, run_to_end, start

PATTERNS = {"uniform": [8, 8], "upper": [4, 16], "lower": [16, 4]}


def flat(paths: list[list[str]]) -> list[str]:
    return [path for layer in paths for path in layer]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_lora_merged_equals_unmerged(
    pattern: str, model: PreTrainedModel, trial_data: TrialData, tmp_path: Path
) -> None:
    config = configuration("low_rank", "", **{"rank": 8, "rank_pattern": pattern, "targets": "all"})
    trial = start("low_rank", config, trial_data, EncoderWeights.of(model))
    trial.epoch()
    unmerged = logits(trial.model, trial_data)
    trial.write_model(tmp_path)
    merged = stored.load_model(tmp_path)
    assert merged.state_dict().keys() == model.state_dict().keys()
    torch.testing.assert_close(logits(merged, trial_data), unmerged, atol=1e-5, rtol=0)


def test_lora_trains_the_asked_projections_and_the_head_alone(
    model: PreTrainedModel, trial_data: TrialData, tmp_path: Path
) -> None:
    config = configuration("low_rank", "", **{"targets": "query_value"})
    trial = start("low_rank", config, trial_data, EncoderWeights.of(model))
    trained = [name for name, p in trial.model.named_parameters() if p.requires_grad]
    lora = [name for name in trained if "lora_" in name]
    names = encoder.layer_names(model.config)
    assert len(lora) == 2 * 2 * 2  # layers, projections, A and B
    assert all(names.query in name or names.value in name for name in lora)
    assert all("lora_" in name or "classifier" in name or "pooler" in name for name in trained)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_rank_pattern_changes_ranks_and_not_the_scale(
    pattern: str, model: PreTrainedModel, trial_data: TrialData, tmp_path: Path
) -> None:
    config = configuration("low_rank", "", **{"rank": 8, "rank_pattern": pattern, "lora_alpha_ratio": 1.5})
    trial = start("low_rank", config, trial_data, EncoderWeights.of(model))
    adapted = [module for module in trial.model.modules() if isinstance(module, LoraLayer)]
    assert [module.r["default"] for module in adapted] == [rank for rank in PATTERNS[pattern] for _ in range(4)]
    assert {module.scaling["default"] for module in adapted} == {1.5}


def test_ranks_of_an_odd_number_of_layers_and_the_least_rank() -> None:
    assert layer_ranks(8, "upper", 5) == [4, 4, 8, 16, 16]
    assert layer_ranks(8, "lower", 5) == [16, 16, 8, 4, 4]
    assert layer_ranks(1, "upper", 2) == [1, 2]
    assert layer_ranks(8, "lower", 1) == [8]


def test_a_rank_keeps_the_asked_fraction_and_never_more_than_the_layer() -> None:
    assert rank_for(768, 768, 0.5) == 192
    assert rank_for(768, 3072, 0.25) == 154
    assert rank_for(32, 32, 0.001) == 1
    assert rank_for(32, 48, 1.0) == 19  # 19.2; the factors must be smaller than the layer
    assert rank_for(32, 32, 1.0) == 15
    assert rank_for(2, 2, 0.5) == rank_for(1, 9, 0.5) == 0


def unequal_inputs(width: int) -> torch.Tensor:
    """(width, texts) correlated, of scales from 0.1 to 10."""
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return torch.logspace(-1, 1, width, dtype=torch.float64)[:, None] * (
        mixing @ torch.randn(width, 400, generator=generator, dtype=torch.float64)
    )


@pytest.mark.parametrize("shape", [(24, 24), (40, 24), (24, 40)])
def test_factors_that_know_the_inputs_have_the_least_output_error_there_is(shape: tuple[int, int]) -> None:
    weight, inputs = torch.randn(shape, generator=torch.Generator().manual_seed(2)), unequal_inputs(shape[1])
    exact = weight.double() @ inputs

    def error(moments: torch.Tensor | None) -> float:
        down, up = low_rank_factors(weight, moments, 6)
        assert down.shape == (6, shape[1])
        assert up.shape == (shape[0], 6)
        torch.testing.assert_close(up.T @ up, down @ down.T)
        return float((exact - up @ down @ inputs).norm())

    least = float(torch.linalg.svdvals(exact)[6:].norm())  # Eckart and Young, for the outputs
    assert least <= error(inputs @ inputs.T) < 1.01 * least  # the ridge costs the rest
    assert error(inputs @ inputs.T) < 0.6 * error(None)


def test_white_inputs_give_the_truncated_svd_of_the_weight() -> None:
    weight = torch.randn(20, 12, generator=torch.Generator().manual_seed(2))
    u, s, vh = torch.linalg.svd(weight.double(), full_matrices=False)
    for moments in (None, 37 * torch.eye(12, dtype=torch.float64)):
        down, up = low_rank_factors(weight, moments, 5)
        torch.testing.assert_close(up @ down, u[:, :5] * s[:5] @ vh[:5])


def test_full_rank_changes_nothing(
    model: PreTrainedModel, trial_data: TrialData, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = logits(model, trial_data)
    monkeypatch.setattr(factorisation, "rank_for", lambda inputs, outputs, kept: min(inputs, outputs))
    factorise_layers(model, flat(target_paths(model, "all")), 1.0, trial_data)
    assert sum(isinstance(module, FactorisedLinear) for module in model.modules()) == 2 * 6
    torch.testing.assert_close(logits(model, trial_data), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_moments_are_those_of_the_texts_without_padding(model: PreTrainedModel, trial_data: TrialData) -> None:
    path = target_paths(model, "attention")[0][0]
    model.eval()
    expected = torch.zeros(32, 32, dtype=torch.float64)
    train = trial_data.train
    for start_of, end in zip(train.offsets, train.offsets[1:], strict=False):
        ids = torch.from_numpy(train.tokens[start_of:end]).long()[None]
        first = model(input_ids=ids, output_hidden_states=True).hidden_states[0][0].double()
        expected += first.T @ first
    torch.testing.assert_close(input_moments(model, [path], trial_data)[path], expected, atol=1e-3, rtol=1e-5)


def test_factors_start_the_same_whatever_the_random_state(
    model: PreTrainedModel, trial_data: TrialData, tmp_path: Path
) -> None:
    weights, config = EncoderWeights.of(model), configuration("low_rank-svd", "", seed=1, dropout=0.3)
    first = parameters(start("low_rank-svd", config, trial_data, weights))
    second = parameters(start("low_rank-svd", dataclasses.replace(config, seed=2), trial_data, weights))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("targets", "factorised"), [("attention", 4), ("feed_forward", 2), ("all", 6)])
def test_the_asked_layers_shrink_as_asked(
    targets: str, factorised: int, model: PreTrainedModel, trial_data: TrialData, tmp_path: Path
) -> None:
    config = configuration("low_rank-svd", "", **{"svd_targets": targets, "kept_parameters": 0.4})
    trial = start("low_rank-svd", config, trial_data, EncoderWeights.of(model))
    for path in flat(target_paths(model, targets)):
        full, pair = model.get_submodule(path), trial.model.get_submodule(path)
        assert isinstance(pair, FactorisedLinear)
        kept = (pair.down.weight.numel() + pair.up.weight.numel()) / full.weight.numel()
        assert kept == pytest.approx(0.4, abs=0.04)
    assert sum(isinstance(module, FactorisedLinear) for module in trial.model.modules()) == 2 * factorised
    restore_words(trial.model)
    assert sum(p.numel() for p in trial.model.parameters()) < sum(p.numel() for p in model.parameters())
    assert all(p.requires_grad for p in trial.model.parameters())
    assert trial.optimizer.param_groups[0]["lr"] == config.hyperparameters["svd_learning_rate"]


@pytest.mark.parametrize("init", ["activations", "weights"])
def test_the_start_is_that_which_was_asked(
    init: str, encoder_weights: EncoderWeights, trial_data: TrialData, tmp_path: Path
) -> None:
    config = configuration("low_rank-svd", "", **{"svd_init": init})
    trial = start("low_rank-svd", config, trial_data, encoder_weights)
    model = encoder_weights.build()
    path = target_paths(model, "all")[1][0]
    pair = trial.model.get_submodule(path)
    moments = input_moments(model, [path], trial_data)[path] if init == "activations" else None
    down, up = low_rank_factors(model.get_submodule(path).weight.detach(), moments, pair.rank)
    torch.testing.assert_close(pair.up.weight @ pair.down.weight, (up @ down).float())


def test_a_factorised_model_reloads_as_it_was(model: PreTrainedModel, trial_data: TrialData, tmp_path: Path) -> None:
    trial = start("low_rank-svd", configuration("low_rank-svd", ""), trial_data, EncoderWeights.of(model), epochs=1)
    trial.epoch()
    trained = logits(trial.model, trial_data)
    final = trial.deploy(tmp_path / "deployed")
    deployed = load_deployed(tmp_path / "deployed")
    assert (predict(deployed.logits, trial_data.validation, trial_data.pad_token_id) == trained).all()
    assert final.scheme == deployed.card.scheme == "svd"
    assert final.parameters == sum(p.numel() for p in trial.model.parameters())
    full = tmp_path / "full"
    stored.save_model(model, full)
    assert final.bytes < (full / stored.WEIGHTS_FILE).stat().st_size


def test_the_card_of_a_merged_model_says_so(
    encoder_weights: EncoderWeights, trial_data: TrialData, tmp_path: Path
) -> None:
    trial = start("low_rank", configuration("low_rank", ""), trial_data, encoder_weights)
    assert run_to_end(trial, tmp_path).scheme == "lora"
