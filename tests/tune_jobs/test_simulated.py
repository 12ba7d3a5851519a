"""Thousands of searches in virtual time: real searcher, scheduler and ledger, recorded curves, cut anywhere."""

import itertools
import random
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import TrialState

from benchmarks.invented import InventedCurves
from benchmarks.simulated_cluster import MemoryFolder, RecordedCurves, SimulatedCluster
from run_folder.events import EpochEnded, Failed, Finished, Stopped, Suggested, TeacherChosen, read_events
from run_folder.ledger import Ledger
from run_folder.results import Report
from run_folder.trials import best_trials
from search_spaces import objectives_of, paper_configuration
from tests.ledgers import most_often
from tests.tiny_runs import FinishedRun
from tune_jobs.searching.asha import StrategyASHA
from tune_jobs.searching.plan import SearchPlan
from tune_jobs.searching.search import Search
from tune_jobs.searching.study import StrategyStudy
from tune_jobs.searching.study_storage import StudyStorage

STRATEGIES = ("baseline", "distillation", "low_rank", "combined")
EPOCHS, TRIALS, SEEDS = 4, 7, 3


class KilledError(BaseException):
    """The driver is gone between two instructions."""


class CutFolder(MemoryFolder):
    """A storage whose writer dies at one of its writes, before it or right after it."""

    def __init__(self, files: dict[str, bytes], writes: int, *, before: bool) -> None:
        super().__init__(files)
        self._left, self._before = writes, before

    def write(self, relative: str, data: bytes, *, private: bool = False) -> None:
        self._left -= 1
        if self._left == 0 and self._before:
            raise KilledError
        super().write(relative, data)
        if self._left == 0:
            raise KilledError


CURVES = InventedCurves(EPOCHS)


def cluster(
    folder: MemoryFolder,
    seed: int,
    storage: StudyStorage | None = None,
    curves: RecordedCurves = CURVES,
    workers: int = 1,
    losses: Sequence[float] = (),
    retry_failed: bool = False,
    warm: Sequence[Mapping[str, Any]] = (),
) -> SimulatedCluster:
    """A search of the folder as a new process begins it."""
    ledger = Ledger(folder)
    storage = storage or StudyStorage(InMemoryStorage())
    studies = {
        name: StrategyStudy(name, storage, seed, {}, random_trials=4, warm=warm if name == "low_rank" else ())
        for name in STRATEGIES
    }
    scheduler = StrategyASHA(STRATEGIES, EPOCHS, 2, known=ledger.events)
    plan = SearchPlan(TRIALS, seed, seeds=SEEDS, retry_failed=retry_failed)
    search = Search(folder, ledger, studies, plan, stopped=scheduler.stopped)
    return SimulatedCluster(folder, search, scheduler, curves, EPOCHS, workers, losses)


def cut_until_it_ends(
    chance: random.Random, seed: int, workers: int = 1, warm: Sequence[Mapping[str, Any]] = ()
) -> tuple[MemoryFolder, int]:
    """A search that is killed at random writes, again and again, and how many times it was."""
    files: dict[str, bytes] = {}
    for kills in itertools.count():
        folder = CutFolder(files, chance.randrange(1, 60), before=chance.random() < 0.5)
        losses = [chance.uniform(0, 30) for _ in range(workers - 1)]
        try:
            cluster(folder, seed, workers=workers, losses=losses, warm=warm).run()
        except KilledError:
            continue
        return MemoryFolder(files), kills
    raise AssertionError


def straight(seed: int, warm: Sequence[Mapping[str, Any]] = ()) -> MemoryFolder:
    folder = MemoryFolder()
    cluster(folder, seed, warm=warm).run()
    return folder


def test_searches_cut_anywhere_end_as_the_undisturbed_ones(pytestconfig: pytest.Config) -> None:
    """To the last byte: ``pytest --searches 1000 tests/tune_jobs/test_simulated.py`` takes the long way."""
    chance, searches, kills = random.Random(0), pytestconfig.getoption("searches"), 0
    for seed in range(searches):
        ended, times = cut_until_it_ends(chance, seed)
        assert ended.files == straight(seed).files, seed
        kills += times
    events = read_events(straight(0))
    assert {type(event) for event in events} == {Suggested, EpochEnded, Stopped, Finished, TeacherChosen}
    assert kills > searches
    print(f"{searches} searches survived {kills} kills")


