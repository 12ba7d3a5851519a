"""Searches on a real local Ray cluster with tiny models."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import optuna
import pytest
import ray
from optuna.distributions import FloatDistribution, distribution_to_json
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from ray import tune
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from analysis.evaluation.leaderboard import build_leaderboard
from clinical_notes.batches import TrialData
from run_folder.errors import InputError
from run_folder.events import EpochEnded, Suggested, read_events
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from run_folder.names import DEPLOYED, TRIALS, checkpoints_of
from run_folder.records import to_plain
from run_folder.results import DeployedResult, TrialFailed
from run_folder.run import open_run
from run_folder.trials import TrialRecord
from search_spaces import STRATEGIES, paper_configuration
from search_spaces.overrides import nearest
from tests.tiny_runs import FinishedRun, quiet, settings_for
from tests.waiting import guarded
from trainables.base import TrainSettings
from trainables.parts.deployed import predict
from trainables.parts.metrics import classification_metrics, softmax
from trainables.parts.model.encoder import EncoderWeights
from trainables.parts.open_deployed import load_deployed
from tune_jobs.cluster.connection import connected
from tune_jobs.execution import Execution
from tune_jobs.preparing.create_run import Prepared, create_run
from tune_jobs.searching.ray_adapters import REPORT, SUGGESTION
from tune_jobs.searching.run_search import search
from tune_jobs.searching.search import Suggestion
from tune_jobs.searching.study import StrategyStudy
from tune_jobs.searching.study_storage import StudyStorage
from tune_jobs.searching.trial_actor import RunTrainable


def study_states(folder: Path, strategy: str) -> list[TrialState]:
    storage = JournalStorage(JournalFileBackend(str(folder / "studies.journal")))
    study = optuna.load_study(study_name=strategy, storage=storage)
    return [trial.state for trial in study.trials]


def test_every_strategy_gets_its_trials_and_a_row(finished: FinishedRun) -> None:
    run = finished.run
    for strategy in STRATEGIES:
        states = [trial.state for trial in run.trials.values() if trial.strategy == strategy]
        assert len(states) == 5
        assert set(states) <= {"finished", "stopped"}
        paper = nearest(strategy, paper_configuration(strategy), run.settings.search.space[strategy])
        assert run.trials[f"{strategy}-0000"].hyperparameters != paper, "the encoder is small"
    assert run.manifest.width == 32
    assert any(trial.state == "stopped" for trial in run.trials.values())
    leaderboard = build_leaderboard(run, top=1)
    assert set(leaderboard.table1["strategy"]) == {*STRATEGIES, "control-majority", "control-tfidf"}
    assert len(leaderboard.table2) == (len(STRATEGIES) + 2) * 5
    assert list(leaderboard.best["validation_f1"][:6]) == sorted(leaderboard.best["validation_f1"][:6], reverse=True)


def test_the_studies_say_what_the_ledger_says(finished: FinishedRun) -> None:
    run = finished.run
    said = {"finished": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}
    for strategy in STRATEGIES:
        trials = sorted((t for t in run.trials.values() if t.strategy == strategy), key=lambda t: t.number)
        assert study_states(Path(run.folder.uri), strategy) == [said[trial.state] for trial in trials]


def test_the_reported_figures_are_the_deployed_models(finished: FinishedRun) -> None:
    run, prepared = finished.run, finished.prepared
    validation = prepared.data.validation
    for strategy in STRATEGIES:
        (trial,) = run.best(strategy, 1)
        deployed = load_deployed(Path(run.folder.uri) / TRIALS / trial.name / DEPLOYED)
        probabilities = softmax(predict(deployed.logits, validation, prepared.data.pad_token_id))
        again = classification_metrics(validation.labels, probabilities, run.symptoms)
        assert again == trial.deployed.validation


def test_no_test_example_reaches_a_trial(finished: FinishedRun) -> None:
    run, prepared = finished.run, finished.prepared
    test = run.examples("test")
    received = {*prepared.data.train.ids, *prepared.data.validation.ids}
    assert len(test) > 20
    assert not received & set(test["id"])
    seen = {*run.examples("train")["patient"], *run.examples("validation")["patient"]}
    assert not seen & set(test["patient"])


def test_progress_in_a_pipe_is_plain_lines(finished: FinishedRun) -> None:
    printed = finished.printed
    assert "baseline-0000" in printed
    assert "finished" in printed
    assert "\x1b" not in printed


def test_only_models_worth_keeping_stay(finished: FinishedRun) -> None:
    run = finished.run
    kept = {path.parent.name for path in Path(run.folder.uri, TRIALS).glob(f"*/{DEPLOYED}")}
    assert kept == {trial.name for strategy in STRATEGIES for trial in run.best(strategy, 3)}
    assert not [path for path in Path(run.folder.uri, TRIALS).iterdir() if path.name not in kept]


def test_where_every_baseline_breaks_the_rest_still_ends_and_says_why(
    tmp_path: Path, model_folder: Path, local_ray: None
) -> None:
    folder = Folder(tmp_path / "run")
    settings = settings_for(model_folder, trials=1, epochs=1, strategies=("baseline", "low_rank", "distillation"))
    prepared = create_run(folder, settings, workers=1)
    poisoned = {name: array.copy() for name, array in prepared.encoder.arrays.items()}
    next(array for name, array in poisoned.items() if "word_embeddings" in name)[:] = np.nan
    broken = Prepared(prepared.data, dataclasses.replace(prepared.encoder, arrays=poisoned))
    ledger = search(folder, settings, broken, Execution(max_concurrent=1), quiet())
    assert ledger.trials["baseline-0000"].reason == "non-finite loss in epoch 1"
    assert study_states(tmp_path / "run", "baseline") == [TrialState.FAIL]
    assert "distillation" in ledger.skipped
    without = build_leaderboard(open_run(folder), top=1).without
    assert without["baseline"] == "all 1 trials failed: non-finite loss in epoch 1"
    assert "no teacher" in without["distillation"]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Ledger:
    """A run whose baselines are quick and learn, whose pruned models are slow and learn little; one baseline breaks."""
    space: dict[str, dict[str, Any]] = {
        "baseline": {"batch_size": 32, "learning_rate": {"low": 5e-4, "high": 1e-3}},
        "pruning": {"batch_size": 8, "scheme": "structured", "ratio": 0.7, "start": "pretrained", "recovery": "labels"},
    }
    space["pruning"]["learning_rate"] = {"low": 1e-5, "high": 2e-4}
    folder = Folder(tmp_path_factory.mktemp("uneven") / "run")
    settings = settings_for(model_folder, trials=6, epochs=4, strategies=tuple(space), space=space)
    prepared = create_run(folder, settings, workers=1)
    study = StrategyStudy("baseline", StudyStorage(InMemoryStorage()), 0, space["baseline"])
    number, hyperparameters, distributions = study.ask()
    rate = 1e30  # no space has it: the trial is one that the ledger says was running
    suggested = Suggested(
        trial="baseline-0000",
        strategy="baseline",
        number=number,
        seed=0,
        hyperparameters=hyperparameters | {"learning_rate": rate},
        distributions=distributions | {"learning_rate": distribution_to_json(FloatDistribution(1e-5, rate, log=True))},
        teacher=None,
    )
    Ledger(folder).append(suggested)
    with guarded():
        return search(folder, settings, prepared, Execution(), quiet())


def stopped_in_one_race(folder: Folder) -> set[str]:
    """The trials that a single ASHA over all strategies would have stopped."""
    race: Any = ASHAScheduler(time_attr="epoch", metric="f1", mode="max", max_t=5, grace_period=2, reduction_factor=2)
    stopped = set()
    for event in read_events(folder):
        if isinstance(event, Suggested):
            race.on_trial_add(None, SimpleNamespace(trial_id=event.trial))
        elif isinstance(event, EpochEnded):
            decision = race.on_trial_result(None, SimpleNamespace(trial_id=event.trial), to_plain(event.result))
            stopped |= {event.trial} if decision == TrialScheduler.STOP else set()
    return stopped


def test_a_slow_weak_strategy_is_not_starved_by_a_fast_one(uneven: Ledger) -> None:
    slow = uneven.of("pruning")
    assert len(slow) == len(uneven.of("baseline")) == 6
    assert any(trial.state == "stopped" for trial in slow)  # by a better one of the same strategy
    finished = {trial.name for trial in slow if trial.state == "finished"}
    assert finished & stopped_in_one_race(uneven.folder)


def test_a_trial_that_breaks_fails_alone(uneven: Ledger) -> None:
    assert uneven.trials["baseline-0000"].reason == "non-finite loss in epoch 1"
    states = study_states(Path(uneven.folder.uri), "baseline")
    assert states[0] == TrialState.FAIL
    assert TrialState.COMPLETE in states[1:]
    assert TrialState.FAIL not in states[1:]


def test_the_runs_trainable_runs_under_a_plain_tuner(
    local_ray: None, tmp_path: Path, trial_data: TrialData, encoder_weights: EncoderWeights
) -> None:
    """It is an ordinary Ray Tune trainable, one process of which runs a trial after the other."""
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    folder = Folder(tmp_path / "run")
    trainable = tune.with_parameters(
        RunTrainable, data=trial_data, encoder=encoder_weights, settings=TrainSettings(epochs=2), folder=folder
    )
    rates = {"baseline-0000": 1e-3, "baseline-0001": 1e30}
    suggestions = [
        Suggestion(TrialRecord(name, "baseline", i, 1, {**paper_configuration("baseline"), "learning_rate": rate}, {}))
        for i, (name, rate) in enumerate(rates.items())
    ]
    configuration = {SUGGESTION: tune.grid_search(suggestions), "cpus": 1, "gpus": 0}
    results = tune.Tuner(
        trainable,
        param_space=configuration,
        tune_config=tune.TuneConfig(metric="f1", mode="max", reuse_actors=True, max_concurrent_trials=1),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # it keeps its own
        ),
    ).fit()
    assert not results.errors
    last = [result.metrics[REPORT].result for result in results if result.metrics]
    assert [type(result) for result in last] == [DeployedResult, TrialFailed]
    assert checkpoints_of(folder, "baseline-0000")


def test_a_resumed_search_that_is_done_starts_nothing(finished: FinishedRun) -> None:
    run, prepared = finished.run, finished.prepared
    settings = run.settings
    before = len(run.folder.names("ledger"))
    search(run.folder, settings, prepared, Execution(), quiet())
    assert not ray.is_initialized()
    assert len(Ledger(run.folder).trials) == len(run.trials)
    assert len(run.folder.names("ledger")) == before


@pytest.mark.parametrize("address", ["127.0.0.1:1", "auto"])
def test_a_cluster_that_does_not_answer_is_told_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1" if address == "auto" else "")

    def wait_for_minutes(*_: Any, **__: Any) -> NoReturn:
        pytest.fail("Ray was asked to join, which tries for minutes")

    monkeypatch.setattr(ray, "init", wait_for_minutes)
    with pytest.raises(InputError, match=r"^address: no Ray cluster answers"), connected(address, verbose=False):
        pass


def test_a_cluster_of_its_own_is_started_whatever_ran_here_before(
    monkeypatch: pytest.MonkeyPatch, local_ray: None
) -> None:
    """Ray notes the cluster last started on a machine, and would join it."""
    monkeypatch.setattr("ray._private.utils.read_ray_address", lambda *_: "127.0.0.1:1")
    with connected(None, verbose=False):
        assert len(ray.nodes()) == 1
