"""Tiny real models and data that every test may use."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from clinical_notes.batches import TokenisedExamples, TrialData
from clinical_notes.synthetic import write_synthetic_notes
from run_folder.folder import Folder
from trainables.parts.model.encoder import EncoderWeights

if TYPE_CHECKING:
    from tests.tiny_runs import FinishedRun

SYMPTOMS = ("pain", "edema", "fever")
VOCABULARY = 60


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=3, help="kills that each chaos test tries (default 3)")
    parser.addoption("--searches", type=int, default=50, help="searches in virtual time that are cut (default 50)")
    parser.addoption("--plain-ray", action="store_true", help="also show what plain Ray Tune does in each trap")
    parser.addoption("--chaos-seed", type=int, default=0, help="of the instants and the victims")
    parser.addoption("--clusters", action="store_true", help="also what takes minutes on clusters: jobs, lost clients")


def tiny_model(architecture: str) -> PreTrainedModel:
    """Random weights, hidden size 32, 4 heads of 8, 2 layers of 48 neurons, 3 classes."""
    torch.manual_seed(7)
    common = {"vocab_size": VOCABULARY, "num_labels": len(SYMPTOMS), "max_position_embeddings": 40}
    if architecture == "distilbert":
        return DistilBertForSequenceClassification(
            DistilBertConfig(dim=32, n_heads=4, n_layers=2, hidden_dim=48, **common)
        )
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 48}
    if architecture == "roberta":
        return RobertaForSequenceClassification(RobertaConfig(**sizes, **common))
    return BertForSequenceClassification(BertConfig(**sizes, **common))


@pytest.fixture(params=["bert", "distilbert", "roberta"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return tiny_model(request.param)


@pytest.fixture
def encoder_weights() -> EncoderWeights:
    return EncoderWeights.of(tiny_model("bert"))


def make_examples(n: int, seed: int, prefix: str) -> TokenisedExamples:
    """Learnable: the class decides which tokens are frequent."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % len(SYMPTOMS)
    lengths = generator.integers(4, 14, n)
    tokens = [
        generator.integers(5 + 15 * label, 25 + 15 * label, size) for label, size in zip(labels, lengths, strict=True)
    ]
    return TokenisedExamples(
        ids=np.array([f"{prefix}{i}" for i in range(n)]),
        tokens=np.concatenate(tokens).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        labels=labels.astype(np.int64),
    )


@pytest.fixture(scope="session")
def trial_data() -> TrialData:
    return TrialData(
        train=make_examples(48, 1, "train-"),
        validation=make_examples(30, 2, "validation-"),
        symptoms=SYMPTOMS,
        class_weights=None,
        pad_token_id=1,
        unknown_token_id=3,
    )


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of random weights with its tokenizer, as ``--model`` takes it."""
    from tests.tiny_runs import save_tiny_model

    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic notes of 50 patients."""
    path = tmp_path_factory.mktemp("notes") / "NOTEEVENTS.csv.gz"
    write_synthetic_notes(path, patients=50, seed=1)
    return path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> "FinishedRun":
    """A whole run of all strategies."""
    from tests.tiny_runs import finished_run, settings_for

    return finished_run(Folder(tmp_path_factory.mktemp("runs") / "all"), settings_for(model_folder))
