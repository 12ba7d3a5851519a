"""What every strategy promises, whatever it does to the model."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import ray
import torch
from onnx import numpy_helper
from safetensors.torch import load_file

from clinical_notes.batches import TrialData
from tests.export_cache import ExportCache
from trainables.parts.deployed import ONNX_FILE, predict
from trainables.parts.metrics import classification_metrics, softmax
from trainables.parts.model.encoder import EncoderWeights
from trainables.parts.open_deployed import load_deployed

from .conftest import SETTINGS, UNTRAINED, VARIANTS, configuration, parameters, run_to_end, start

CONTRACT = [name for name in VARIANTS if name not in ("pruning-structured", "combined")]
"""Two do nothing that "pruning-taylor" and "combined-all" don't."""
TRAINED = [name for name in CONTRACT if name not in UNTRAINED]
INT8 = ("quantization", "combined")
"""Strategies whose weights have 8 bits or 7."""


def without_time(result: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in result.items() if name != "seconds"}
    if "final" in kept:
        kept["final"] = {name: value for name, value in kept["final"].items() if name != "seconds"}
    return kept


@pytest.mark.parametrize(
    ("variant", "reduce_range"),
    [(name, False) for name in CONTRACT] + [(name, True) for name in CONTRACT if name.startswith(INT8)],
)
def test_a_trial_ends_in_a_deployed_model_whose_figures_are_the_reported_ones(
    variant: str,
    reduce_range: bool,
    teacher: str,
    trial_data: TrialData,
    encoder_weights: EncoderWeights,
    tmp_path: Path,
) -> None:
    config = configuration(variant, teacher)
    trainable = start(variant, config, trial_data, encoder_weights, tmp_path, reduce_range=reduce_range)
    results = run_to_end(trainable)
    assert len(results) == (1 if variant in UNTRAINED else SETTINGS.epochs + 1)
    assert all(math.isfinite(result["f1"]) for result in results)
    final = results[-1]["final"]
    deployed = load_deployed(tmp_path / "deployed")
    logits = predict(deployed.logits, trial_data.validation, trial_data.pad_token_id)
    again = classification_metrics(trial_data.validation.labels, softmax(logits), trial_data.symptoms)
    assert final["validation"] == again
    assert results[-1]["f1"] == again["f1"]
    weights = [p for p in (tmp_path / "deployed").iterdir() if p.suffix in (".onnx", ".safetensors")]
    assert final["bytes"] == sum(p.stat().st_size for p in weights)
    assert 0 < final["nonzero_parameters"] <= final["parameters"]
    if variant.startswith(INT8):
        assert largest_int8(tmp_path / "deployed") == (64 if reduce_range else 127)


def largest_int8(directory: Path) -> int:
    """Of a deployed graph's weights, in steps of their grid."""
    arrays = [numpy_helper.to_array(tensor) for tensor in onnx.load(directory / ONNX_FILE).graph.initializer]
    return max(int(np.abs(array.astype(int)).max()) for array in arrays if array.dtype == np.int8 and array.ndim == 2)


@pytest.mark.parametrize("variant", TRAINED)
def test_training_learns(
    variant: str, teacher: str, trial_data: TrialData, encoder_weights: EncoderWeights, tmp_path: Path
) -> None:
    trainable = start(variant, configuration(variant, teacher), trial_data, encoder_weights, tmp_path, epochs=6)
    results = [trainable.step() for _ in range(6)]
    assert results[-1]["train_loss"] < 0.9 * results[0]["train_loss"]


class Worker:
    """Continues trials in a process that never saw them begin."""

    def __init__(self, exports: ExportCache) -> None:
        self._exports = exports

    def continued(
        self,
        variant: str,
        config: dict[str, Any],
        data: TrialData,
        weights: EncoderWeights,
        workdir: Path,
        checkpoint: Path,
    ) -> list[dict[str, Any]]:
        trainable = start(variant, config, data, weights, workdir)
        trainable.load_checkpoint(str(checkpoint))
        with self._exports.installed():
            return run_to_end(trainable)


@pytest.fixture(scope="module")
def actor(export_cache: ExportCache) -> Iterator[Any]:
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield ray.remote(Worker).remote(export_cache)
    ray.shutdown()


@pytest.mark.parametrize("variant", TRAINED)
def test_a_checkpoint_continues_in_a_fresh_actor_as_if_never_interrupted(
    variant: str, teacher: str, trial_data: TrialData, encoder_weights: EncoderWeights, tmp_path: Path, actor: Any
) -> None:
    config = configuration(variant, teacher)
    straight = start(variant, config, trial_data, encoder_weights, tmp_path / "a")
    expected = [without_time(result) for result in run_to_end(straight)]

    first = start(variant, config, trial_data, encoder_weights, tmp_path / "b")
    first.step()
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    first.save_checkpoint(str(checkpoint))
    later = actor.continued.remote(variant, config, trial_data, encoder_weights, tmp_path / "c", checkpoint)
    assert [without_time(result) for result in ray.get(later)] == expected[1:]


@pytest.mark.parametrize("variant", CONTRACT)
def test_reset_equals_a_fresh_start(
    variant: str, teacher: str, trial_data: TrialData, encoder_weights: EncoderWeights, tmp_path: Path
) -> None:
    used = start(variant, configuration(variant, teacher, seed=1), trial_data, encoder_weights, tmp_path / "a")
    used.step()
    assert used.reset_config(configuration(variant, teacher, seed=2))
    fresh = start(variant, configuration(variant, teacher, seed=2), trial_data, encoder_weights, tmp_path / "b")
    expected, got = parameters(fresh), parameters(used)
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    torch.manual_seed(2)
    reset_result = without_time(used.step())
    torch.manual_seed(2)
    assert reset_result == without_time(fresh.step())


@pytest.mark.parametrize("variant", TRAINED)
def test_a_checkpoint_is_safetensors_and_plain_data(
    variant: str, teacher: str, trial_data: TrialData, encoder_weights: EncoderWeights, tmp_path: Path
) -> None:
    trainable = start(variant, configuration(variant, teacher), trial_data, encoder_weights, tmp_path)
    trainable.step()
    trainable.save_checkpoint(str(tmp_path))
    assert {path.suffix for path in tmp_path.iterdir() if path.is_file()} == {".safetensors", ".json"}
    assert "random.torch" in load_file(tmp_path / "training.safetensors")


@pytest.mark.parametrize("variant", TRAINED)
def test_a_non_finite_loss_ends_the_trial_with_its_reason(
    variant: str, teacher: str, trial_data: TrialData, encoder_weights: EncoderWeights, tmp_path: Path
) -> None:
    config = configuration(variant, teacher)
    rates = [name for name in config["hyperparameters"] if name.endswith("learning_rate")]
    config["hyperparameters"] |= dict.fromkeys(rates, 1e30)
    results = run_to_end(start(variant, config, trial_data, encoder_weights, tmp_path))
    assert results[-1]["failed"].startswith("non-finite")
    assert not (tmp_path / "deployed").exists()


def test_the_shared_weights_are_copied_not_trained(
    teacher: str, trial_data: TrialData, encoder_weights: EncoderWeights, tmp_path: Path
) -> None:
    before = {name: array.copy() for name, array in encoder_weights.arrays.items()}
    start("baseline", configuration("baseline", teacher), trial_data, encoder_weights, tmp_path).step()
    assert all((before[name] == array).all() for name, array in encoder_weights.arrays.items())
