"""A teacher and one quick configuration of every strategy."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from clinical_notes.batches import TrialData
from run_folder.folder import Folder
from run_folder.results import DeployedResult
from search_spaces import STRATEGIES, paper_configuration
from trainables import trainable_class
from trainables.base import TrainSettings, Trial, TrialConfig
from trainables.parts.deployed import ONNX_FILE, TorchRunner, deploy_torch, predict, sha256
from trainables.parts.int8.onnx_export import export_onnx
from trainables.parts.int8.teacher_graph import GRAPH, HASH_FILE
from trainables.parts.model.encoder import EncoderWeights

SETTINGS = TrainSettings(epochs=2)

STRUCTURED = {"scheme": "structured", "ratio": 0.5, "schedule_end": 0.7}
RECOVERY = {"recovery": "distillation", "alpha": 0.4, "temperature": 2.0}
SVD = {"scheme": "svd", "svd_targets": "all", "svd_init": "activations", "kept_parameters": 0.5}
COMBINED_ALL = {
    "vocabulary": "corpus", "ratio": 0.5, "importance": "taylor", "scheme": "ptq_static", "calibration": "minmax",
    "quantize_embeddings": True, "fp32_layers": 0.1,
}  # fmt: skip
CHANGES: dict[str, dict[str, Any]] = {
    "baseline": {},
    "distillation": {},
    "distillation-narrow": {"smaller_in": "both", "width_ratio": 0.5, "learning_rate": 1e-2},
    "distillation-relations": {"matching": "relations", "matching_weight": 1.0},
    "low_rank": {"learning_rate": 1e-2},
    "low_rank-svd": {**SVD, "svd_learning_rate": 3e-3},
    "pruning": {},
    "pruning-structured": {**STRUCTURED, "importance": "magnitude", "start": "baseline"},
    "pruning-taylor": {**STRUCTURED, "importance": "taylor", **RECOVERY},
    "quantization": {},
    "quantization-ptq": {"scheme": "ptq_dynamic", "quantize_embeddings": True},
    "quantization-static": {"scheme": "ptq_static", "calibration": "percentile", "fp32_layers": 0.1},
    "combined": {"ratio": 0.5},
    "combined-all": {**COMBINED_ALL},
}
"""By strategy or strategy-variant, the hyperparameters that differ from the paper's configuration."""

VARIANTS = [*(strategy for strategy in STRATEGIES if strategy not in CHANGES), *CHANGES]
"""Every variant that the contract tests run, including strategies that are not in ``CHANGES``."""


def trains(variant: str) -> bool:
    """Whether the variant trains; otherwise it deploys what it is given."""
    if variant.startswith("quantization-"):
        return False
    return any(name.endswith("learning_rate") for name in paper_configuration(variant.partition("-")[0]))


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory, trial_data: TrialData) -> str:
    """The folder of a baseline trial with its deployed model."""
    home = tmp_path_factory.mktemp("teacher")
    weights = EncoderWeights.of(tiny("bert"))
    deploy_torch(weights.build(), home / "deployed", trial_data)
    return str(home)


@pytest.fixture
def own_teacher(model: PreTrainedModel, trial_data: TrialData, tmp_path: Path) -> str:
    """A teacher of the architecture under test."""
    deploy_torch(model, tmp_path / "teacher" / "deployed", trial_data)
    return str(tmp_path / "teacher")


@pytest.fixture(scope="session")
def graph_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The FP32 graph of an architecture's tiny model; an export takes seconds, so that tests share it."""
    home = tmp_path_factory.mktemp("graphs")

    @functools.cache
    def exported(architecture: str) -> Path:
        path = home / f"{architecture}.onnx"
        export_onnx(tiny(architecture), path)
        return path

    return exported


@pytest.fixture
def graph(model: PreTrainedModel, graph_of: Callable[[str], Path]) -> Path:
    """The FP32 graph of the model under test, as it is before the test changes it."""
    return graph_of(model.config.model_type)


@pytest.fixture
def exported_teacher(own_teacher: str, graph: Path) -> str:
    """A teacher of the architecture under test, with its graph as an earlier trial left it."""
    kept = Path(own_teacher) / GRAPH
    kept.mkdir()
    (kept / ONNX_FILE).write_bytes(graph.read_bytes())
    (kept / HASH_FILE).write_text(sha256(graph))
    return own_teacher


def tiny(architecture: str) -> Any:
    from tests.conftest import tiny_model

    return tiny_model(architecture)


def configuration(variant: str, teacher: str, seed: int = 3, **changes: Any) -> TrialConfig:
    """The variant's configuration; ``teacher`` is left out where it needs none."""
    strategy = variant.partition("-")[0]
    quick = {"learning_rate": 3e-3, "batch_size": 8}
    hyperparameters = {**paper_configuration(strategy), **quick, **CHANGES.get(variant, {}), **changes}
    return TrialConfig(hyperparameters, seed, Folder(teacher) if trainable_class(strategy).needs_teacher else None)


def start(variant: str, config: TrialConfig, data: TrialData, weights: EncoderWeights, **settings: Any) -> Trial:
    """A trial of the variant's strategy; settings are those of ``SETTINGS`` unless given."""
    cls = trainable_class(variant.partition("-")[0])
    return cls(config, data, weights, replace(SETTINGS, **settings))


def run_to_end(trial: Trial, home: Path) -> DeployedResult:
    """Train what is left to train, and deploy to ``home / "deployed"``."""
    while not trial.is_trained:
        trial.epoch()
    return trial.deploy(home / "deployed")


def parameters(trial: Trial) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trial.model.state_dict().items()}


def logits(model: torch.nn.Module, data: TrialData) -> np.ndarray:
    """(validation examples, classes) in evaluation mode."""
    return predict(TorchRunner(model).logits, data.validation, data.pad_token_id)
