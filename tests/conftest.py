"""Tiny real models and data that every test may use, and the tiers of the suite: see README.md here."""

import functools
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast
from unittest import mock

import numpy as np
import pytest
import ray
import torch
from filelock import FileLock
from ray.cluster_utils import Cluster
from transformers import (
    CONFIG_MAPPING,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedModel,
)

from clinical_notes.batches import TokenisedExamples, TrialData
from clinical_notes.synthetic import write_synthetic_notes
from run_folder.folder import Folder
from tests.export_cache import ExportCache
from tests.waiting import guarded
from trainables.parts.model.encoder import EncoderWeights, classifier_class

if TYPE_CHECKING:
    from tests.tiny_runs import FinishedRun

ROOT = Path(__file__).parents[1]
CHILD = ROOT / "tests" / "child"
"""Its ``sitecustomize.py`` is run by each Python with this folder on its path."""
PYTHON_PATH = f"{ROOT}:{CHILD}"
CACHE_FOLDER = "SYMPTUNE_TEST_EXPORTS"
SYMPTOMS = ("pain", "edema", "fever")
VOCABULARY = 60

RAY_FIXTURES = {
    "actor",
    "arena",
    "cluster",
    "finished",
    "finished_multilabel",
    "local_ray",
    "place",
    "searched",
    "ray_address",
    "slurm",
    "uneven",
}
"""Fixtures that start Ray, in this process or by a command line."""
SLOW_FIXTURES = RAY_FIXTURES | {"created", "start_python"}
BROWSER_FIXTURES = {"browser"}
SLOW_PLACES = (
    "analysis/test_report.py::test_a_run_",
    "analysis/test_report.py::test_the_same_run",
    "analysis/test_statistics.py::test_the_swap_test",
    "analysis/test_statistics_simulated.py",
    "benchmarks/",
    "chaos/",
    "clinical_notes/test_examples.py::test_labels_do_not_depend_on_the_hash_seed",
    "clinical_notes/test_examples.py::test_the_number_of_workers",
    "clinical_notes/test_synthetic.py::test_tfidf",
    "symptune/test_api.py::test_a_search_",
    "test_extending.py",
    "trainables/test_combined.py::test_each_part",
    "trainables/test_distillation.py::test_a_students_relations",
    "trainables/test_distillation.py::test_every_suggested",
    "trainables/test_precision.py::test_products",
    "trainables/test_quantization.py",
    "tune_jobs/test_bad_storage.py::test_a_storage_where_nobody_listens",
    "tune_jobs/test_gpus.py::test_every_measured",
    "tune_jobs/test_simulated.py",
)
"""Prefixes of test ids: tests that export, simulate, measure, train for long, wait for a client or draw whole pages."""
EXPORTING = ("quantization", "combined")
"""Strategies whose trials end with an export."""


