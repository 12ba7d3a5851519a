"""What every strategy promises, whatever it does to the model."""

import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
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
from run_folder.folder import Folder
from run_folder.results import DeployedResult, EpochResult, TrialFailed
from run_folder.trials import TrialRecord
from trainables import trainable_class
from trainables.base import TrialConfig, TrialError
from trainables.parts import deployed
from trainables.parts.deployed import ONNX_FILE, predict
from trainables.parts.metrics import classification_metrics, softmax
from trainables.parts.model.encoder import EncoderWeights
from trainables.parts.open_deployed import load_deployed
from tune_jobs.searching.ray_adapters import REPORT, SUGGESTION
from tune_jobs.searching.search import Suggestion
from tune_jobs.searching.trial_actor import SATURATES, RunTrainable

from .conftest import CHANGES, SETTINGS, VARIANTS, configuration, parameters, run_to_end, start, trains

CONTRACT = [name for name in VARIANTS if name not in ("pruning-structured", "combined")]
"""Variants that the contract tests run; two are left out, which "pruning-taylor" and "combined-all" cover."""
TRAINED = [name for name in CONTRACT if trains(name)]
INT8 = ("quantization", "combined")
"""Strategies whose weights have 8 bits or 7."""

Result = EpochResult | DeployedResult


def without_time(result: Any) -> Any:
    return replace(result, seconds=0.0) if isinstance(result, Result) else result


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
    trial = start(variant, config, trial_data, encoder_weights, reduce_range=reduce_range)
    final = run_to_end(trial, tmp_path)
    assert len(trial.results) == (SETTINGS.epochs if trains(variant) else 0)
    assert all(math.isfinite(result.f1) for result in trial.results)
    assert math.isfinite(final.validation.f1)
    deployed = load_deployed(tmp_path / "deployed")
    logits = predict(deployed.logits, trial_data.validation, trial_data.pad_token_id)
    again = classification_metrics(trial_data.validation.labels, softmax(logits), trial_data.symptoms)
    assert final.validation == again
    assert final.figure("f1") == again.f1
    weights = [p for p in (tmp_path / "deployed").iterdir() if p.suffix in (".onnx", ".safetensors")]
    assert final.bytes == sum(p.stat().st_size for p in weights)
    assert 0 < final.nonzero_parameters <= final.parameters
    assert (final.int8 is None) == (final.runtime == "torch")
    if variant.startswith(INT8):
        assert largest_int8(tmp_path / "deployed") == (64 if reduce_range else 127)


def largest_int8(directory: Path) -> int:
    """The largest INT8 weight of a deployed graph, as an integer."""
    arrays = [numpy_helper.to_array(tensor) for tensor in onnx.load(directory / ONNX_FILE).graph.initializer]
    return max(int(np.abs(array.astype(int)).max()) for array in arrays if array.dtype == np.int8 and array.ndim == 2)


@pytest.mark.parametrize("variant", TRAINED)
def test_training_learns(variant: str, teacher: str, trial_data: TrialData, encoder_weights: EncoderWeights) -> None:
    epochs = 6 if variant in CHANGES else 40  # a strategy without an entry in CHANGES learns more slowly
    trial = start(variant, configuration(variant, teacher), trial_data, encoder_weights, epochs=epochs)
    results = [trial.epoch() for _ in range(epochs)]
    assert results[-1].train_loss < 0.9 * results[0].train_loss


class Worker:
    """Continues trials in a process that never saw them begin."""

    def continued(
        self,
        variant: str,
        config: TrialConfig,
        data: TrialData,
        weights: EncoderWeights,
        home: Path,
        checkpoint: Path,
    ) -> list[Result]:
        trial = start(variant, config, data, weights)
        trial.load(checkpoint)
        final = run_to_end(trial, home)
        return [*trial.results, final]


@pytest.fixture(scope="module")
def actor() -> Iterator[Any]:
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield ray.remote(Worker).remote()
    ray.shutdown()


@pytest.mark.parametrize("variant", TRAINED)
def test_a_checkpoint_continues_in_a_fresh_actor_as_if_never_interrupted(
    variant: str, teacher: str, trial_data: TrialData, encoder_weights: EncoderWeights, tmp_path: Path, actor: Any
) -> None:
    config = configuration(variant, teacher)
    straight = start(variant, config, trial_data, encoder_weights)
    final = run_to_end(straight, tmp_path / "a")
    expected = [without_time(result) for result in (*straight.results, final)]

    first = start(variant, config, trial_data, encoder_weights)
    first.epoch()
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    first.save(checkpoint)
    later = actor.continued.remote(variant, config, trial_data, encoder_weights, tmp_path / "c", checkpoint)
    assert [without_time(result) for result in ray.get(later)] == expected