def test_a_search_with_a_warm_start_that_is_cut_anywhere_ends_as_the_undisturbed_one() -> None:
    chance, paper = random.Random(5), paper_configuration("low_rank")
    warm = [{**paper, "learning_rate": rate} for rate in (3e-4, 2e-4)]
    for seed in range(3):
        undisturbed = straight(seed, warm)
        assert cut_until_it_ends(chance, seed, warm=warm)[0].files == undisturbed.files
        tried = [trial.hyperparameters for trial in Ledger(undisturbed).of("low_rank")]
        assert tried[:3] == [paper, *warm]
        assert not any(configuration in warm for configuration in tried[3:])


def test_with_several_workers_that_are_lost_too_each_trial_runs_once() -> None:
    chance = random.Random(1)
    for seed in range(10):
        folder, _ = cut_until_it_ends(chance, seed, workers=3)
        ledger = Ledger(folder)
        assert {strategy: len(ledger.of(strategy)) for strategy in STRATEGIES} == dict.fromkeys(STRATEGIES, TRIALS)
        assert {trial.state for trial in ledger.trials.values()} == {"finished", "stopped"}
        assert most_often(ledger.events) == 1
        for trial in ledger.trials.values():
            curve = CURVES.nearest(trial.strategy, trial.hyperparameters).epochs
            assert [e.f1 for e in trial.epochs] == [e.f1 for e in curve[: len(trial.epochs)]]
            assert trial.state == "stopped" or len(trial.epochs) == EPOCHS


def test_a_lost_worker_costs_time_and_no_result() -> None:
    whole = cluster(MemoryFolder(), seed=0)
    whole.run()
    folder = MemoryFolder()
    disturbed = cluster(folder, seed=0, losses=[5.5, 20.3])
    disturbed.run()
    assert Ledger(folder).events == Ledger(straight(0)).events
    assert whole.now == pytest.approx(whole.trained)
    assert disturbed.trained == pytest.approx(whole.trained)
    assert whole.now < disturbed.now < whole.now + 4.0  # at most the two epochs that were cut off


def test_more_workers_take_less_time() -> None:
    times = []
    for workers in (1, 4):
        simulated = cluster(MemoryFolder(), seed=2, workers=workers)
        simulated.run()
        times.append(simulated.now)
    assert times[1] < times[0] / 2


def test_the_best_of_each_strategy_is_trained_with_other_seeds_from_the_baseline_of_the_same_seed() -> None:
    ledger = Ledger(straight(0))
    best = {strategy: best_trials(ledger.of(strategy), 1, objectives_of(strategy))[0] for strategy in STRATEGIES}
    found = [trial for trial in ledger.trials.values() if trial.repeats]
    assert {trial.name for trial in found} == {f"{t.name}-seed{n}" for t in best.values() for n in (1, 2)}
    for trial in found:
        of = ledger.trials[trial.repeats or ""]
        assert (trial.state, dict(trial.hyperparameters)) == ("finished", dict(of.hyperparameters))
        assert trial.seed != of.seed
        assert trial.teacher == (f"{of.teacher}-seed{trial.name[-1]}" if of.teacher else None)
    last = max(
        i for i, event in enumerate(ledger.events) if getattr(event, "trial", None) in {t.name for t in best.values()}
    )
    assert last < min(
        i for i, event in enumerate(ledger.events) if getattr(event, "repeats", None)
    )  # they are no part of it


def test_a_strategy_whose_teacher_fails_with_a_seed_goes_without_that_seed() -> None:
    folder = MemoryFolder()
    ledger = Ledger(folder)
    for event in Ledger(straight(0)).events:
        if not getattr(event, "trial", "").endswith("seed1"):
            ledger.append(event)
    teacher = ledger.trials[ledger.teacher or ""]
    known = {name: getattr(teacher, name) for name in ("strategy", "number", "seed", "teacher")}
    known |= {"hyperparameters": dict(teacher.hyperparameters), "distributions": dict(teacher.distributions)}
    ledger.append(Suggested(trial=f"{teacher.name}-seed1", repeats=teacher.name, **known))
    ledger.append(Failed(f"{teacher.name}-seed1", "out of memory"))
    cluster(folder, 0).run()
    ones = {trial.strategy for trial in Ledger(folder).trials.values() if trial.name.endswith("seed1")}
    assert ones == {"baseline", "low_rank"}
    cluster(folder, 0, retry_failed=True).run()
    again = [trial for trial in Ledger(folder).trials.values() if trial.name.endswith("seed1")]
    assert {trial.strategy for trial in again} == set(STRATEGIES)
    assert {trial.state for trial in again} == {"finished"}


