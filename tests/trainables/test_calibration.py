"""A temperature per symptom: that it makes probabilities true, and never what a model says."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper
from scipy.special import expit

from tests.conftest import tiny_model
from trainables.parts.calibration import Calibrated, fit_temperatures, logit_scale
from trainables.parts.deployed import TorchRunner
from trainables.parts.int8.onnx_export import scale_graph
from trainables.parts.model import encoder, stored
from trainables.parts.model.encoder import ARCHITECTURES
from trainables.parts.tasks import NOTE_RULES, TASKS

TRUE = np.array([2.5, 0.4, 1.0])


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Logits of 6,000 texts, and whether each reports a symptom: with the probability of its logit / ``TRUE``."""
    generator = np.random.default_rng(5)
    logits = generator.normal(-1, 3, (6000, 3)).astype(np.float32)
    return logits, generator.random(logits.shape) < expit(logits / TRUE)


def log_loss(reported: np.ndarray, logits: np.ndarray) -> float:
    return float((np.logaddexp(0, logits) - reported * logits).mean())


def test_temperatures_are_those_of_the_least_log_loss(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    logits, reported = drawn
    found = fit_temperatures(reported, logits, lambda of_parts: of_parts)
    np.testing.assert_allclose(found, TRUE, rtol=0.08)
    for column, temperature in enumerate(found):
        losses = [log_loss(reported[:, column], logits[:, column] / (temperature * by)) for by in (0.9, 1, 1.1)]
        assert losses[1] == min(losses)


def test_a_symptom_that_validation_cannot_judge_keeps_its_probabilities(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    logits, reported = drawn[0], drawn[1].copy()
    reported[:, 0], reported[:, 1] = False, True
    found = fit_temperatures(reported, logits, lambda of_parts: of_parts)
    assert found[:2].tolist() == [1, 1]
    assert found[2] != 1


def test_a_model_that_makes_no_mistake_on_validation_is_not_made_certain() -> None:
    logits = np.array([[-4.0]] * 50 + [[-3.5]] * 20 + [[4.0]] * 9 + [[4.5]], np.float32)
    (temperature,) = fit_temperatures(logits > 0, logits, lambda of_parts: of_parts)
    probabilities = expit(logits.astype(np.float64) / temperature)
    assert probabilities.min() > 0.01
    assert probabilities.max() < 0.99
    assert len(np.unique(probabilities)) == 4


@pytest.mark.parametrize("rule", NOTE_RULES)
def test_temperatures_of_windows_make_the_notes_probabilities_true(rule: str) -> None:
    generator = np.random.default_rng(6)
    logits = generator.normal(-2.5, 2, (8000, 1)).astype(np.float32)
    note = np.arange(8000) // 4
    true = NOTE_RULES[rule](expit(logits / 2.0), note, 2000)
    reported = generator.random(true.shape) < true
    (found,) = fit_temperatures(reported, logits, lambda of_parts: NOTE_RULES[rule](of_parts, note, 2000))
    assert found == pytest.approx(2.0, rel=0.15)


def test_a_run_of_an_older_version_has_no_temperatures() -> None:
    assert logit_scale(None, ("cough", "fever")) is None
    assert logit_scale({"fever": 2.0, "cough": 0.5}, ("cough", "fever")).tolist() == [2.0, 0.5]  # type: ignore[union-attr]


def test_a_scaled_graph_gives_the_very_figures_of_a_calibrated_runner(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Cast", ["input_ids"], ["logits"], to=TensorProto.FLOAT)],
        "main",
        [helper.make_tensor_value_info(n, TensorProto.INT64, ["b", 3]) for n in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "plain.onnx")
    scale = (1 / TRUE).astype(np.float32)
    scale_graph(tmp_path / "plain.onnx", tmp_path / "scaled.onnx", scale)
    onnx.checker.check_model(tmp_path / "scaled.onnx")
    ids = np.array([[7, -3, 11], [0, 5, -8]])
    found, plain = (
        ort.InferenceSession(tmp_path / name).run(["logits"], {"input_ids": ids, "attention_mask": ids})[0]
        for name in ("scaled.onnx", "plain.onnx")
    )

    class Plain:
        def logits(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
            return np.asarray(plain)

    assert found.tolist() == Calibrated(Plain(), scale).logits(ids, ids).tolist()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_stored_models_own_weights_take_the_scale(architecture: str, packed: bool, tmp_path: Path) -> None:
    model = tiny_model(architecture).eval()
    with torch.no_grad():
        last = encoder.last_linear(model)
        last.weight[:, ::2] = 0  # what pruning leaves is packed
        last.bias.copy_(torch.tensor([0.5, -1.0, 2.0]))
    stored.save_model(model, tmp_path, packed=packed)
    before = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    scale = np.array([0.25, 3.0, 1.0], np.float32)
    stored.scale_logits(tmp_path, scale)
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == before
    ids = np.arange(5, 25).reshape(2, 10)
    mask = np.ones_like(ids)
    expected = TorchRunner(model).logits(ids, mask) * scale
    np.testing.assert_allclose(TorchRunner(stored.load_model(tmp_path)).logits(ids, mask), expected, atol=1e-5)


def test_temperatures_are_of_multilabel_tasks_alone(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    assert TASKS["multiclass"].temperatures(np.zeros(4, np.int64), drawn[0][:4], lambda of_parts: of_parts) is None