@pytest.mark.parametrize("variant", CONTRACT)
def test_a_new_trial_in_a_used_process_equals_one_in_a_fresh_process(
    variant: str, teacher: str, trial_data: TrialData, encoder_weights: EncoderWeights, tmp_path: Path
) -> None:
    """One process of Ray's runs one trial after another."""
    used = adapter(variant, 1, teacher, trial_data, encoder_weights, tmp_path / "a")
    used.step()
    used.config = ray_config(variant, 2)
    assert used.reset_config(used.config)
    fresh = adapter(variant, 2, teacher, trial_data, encoder_weights, tmp_path / "b")
    expected, got = parameters(fresh._start()), parameters(used._start())
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    first, again = (without_time(trainable.step()[REPORT].result) for trainable in (fresh, used))
    assert isinstance(first, Result)
    assert again == first


def ray_config(variant: str, seed: int, **changes: Any) -> dict[str, Any]:
    strategy = variant.partition("-")[0]
    hyperparameters = {**configuration(variant, "teacher").hyperparameters, **changes}
    teacher = "teacher" if trainable_class(strategy).needs_teacher else None
    record = TrialRecord(f"{strategy}-{seed:04d}", strategy, 0, seed, hyperparameters, {}, teacher)
    return {SUGGESTION: Suggestion(record), "cpus": 1, "gpus": 0}


def adapter(
    variant: str, seed: int, teacher: str, data: TrialData, weights: EncoderWeights, home: Path
) -> RunTrainable:
    """The Ray Tune trainable in a run's folder, without Ray around it."""
    shutil.copytree(teacher, home / "teacher")
    trainable = RunTrainable.__new__(RunTrainable)
    trainable.config = ray_config(variant, seed)
    trainable.setup(trainable.config, data, weights, SETTINGS, Folder(home))
    return trainable


@pytest.mark.parametrize("variant", ["quantization-ptq"])
@pytest.mark.parametrize(
    ("reduce_range", "overflows", "warned"), [(False, True, True), (False, False, False), (True, True, False)]
)
def test_a_trial_whose_cpu_may_saturate_on_its_8_bit_model_says_so_once(
    variant: str,
    reduce_range: bool,
    overflows: bool,
    warned: bool,
    teacher: str,
    trial_data: TrialData,
    encoder_weights: EncoderWeights,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deployed, "int8_overflows", lambda: overflows)
    trainable = adapter(variant, 1, teacher, trial_data, encoder_weights, tmp_path)
    trainable._settings = replace(SETTINGS, reduce_range=reduce_range)
    report = trainable.step()[REPORT]
    assert isinstance(report.result, DeployedResult)
    assert report.warnings == ((SATURATES,) if warned else ())


@pytest.mark.parametrize("variant", TRAINED)
def test_a_checkpoint_is_safetensors_and_plain_data(
    variant: str, teacher: str, trial_data: TrialData, encoder_weights: EncoderWeights, tmp_path: Path
) -> None:
    trial = start(variant, configuration(variant, teacher), trial_data, encoder_weights)
    trial.epoch()
    trial.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir() if path.is_file()} == {".safetensors", ".json"}
    assert "random.torch" in load_file(tmp_path / "training.safetensors")


@pytest.mark.parametrize("variant", TRAINED)
def test_a_non_finite_loss_ends_the_trial_with_its_reason(
    variant: str, teacher: str, trial_data: TrialData, encoder_weights: EncoderWeights, tmp_path: Path
) -> None:
    rates = [name for name in configuration(variant, teacher).hyperparameters if name.endswith("learning_rate")]
    config = configuration(variant, teacher, **dict.fromkeys(rates, 1e30))
    with pytest.raises(TrialError, match=r"^non-finite"):
        run_to_end(start(variant, config, trial_data, encoder_weights), tmp_path)
    assert not (tmp_path / "deployed").exists()


def test_the_reason_of_a_failed_trial_is_reported_without_the_errors_name(
    teacher: str, trial_data: TrialData, encoder_weights: EncoderWeights, tmp_path: Path
) -> None:
    trainable = adapter("baseline", 1, teacher, trial_data, encoder_weights, tmp_path)
    trainable.reset_config(ray_config("baseline", 1, learning_rate=1e30))
    reports = (trainable.step()[REPORT].result for _ in range(SETTINGS.epochs))
    failure = next(result for result in reports if isinstance(result, TrialFailed))
    assert failure.reason.startswith("non-finite")


def test_the_shared_weights_are_copied_not_trained(
    teacher: str, trial_data: TrialData, encoder_weights: EncoderWeights
) -> None:
    before = {name: array.copy() for name, array in encoder_weights.arrays.items()}
    start("baseline", configuration("baseline", teacher), trial_data, encoder_weights).epoch()
    assert all((before[name] == array).all() for name, array in encoder_weights.arrays.items())