def test_a_database_that_is_ahead_of_the_ledger_is_set_right(tmp_path: Path) -> None:
    """A killed process may have told the database what the ledger never heard of."""
    files: dict[str, bytes] = {}
    database = StudyStorage(RDBStorage(f"sqlite:///{tmp_path}/studies.db"), "run-1234/")
    ahead = set()
    for writes in range(2, 9):
        with pytest.raises(KilledError):
            cluster(CutFolder(files, writes, before=True), 0, database).run()
        told = sum(len(study.trials) for study in studies_in(database))
        ahead.add(told - sum("-suggested" in name for name in files))
    assert 1 in ahead
    cluster(MemoryFolder(files), 0, database).run()
    assert files == straight(0).files
    states = {"finished": TrialState.COMPLETE, "stopped": TrialState.PRUNED}
    ledger = Ledger(MemoryFolder(files))
    for study in studies_in(database):
        mine = ledger.of(study.study_name.removeprefix("run-1234/"))
        assert [trial.state for trial in study.trials] == [states[trial.state] for trial in mine]
        if len(study.directions) == 1:
            intermediate = [list(trial.intermediate_values.values()) for trial in study.trials]
            assert intermediate == [[epoch.f1 for epoch in trial.epochs] for trial in mine]


def studies_in(database: StudyStorage) -> list[optuna.Study]:
    names = optuna.get_all_study_names(database.storage)
    return [optuna.load_study(study_name=name, storage=database.storage) for name in names]


def test_a_locked_database_halts_the_search_and_the_ledger_goes_on_from_there(tmp_path: Path) -> None:
    database = tmp_path / "studies.db"
    url = f"sqlite:///{database}?timeout=0.1"
    folder = MemoryFolder()
    ledger = Ledger(folder)
    study = StrategyStudy("baseline", StudyStorage(RDBStorage(url)), 0, {})
    search = Search(folder, ledger, {"baseline": study}, SearchPlan(2))
    assert search.suggest()
    epoch = CURVES.nearest("baseline", {}).epochs[0]
    other = sqlite3.connect(database)
    other.execute("BEGIN EXCLUSIVE")
    with search.halting_on_storage_errors():
        search.report("baseline-0000", Report(epoch))
    assert search.halted == "the study database failed (database is locked)"
    other.close()
    rebuilt = StrategyStudy("baseline", StudyStorage(RDBStorage(url)), 0, {})
    again = Search(folder, Ledger(folder), {"baseline": rebuilt}, SearchPlan(2))
    suggestion = again.suggest()
    assert suggestion
    assert len(suggestion.record.epochs) == 1


def test_a_real_runs_curves_are_found_by_the_nearest_configuration(finished: FinishedRun) -> None:
    trials = finished.run.trials
    curves = RecordedCurves(trials.values())
    for trial in trials.values():
        if trial.state == "finished":
            assert curves.nearest(trial.strategy, trial.hyperparameters).hyperparameters == trial.hyperparameters
            nearby = {n: v * 1.0001 if isinstance(v, float) else v for n, v in trial.hyperparameters.items()}
            assert curves.nearest(trial.strategy, nearby).name == trial.name

    folder = MemoryFolder()
    cluster(folder, seed=0, curves=curves, workers=2).run()
    for trial in Ledger(folder).trials.values():
        recorded = curves.nearest(trial.strategy, trial.hyperparameters)
        assert [epoch.f1 for epoch in trial.epochs] == [
            recorded.epochs[min(epoch, len(recorded.epochs) - 1)].f1 for epoch in range(len(trial.epochs))
        ]
        assert trial.state == "stopped" or trial.score == recorded.score