def pytest_configure(config: pytest.Config) -> None:
    """Workers that run next to each other share the cores, and no cluster is joined by chance."""
    os.environ["RAY_AUTH_MODE"] = "disabled"  # a plain ``ray.init`` would switch tokens on for all tests after it
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ["RAY_TMPDIR"] = f"/tmp/ray-{os.getpid()}"  # short: a socket's path has 107 characters at most
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # before ``-m`` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put each test into its tier, and the files with slow tests first, so that workers end together."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        parameters = getattr(item, "callspec", None)
        variant = parameters.params.get("variant", "") if parameters else ""
        place = item.nodeid.removeprefix("tests/")
        marks = {
            "ray": fixtures & RAY_FIXTURES,
            "slow": fixtures & SLOW_FIXTURES or place.startswith(SLOW_PLACES) or variant.startswith(EXPORTING),
            "browser": fixtures & BROWSER_FIXTURES,
        }
        for name in [name for name, holds in marks.items() if holds] or ["fast"]:
            item.add_marker(name)
    slow = Counter(item.path for item in items if not item.get_closest_marker("fast"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True)
def _fast_tests_are_fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only slower tiers may do fails in a fast test."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        pytest.fail("a fast test starts Ray or exports a model: see tests/README.md for its tier")

    if request.node.get_closest_marker("fast"):
        monkeypatch.setattr(ray, "init", refuse)
        monkeypatch.setattr(torch.onnx, "export", refuse)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this session that all its workers see."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _export_cache(shared: Path) -> Iterator[None]:
    """A model of one kind is exported once in a session, in its processes and in those that they start."""
    cache = ExportCache(shared / "exports")
    cache.folder.mkdir(exist_ok=True)
    with cache.installed(), mock.patch.dict(os.environ, {CACHE_FOLDER: str(cache.folder), "PYTHONPATH": PYTHON_PATH}):
        yield


@pytest.fixture(scope="session", autouse=True)
def _costs_are_measured_in_few_rounds() -> Iterator[None]:
    """Latencies of tiny models are of no interest; three rounds are the least that is measured."""
    from analysis.evaluation import costs

    quick = functools.partial(costs.time_models, seconds_per_model=0.0)
    with mock.patch.object(costs, "time_models", quick):
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=3, help="kills that each chaos test tries (default 3)")
    parser.addoption("--searches", type=int, default=15, help="searches in virtual time that are cut (default 15)")
    parser.addoption("--plain-ray", action="store_true", help="also show what plain Ray Tune does in each trap")
    parser.addoption("--chaos-seed", type=int, default=0, help="of the instants and the victims")
    parser.addoption("--slurm", action="store_true", help="also a job in a real Slurm, whose daemons are started here")
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
    more = {"embedding_size": 32} if architecture == "electra" else {}
    config = CONFIG_MAPPING[architecture](**sizes, **common, **more)
    return classifier_class(config)(config)


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
    examples = TokenisedExamples(
        ids=np.array([f"{prefix}{i}" for i in range(n)]),
        tokens=np.concatenate(tokens).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        labels=labels.astype(np.int64),
    )
    for array in (examples.tokens, examples.offsets, examples.labels):
        array.setflags(write=False)  # as from Ray's object store; tests share them
    return examples


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
def model_folder(shared: Path) -> Path:
    """A BERT of random weights with its tokenizer, as ``--model`` takes it."""
    from tests.tiny_runs import save_tiny_model

    with FileLock(shared / "model.lock"):
        folder = shared / "model"
        return folder if folder.exists() else save_tiny_model(folder)


@pytest.fixture(scope="session")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic notes of 50 patients."""
    path = tmp_path_factory.mktemp("notes") / "NOTEEVENTS.csv.gz"
    write_synthetic_notes(path, patients=50, seed=1)
    return path


@pytest.fixture(scope="session")
def finished(shared: Path, model_folder: Path) -> "FinishedRun":
    """A whole run of all strategies, which all tests read: who changes it takes a copy of its folder."""
    return _finished_once(shared, "all", model_folder)


@pytest.fixture(scope="session")
def finished_multilabel(shared: Path, model_folder: Path) -> "FinishedRun":
    """As ``finished``, smaller, of a multilabel task, with a form of each symptom held back from training."""
    changes = {"task": "multilabel", "symptoms": ("edema", "fever", "pain"), "trials": 1, "epochs": 2, "hold_back": 1}
    return _finished_once(shared, "multilabel", model_folder, **changes)


def _finished_once(shared: Path, name: str, model_folder: Path, **changes: object) -> "FinishedRun":
    from tests.tiny_runs import finished_run, settings_for

    made = shared / f"{name}.pickle"
    with guarded(), FileLock(shared / f"{name}.lock"):
        if not made.exists():
            run = finished_run(Folder(shared / "runs" / name), settings_for(model_folder, **changes))
            made.write_bytes(pickle.dumps(run))
        return cast("FinishedRun", pickle.loads(made.read_bytes()))  # noqa: S301 - written by this session


@pytest.fixture
def local_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For tests that start Ray here: no cluster is joined by chance, and none stays."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    """A cluster with two CPUs that the tests of a module join, none of which may start another meanwhile."""
    with guarded():
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield cluster.address
    cluster.shutdown()


@pytest.fixture
def start_python() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts this Python with arguments, as text and with this repository on its path; what still runs is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, env: dict[str, str] | None = None, **options: Any) -> "subprocess.Popen[str]":
        environment = os.environ | {"PYTHONPATH": PYTHON_PATH} | (env or {})
        process = subprocess.Popen([sys.executable, *map(str, arguments)], env=environment, text=True, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
            pipe.close()
