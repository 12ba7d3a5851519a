"""Every strategy in a multilabel task: it learns, and deploys a model with the figures that it reports."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from clinical_notes.batches import TokenisedExamples, TrialData
from run_folder.records import from_plain, to_plain
from run_folder.results import DeployedResult
from tests.conftest import tiny_model
from trainables.parts.calibration import logit_scale
from trainables.parts.deployed import TorchRunner, deploy_torch, predict
from trainables.parts.model.encoder import ARCHITECTURES, EncoderWeights, start_at_shares
from trainables.parts.model.stored import load_model
from trainables.parts.open_deployed import load_deployed
from trainables.parts.tasks import TASKS, choose_thresholds

from .conftest import VARIANTS, configuration, run_to_end, start, trains

MULTILABEL = TASKS["multilabel"]


def several(examples: TokenisedExamples) -> TokenisedExamples:
    """Of three texts one reports its class, one its class and the next, and one nothing."""
    classes, kinds = examples.labels, np.arange(len(examples)) // 3 % 3
    labels = np.zeros((len(examples), 3), np.float32)
    labels[np.arange(len(examples)), classes] = kinds < 2
    labels[np.arange(len(examples)), (classes + 1) % 3] = kinds == 1
    return dataclasses.replace(examples, labels=labels)


@pytest.fixture(scope="module")
def data(trial_data: TrialData) -> TrialData:
    train, validation = several(trial_data.train), several(trial_data.validation)
    return dataclasses.replace(trial_data, train=train, validation=validation, task="multilabel")


@pytest.fixture(scope="module")
def encoder(data: TrialData) -> EncoderWeights:
    model = tiny_model("bert")
    model.config.problem_type = MULTILABEL.problem_type
    return EncoderWeights.of(model)


@pytest.fixture(scope="module")
def own_teacher(encoder: EncoderWeights, data: TrialData, tmp_path_factory: pytest.TempPathFactory) -> str:
    home = tmp_path_factory.mktemp("teacher")
    deploy_torch(encoder.build(), home / "deployed", data)
    return str(home)


@pytest.mark.parametrize("variant", VARIANTS)
def test_figures_and_thresholds_are_those_of_the_deployed_model(
    variant: str, own_teacher: str, data: TrialData, encoder: EncoderWeights, tmp_path: Path
) -> None:
    trial = start(variant, configuration(variant, own_teacher), data, encoder, epochs=3)
    final = run_to_end(trial, tmp_path)
    if trains(variant):
        assert trial.results[-1].train_loss < trial.results[0].train_loss
    deployed = load_deployed(tmp_path / "deployed")
    logits = predict(deployed.logits, data.validation, data.pad_token_id)
    scale = logit_scale(final.temperatures, data.symptoms)
    assert scale is not None
    assert (scale != 1).all()
    probabilities = MULTILABEL.probabilities(logits * scale)
    thresholds = choose_thresholds(data.validation.labels >= 0.5, probabilities)
    assert final.thresholds == dict(zip(data.symptoms, thresholds.tolist(), strict=True))
    assert final.validation == MULTILABEL.metrics(data.validation.labels, probabilities, data.symptoms, thresholds)
    plain = MULTILABEL.probabilities(logits)
    without = choose_thresholds(data.validation.labels >= 0.5, plain)
    assert ((probabilities >= thresholds) == (plain >= without)).all()
    assert final.validation.micro is not None
    assert from_plain(to_plain(final), DeployedResult, "trial") == final
    config = json.loads((tmp_path / "deployed" / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"


def test_a_teacher_teaches_the_logits_that_it_was_trained_to(
    data: TrialData, encoder: EncoderWeights, tmp_path: Path
) -> None:
    """Its temperatures are of its answers: students learn from its logits, and INT8 models start from its weights."""
    teacher = start("baseline", configuration("baseline", ""), data, encoder)
    final = run_to_end(teacher, tmp_path)
    assert final.temperatures is not None
    trained = predict(TorchRunner(teacher.transformer).logits, data.train, data.pad_token_id)
    stored = predict(TorchRunner(load_model(tmp_path / "deployed")).logits, data.train, data.pad_token_id)
    np.testing.assert_array_equal(stored, trained)
    student = start("distillation", configuration("distillation", str(tmp_path)), data, encoder)
    read = student.teacher_logits_of(np.arange(len(data.train)))
    np.testing.assert_array_equal(read.numpy(), trained)


@pytest.mark.parametrize("variant", ["baseline", "distillation", "pruning-structured"])
def test_a_resumed_trial_answers_as_one_that_nothing_stopped(
    variant: str, own_teacher: str, data: TrialData, encoder: EncoderWeights, tmp_path: Path
) -> None:
    config = configuration(variant, own_teacher)
    straight = run_to_end(start(variant, config, data, encoder, epochs=3), tmp_path / "straight")
    stopped = start(variant, config, data, encoder, epochs=3)
    first_epoch = stopped.epoch()
    assert first_epoch.per_symptom is not None
    assert list(first_epoch.per_symptom) == list(data.symptoms)
    assert first_epoch.f1 == pytest.approx(np.mean([scores.f1 for scores in first_epoch.per_symptom.values()]))
    (tmp_path / "checkpoint").mkdir()
    stopped.save(tmp_path / "checkpoint")
    resumed = start(variant, config, data, encoder, epochs=3)
    resumed.load(tmp_path / "checkpoint")
    assert resumed.results == stopped.results
    again = run_to_end(resumed, tmp_path / "again")
    assert dataclasses.replace(again, seconds=0) == dataclasses.replace(straight, seconds=0)
    first, second = (
        predict(load_deployed(tmp_path / name / "deployed").logits, data.validation, data.pad_token_id)
        for name in ("straight", "again")
    )
    np.testing.assert_array_equal(first, second)


def test_a_sensitivity_moves_the_thresholds_and_class_weights_the_loss(
    own_teacher: str, data: TrialData, encoder: EncoderWeights, tmp_path: Path
) -> None:
    config = configuration("baseline", own_teacher)
    thresholds = []
    for sensitivity in (0.3, 1.0):
        asked = dataclasses.replace(data, sensitivity=sensitivity)
        found = run_to_end(start("baseline", config, asked, encoder), tmp_path / f"{sensitivity}")
        assert all(scores.recall >= sensitivity for scores in found.validation.per_symptom.values())
        assert found.thresholds is not None
        thresholds.append(list(found.thresholds.values()))
    assert all(low < high for high, low in zip(*thresholds, strict=True))
    weighted = dataclasses.replace(data, class_weights=np.full(3, 50, np.float32))
    heavy, light = (start("baseline", config, of, encoder).epoch().train_loss for of in (weighted, data))
    assert heavy > 5 * light


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_new_head_says_each_symptom_as_often_as_it_is_reported(architecture: str) -> None:
    model = tiny_model(architecture).eval()
    shares = np.array([0.5, 0.1, 0.001])
    tokens = torch.arange(5, 20).repeat(4, 1)
    with torch.no_grad():
        before = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits
        start_at_shares(model, shares)
        after = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits
    torch.testing.assert_close(after - before, torch.logit(torch.tensor(shares)).float().expand(4, 3))
