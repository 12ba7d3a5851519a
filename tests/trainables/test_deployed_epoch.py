"""Which epoch's model a trial deploys."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clinical_notes.batches import TrialData
from run_folder.results import DeployedResult, EpochResult, Metrics
from run_folder.settings import DeployedEpoch
from trainables.base import Trial
from trainables.parts.deployed import predict
from trainables.parts.model.encoder import EncoderWeights
from trainables.parts.open_deployed import load_deployed

from .conftest import configuration, logits, run_to_end, start

F1 = (0.9, 0.8, 0.1)
"""Of three epochs; the first is the best of all, the second the best of those after it."""
EARLY: dict[str, Any] = {"schedule_end": 0.5}
"""A pruned model has its ratio in the second of three epochs."""


def begun(
    variant: str, data: TrialData, weights: EncoderWeights, teacher: str, deploy: DeployedEpoch, f1: tuple[float, ...]
) -> Trial:
    """A trial whose epochs have these figures, whatever it learns."""
    changes = EARLY if variant.startswith("pruning") else {}
    trial = start(variant, configuration(variant, teacher, **changes), data, weights, epochs=len(f1), deploy=deploy)
    measured = trial.validate

    def validate() -> tuple[Metrics, float]:
        metrics, loss = measured()
        return replace(metrics, f1=f1[len(trial.results)]), loss

    trial.validate = validate  # type: ignore[method-assign]
    return trial


def without_time(result: EpochResult | DeployedResult) -> EpochResult | DeployedResult:
    return replace(result, seconds=0.0)


@pytest.mark.parametrize(
    ("variant", "deploy", "epoch"),
    [
        ("baseline", "best", 1),
        ("baseline", "last", 3),
        ("low_rank", "best", 1),
        ("low_rank", "last", 3),
        ("pruning-structured", "best", 2),  # the first is not pruned as far as asked
        ("pruning-structured", "last", 3),
    ],
)
def test_the_deployed_model_is_that_of_the_epoch_asked_for(
    variant: str,
    deploy: DeployedEpoch,
    epoch: int,
    teacher: str,
    trial_data: TrialData,
    encoder_weights: EncoderWeights,
    tmp_path: Path,
) -> None:
    trial = begun(variant, trial_data, encoder_weights, teacher, deploy, F1)
    after = {}
    while not trial.is_trained:
        number = trial.epoch().epoch
        after[number] = logits(trial.model, trial_data)
    final = trial.deploy(tmp_path / "deployed")
    assert final.epoch == epoch
    written = predict(load_deployed(tmp_path / "deployed").logits, trial_data.validation, trial_data.pad_token_id)
    distances = {number: float(np.abs(written - before).max()) for number, before in after.items()}
    assert min(distances, key=lambda number: distances[number]) == epoch
    np.testing.assert_allclose(written, after[epoch], atol=1e-4)


def test_what_is_deployed_changes_no_epoch_by_which_trials_race(
    teacher: str, trial_data: TrialData, encoder_weights: EncoderWeights, tmp_path: Path
) -> None:
    results = {}
    for deploy in ("best", "last"):
        trial = begun("baseline", trial_data, encoder_weights, teacher, deploy, F1)
        run_to_end(trial, tmp_path / deploy)
        results[deploy] = [without_time(result) for result in trial.results]
    assert results["last"] == results["best"]


@pytest.mark.parametrize("done", [1, 2, 3])
@pytest.mark.parametrize("deploy", ["best", "last"])
@pytest.mark.parametrize("variant", ["baseline", "pruning-taylor", "quantization"])
def test_a_trial_continued_after_any_epoch_deploys_the_same_model(
    variant: str,
    deploy: DeployedEpoch,
    done: int,
    teacher: str,
    trial_data: TrialData,
    encoder_weights: EncoderWeights,
    tmp_path: Path,
) -> None:
    straight = begun(variant, trial_data, encoder_weights, teacher, deploy, F1)
    expected = run_to_end(straight, tmp_path / "straight")

    first = begun(variant, trial_data, encoder_weights, teacher, deploy, F1)
    for _ in range(done):
        first.epoch()
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    first.save(checkpoint)
    again = begun(variant, trial_data, encoder_weights, teacher, deploy, F1)
    again.load(checkpoint)
    assert without_time(run_to_end(again, tmp_path / "again")) == without_time(expected)
    assert [without_time(result) for result in again.results] == [without_time(result) for result in straight.results]
