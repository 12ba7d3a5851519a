"""The search without Ray: whose turn it is, what the ledger keeps, what the studies are told."""

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from benchmarks.simulated_cluster import deployed_result, epoch_result
from run_folder.events import read_events, trials_of
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from run_folder.results import Report, TrialFailed
from run_folder.trials import TrialRecord, pareto_front
from tests.made_runs import made_run
from tests.waiting import GUARD_SECONDS
from trainables import trainable_class
from trainables.parts.training.teaching import LOGITS_FILE
from tune_jobs.searching.asha import StrategyASHA
from tune_jobs.searching.plan import SearchPlan
from tune_jobs.searching.search import Search
from tune_jobs.searching.study import StrategyStudy
from tune_jobs.searching.study_storage import StudyStorage, journal

STRATEGIES = ("baseline", "distillation", "low_rank")


def make(
    folder: Path,
    strategies: tuple[str, ...] = STRATEGIES,
    trials: int = 3,
    seed: int = 0,
    keep: int = 3,
    retry_failed: bool = False,
    warm: Sequence[Mapping[str, Any]] = (),
) -> Search:
    storage = StudyStorage(journal(folder / "studies.journal"))
    studies = {name: StrategyStudy(name, storage, seed, {}, warm=warm) for name in strategies}
    plan = SearchPlan(trials, seed, keep, retry_failed)
    return Search(Folder(folder), Ledger(Folder(folder)), studies, plan)


def epoch(number: int, f1: float) -> Report:
    return Report(epoch_result(number, f1))


def finish(f1: float, size: int = 1000) -> Report:
    return Report(deployed_result(f1, size))


def fail(reason: str) -> Report:
    return Report(TrialFailed(reason))


def run_all(search: Search, f1: Mapping[str, float] | None = None) -> list[str]:
    names = []
    while (suggestion := search.suggest()) is not None:
        name = suggestion.record.name
        names.append(name)
        score = (f1 or {}).get(name, 0.5)
        if trainable_class(suggestion.record.strategy).reads_teacher_logits:
            search.ledger.folder.write(f"{suggestion.record.teacher}/{LOGITS_FILE}", b"x")
        search.report(name, epoch(1, score))
        search.report(name, finish(score))
    return names


def state_of(search: Search, strategy: str) -> list[TrialState]:
    return [trial.state for trial in search._studies[strategy]._study.trials]


def test_the_strategy_furthest_behind_goes_next_and_students_wait_for_their_teacher(tmp_path: Path) -> None:
    search = make(tmp_path)
    first = [search.suggest() for _ in range(6)]
    assert [s.record.name for s in first if s] == [
        "baseline-0000", "low_rank-0000", "baseline-0001", "low_rank-0001", "baseline-0002", "low_rank-0002",
    ]  # fmt: skip
    assert search.suggest() is None
    assert not search.done
    for name, f1 in (("baseline-0000", 0.4), ("baseline-0001", 0.6), ("baseline-0002", 0.5)):
        search.report(name, finish(f1))
    suggestion = search.suggest()
    assert suggestion is not None
    assert suggestion.record.teacher == "trials/baseline-0001"


def test_the_first_student_prepares_the_logits_for_the_others(tmp_path: Path) -> None:
    search = make(tmp_path, ("baseline", "distillation"), trials=2)
    for _ in range(2):
        suggestion = search.suggest()
        assert suggestion
        search.report(suggestion.record.name, finish(0.5))
    assert search.suggest() is not None
    assert search.suggest() is None
    Folder(tmp_path).write(f"trials/baseline-0000/{LOGITS_FILE}", b"x")
    assert search.suggest() is not None


def test_the_papers_configuration_comes_first_and_the_budget_is_kept(tmp_path: Path) -> None:
    search = make(tmp_path)
    names = run_all(search)
    assert len(names) == len(set(names)) == 9
    assert search.done
    first = search.ledger.trials["baseline-0000"].hyperparameters
    assert (first["learning_rate"], first["lr_schedule"], first["batch_size"]) == (3e-5, "cosine", 16)


def test_studies_are_told_complete_pruned_and_fail(tmp_path: Path) -> None:
    search = make(tmp_path, ("baseline",))
    for _ in range(3):
        search.suggest()
    search.report("baseline-0000", epoch(1, 0.2))
    search.report("baseline-0000", finish(0.3))
    search.report("baseline-0001", epoch(1, 0.1))
    search.stop("baseline-0001")
    search.report("baseline-0002", fail("non-finite loss in epoch 1"))
    assert state_of(search, "baseline") == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    trials = search._studies["baseline"]._study.trials
    assert trials[0].value == 0.3
    assert trials[1].intermediate_values == {1: 0.1}
    assert trials[2].user_attrs["reason"] == "non-finite loss in epoch 1"


def test_without_any_baseline_its_students_are_skipped_and_the_rest_goes_on(tmp_path: Path) -> None:
    search = make(tmp_path, trials=1)
    for _ in range(2):
        search.suggest()
    search.report("baseline-0000", fail("out of memory"))
    assert "every baseline trial failed" in search.ledger.skipped["distillation"]
    assert search.suggest() is None
    assert not search.done
    search.report("low_rank-0000", finish(0.5))
    assert search.done


def test_a_trial_whose_process_dies_is_dealt_again_and_fails_only_where_it_gets_nowhere(tmp_path: Path) -> None:
    search = make(tmp_path, ("baseline",), trials=1)
    name = "baseline-0000"
    for _ in range(2):
        suggestion = search.suggest()
        assert suggestion is not None
        assert suggestion.record.name == name
        search.lost(name)
    search.suggest()
    search.report(name, epoch(1, 0.3))  # it got somewhere
    for _ in range(3):
        assert search.ledger.trials[name].state == "running"
        search.lost(name)
        search.suggest()
    assert (
        search.ledger.trials[name].reason
        == "its process died 3 times before it got to a result (a crash, or the memory ran out)"
    )
    assert search.done


def test_a_trial_killed_for_memory_goes_on_in_half_batches_and_fails_only_with_those(tmp_path: Path) -> None:
    search = make(tmp_path, ("baseline",), trials=2)
    assert (suggestion := search.suggest())
    assert suggestion.parts == 1
    search.lost("baseline-0000", out_of_memory=True)
    assert (suggestion := search.suggest())
    assert (suggestion.record.name, suggestion.parts) == ("baseline-0000", 2)
    assert search.ledger.events[-1].message.startswith("out of memory; continues in half batches")
    search.lost("baseline-0000", out_of_memory=True)
    assert search.ledger.trials["baseline-0000"].reason == "out of memory, with half batches too"
    assert (suggestion := search.suggest())
    assert (suggestion.record.name, suggestion.parts) == ("baseline-0001", 1)


def test_a_search_rebuilt_from_the_ledger_goes_on_as_if_never_interrupted(tmp_path: Path) -> None:
    scores = {f"{strategy}-{n:04d}": 0.3 + 0.1 * n for strategy in STRATEGIES for n in range(6)}
    straight = make(tmp_path / "straight", trials=6)
    run_all(straight, scores)

    search = make(tmp_path / "cut", trials=6)
    for _ in range(4):  # the fourth is left running after one epoch
        suggestion = search.suggest()
        assert suggestion
        name = suggestion.record.name
        search.report(name, epoch(1, scores[name]))
        if _ < 3:
            search.report(name, finish(scores[name]))
    again = make(tmp_path / "cut", trials=6)
    resumed = again.suggest()
    assert resumed is not None
    assert resumed.record.name == name
    assert len(resumed.record.epochs) == 1
    again.report(name, finish(scores[name]))
    run_all(again, scores)
    assert again.done
    chosen = {t.name: (dict(t.hyperparameters), t.seed, t.state) for t in again.ledger.trials.values()}
    expected = {t.name: (dict(t.hyperparameters), t.seed, t.state) for t in straight.ledger.trials.values()}
    assert chosen == expected
    for strategy in STRATEGIES:
        assert state_of(again, strategy) == state_of(straight, strategy)


def test_results_that_are_known_already_are_not_recorded_twice(tmp_path: Path) -> None:
    search = make(tmp_path, ("baseline",), trials=1)
    search.suggest()
    for number in (1, 1, 2, 1, 2):
        search.report("baseline-0000", epoch(number, 0.5))
    assert [result.epoch for result in search.ledger.trials["baseline-0000"].epochs] == [1, 2]


def test_only_the_best_models_stay_on_the_storage(tmp_path: Path) -> None:
    search = make(tmp_path, ("baseline",), trials=4, keep=2)
    folder = Folder(tmp_path)
    for number, f1 in enumerate((0.5, 0.2, 0.7)):
        search.suggest()
        folder.write(f"trials/baseline-{number:04d}/deployed/x", b"x")
        search.report(f"baseline-{number:04d}", finish(f1))
    assert folder.names("trials") == ["baseline-0000", "baseline-0002"]
    search.suggest()
    folder.write("trials/baseline-0003/epoch-0001/x", b"x")
    search.stop("baseline-0003")
    assert folder.names("trials") == ["baseline-0000", "baseline-0002"]

    # as if the process had been killed before these were dropped
    for path in ("baseline-0003/epoch-0001", "baseline-0000/epoch-0003", "baseline-0002/epoch-0002"):
        folder.write(f"trials/{path}/x", b"x")
    make(tmp_path, ("baseline",), trials=4, keep=2)
    assert folder.names("trials") == ["baseline-0000", "baseline-0002"]
    assert folder.names("trials/baseline-0000") == ["deployed"]
    assert folder.names("trials/baseline-0002") == ["deployed", "epoch-0002"]  # the best one's


def test_a_failed_trial_that_trained_another_for_longer_does_so_again_when_it_is_retried(tmp_path: Path) -> None:
    folder = Folder(tmp_path)

    def search(**plan: Any) -> Search:
        study = StrategyStudy("baseline", StudyStorage(InMemoryStorage()), 0, {})
        return Search(folder, Ledger(folder), {"baseline": study}, SearchPlan(1, **plan))

    run_all(search())
    longer = search(train_to=3)
    first = longer.suggest()
    assert first is not None
    longer.report(first.record.name, fail("out of memory"))
    again = search(retry_failed=True).suggest()
    assert again is not None
    assert again.record.retry_of == first.record.name
    assert (again.record.continues, again.record.until) == ("baseline-0000", 3)
    assert len(again.record.epochs) == 1


def test_a_checkpoint_that_another_trial_goes_on_from_stays_until_that_one_has_ended(tmp_path: Path) -> None:
    folder = Folder(tmp_path)

    def search(trials: int, train_to: int | None = None) -> Search:
        study = StrategyStudy("low_rank", StudyStorage(InMemoryStorage()), 0, {})
        return Search(folder, Ledger(folder), {"low_rank": study}, SearchPlan(trials, keep=1, train_to=train_to))

    first = search(trials=1)
    first.suggest()
    folder.write("trials/low_rank-0000/epoch-0001/x", b"x")
    first.report("low_rank-0000", epoch(1, 0.5))
    first.report("low_rank-0000", finish(0.5))

    more = search(trials=2, train_to=3)
    further, better = more.suggest(), more.suggest()
    assert further is not None
    assert better is not None
    assert further.record.continues == "low_rank-0000"
    folder.write(f"trials/{better.record.name}/deployed/x", b"x")
    more.report(better.record.name, finish(0.7))
    assert folder.names("trials/low_rank-0000") == ["epoch-0001"]
    more.report(further.record.name, finish(0.6))
    assert folder.names("trials") == [better.record.name]


def test_the_next_trial_does_not_wait_for_files_to_be_dropped(tmp_path: Path) -> None:
    let_go = threading.Event()

    class SlowFolder(Folder):
        def delete_folder(self, relative: str) -> None:
            let_go.wait(GUARD_SECONDS)
            super().delete_folder(relative)

    folder = SlowFolder(tmp_path)
    study = StrategyStudy("baseline", StudyStorage(InMemoryStorage()), 0, {})
    with ThreadPoolExecutor(1) as discarding:
        search = Search(folder, Ledger(folder), {"baseline": study}, SearchPlan(2), discarding=discarding)
        search.suggest()
        folder.write("trials/baseline-0000/epoch-0001/x", b"x")
        search.stop("baseline-0000")
        assert search.suggest() is not None
        assert folder.names("trials") == ["baseline-0000"]
        let_go.set()
    assert folder.names("trials") == []


def test_of_equally_good_trials_the_smaller_ones_model_and_checkpoint_stay(tmp_path: Path) -> None:
    search = make(tmp_path, ("baseline", "combined"), trials=2)
    folder = Folder(tmp_path)
    for size in (1000, 1000, 900, 100):
        suggestion = search.suggest()
        assert suggestion
        name = suggestion.record.name
        for path in (f"trials/{name}/deployed/x", f"trials/{name}/epoch-0001/x", f"trials/baseline-0000/{LOGITS_FILE}"):
            folder.write(path, b"x")
        search.report(name, finish(0.5, size))
    assert folder.names("trials/combined-0000") == []
    assert folder.names("trials/combined-0001") == ["deployed", "epoch-0001"]


def test_the_ledger_is_one_small_file_per_event_in_order(tmp_path: Path) -> None:
    search = make(tmp_path, ("baseline",), trials=1)
    run_all(search)
    names = Folder(tmp_path).names("ledger")
    assert [name.partition("-")[2] for name in names] == [
        "suggested.json", "epoch.json", "finished.json", "teacher.json",
    ]  # fmt: skip
    (tmp_path / "ledger" / ".00000004-epoch.json.ab12.tmp").write_text("{half")
    assert trials_of(read_events(Folder(tmp_path)))["baseline-0000"].state == "finished"


def test_ranking_is_by_the_deployed_models_validation_figure(tmp_path: Path) -> None:
    search = make(tmp_path, ("baseline",))
    run_all(search, {"baseline-0000": 0.5, "baseline-0001": 0.8, "baseline-0002": 0.8})
    run = made_run(Folder(tmp_path), ["baseline"], search.ledger.trials.values())
    assert [trial.name for trial in run.best("baseline", 2)] == ["baseline-0001", "baseline-0002"]


def test_suggestions_do_not_depend_on_the_hash_seed(
    tmp_path: Path, start_python: Callable[..., "subprocess.Popen[str]"]
) -> None:
    code = """
import json, sys
from pathlib import Path
from tests.tune_jobs.test_search import make, run_all
search = make(Path(sys.argv[1]), ("baseline", "low_rank"), trials=3)
run_all(search)
print(json.dumps([[t.name, dict(t.hyperparameters), t.seed] for t in search.ledger.trials.values()]))
"""
    processes = [
        start_python("-c", code, tmp_path / seed, env={"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE)
        for seed in ("1", "2")
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert outputs[0] == outputs[1]
    assert len(json.loads(outputs[0])) == 6


def race(scheduler: StrategyASHA, strategy: str, scores: list[list[float]]) -> list[int]:
    """Epochs that each trial reaches when trials run one after another."""
    reached = []
    for number, curve in enumerate(scores):
        name = f"{strategy}-{number:04d}"
        scheduler._enter(strategy, name)
        done = 0
        for step, f1 in enumerate(curve, start=1):
            done = step
            if scheduler.race(strategy, name, step, f1) == "STOP":
                break
        reached.append(done)
    return reached


def test_a_slow_strategy_is_not_starved_by_a_fast_one() -> None:
    scheduler = StrategyASHA(("baseline", "low_rank"), epochs=4, reduction_factor=2)
    fast = [[0.9, 0.9, 0.9, 0.9]] * 6
    slow = [[0.2, 0.3, 0.4, 0.5]] * 6
    assert race(scheduler, "baseline", fast) == [4] * 6
    assert race(scheduler, "low_rank", slow) == [4] * 6


def test_a_weak_trial_is_stopped_early_and_the_last_epoch_never_is() -> None:
    scheduler = StrategyASHA(("baseline",), epochs=4, reduction_factor=2)
    weak, fair = [0.1, 0.1, 0.1, 0.1], [0.5, 0.6, 0.7, 0.8]
    curves = [fair, [0.6, 0.7, 0.8, 0.9], weak, weak, weak, [0.7, 0.8, 0.9, 0.0]]
    # The first three fill the rung, and no trial is stopped before its second epoch.
    assert race(scheduler, "baseline", curves) == [4, 4, 4, 2, 2, 4]


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_rungs_are_rebuilt_from_the_ledger(tmp_path: Path, cut: int) -> None:
    curves = [[0.5, 0.6, 0.7, 0.8], [0.6, 0.7, 0.8, 0.9], [0.55, 0.6, 0.6, 0.6], [0.58, 0.7, 0.9, 0.0]]
    curves = [*curves, [0.5, 0.1, 0.1, 0.1], [0.5, 0.65, 0.7, 0.7]]
    straight = race(StrategyASHA(("baseline",), epochs=4, reduction_factor=2), "baseline", curves)
    assert 2 in straight
    search = make(tmp_path, ("baseline",), trials=6)
    for number in range(cut):
        search.suggest()
        for step in range(straight[number]):
            search.report(f"baseline-{number:04d}", epoch(step + 1, curves[number][step]))
    rebuilt = StrategyASHA(("baseline",), epochs=4, reduction_factor=2, known=search.ledger.events)
    assert (
        straight[:cut]
        + [
            reached
            for number, curve in enumerate(curves[cut:], start=cut)
            for reached in race_one(rebuilt, f"baseline-{number:04d}", curve)
        ]
        == straight
    )


def race_one(scheduler: StrategyASHA, name: str, curve: list[float]) -> list[int]:
    scheduler._enter("baseline", name)
    for step, f1 in enumerate(curve, start=1):
        if scheduler.race("baseline", name, step, f1) == "STOP":
            return [step]
    return [len(curve)]


def test_several_objectives_are_told_to_the_study_and_rebuilt_and_their_front_is_kept(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "a")

    def finish_with(search: Search, f1: float, size: int) -> None:
        suggestion = search.suggest()
        assert suggestion
        name = suggestion.record.name
        folder.write(f"trials/{name}/deployed/x", b"x")
        folder.write(f"{suggestion.record.teacher}/{LOGITS_FILE}", b"x")
        search.report(name, epoch(1, 0.1))
        search.report(name, finish(f1, size))

    search = make(tmp_path / "a", ("baseline", "combined"), trials=4, keep=1)
    for _ in range(4):
        suggestion = search.suggest()
        assert suggestion
        folder.write(f"trials/{suggestion.record.name}/deployed/x", b"x")
        search.report(suggestion.record.name, finish(0.5))
    for f1, size in [(0.9, 1000), (0.8, 100), (0.7, 200)]:
        finish_with(search, f1, size)
    study = search._studies["combined"]._study
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert [trial.values for trial in study.trials] == [[0.9, 1000], [0.8, 100], [0.7, 200]]
    kept = [name for name in folder.names("trials") if name.startswith("combined")]
    assert kept == ["combined-0000", "combined-0001"]

    shutil.copytree(tmp_path / "a", tmp_path / "b")
    again = make(tmp_path / "b", ("baseline", "combined"), trials=4, keep=1)
    rebuilt = again._studies["combined"]._study
    assert [trial.values for trial in rebuilt.trials] == [trial.values for trial in study.trials]
    expected, found = search.suggest(), again.suggest()
    assert expected
    assert found
    assert found.record.hyperparameters == expected.record.hyperparameters


def test_the_front_holds_what_no_other_point_surpasses() -> None:
    objectives = (("f1", "maximize"), ("bytes", "minimize"))
    points = [[0.9, 10.0], [0.8, 10.0], [0.8, 5.0], [0.9, 10.0], [0.7, 6.0], [0.5, 1.0]]
    assert pareto_front(points, objectives) == [True, False, True, False, False, True]
    assert pareto_front([], objectives) == []


def test_a_strategy_with_several_objectives_stops_no_trial_early() -> None:
    scheduler = StrategyASHA(("combined", "baseline"), epochs=4, reduction_factor=2)
    assert race(scheduler, "combined", [[0.9] * 4] * 4 + [[0.1] * 4]) == [4] * 5
    assert race(scheduler, "baseline", [[0.9] * 4] * 4 + [[0.1] * 4])[-1] == 2


@pytest.mark.parametrize("strategy", ["quantization", "combined"])
def test_a_search_for_small_models_suggests_more_of_them_also_once_it_is_resumed(strategy: str) -> None:
    def size(configuration: Mapping[str, Any]) -> int:
        """Small where embeddings are quantized or cut, which costs quality."""
        small = configuration.get("quantize_embeddings", configuration.get("vocabulary") == "corpus")
        return 500 if small else 2_000

    def small_ones(at_most: int | None, seed: int) -> int:
        study = StrategyStudy(strategy, StudyStorage(InMemoryStorage()), seed, {}, width=32, at_most=at_most)
        records = []
        for _ in range(30):
            number, hyperparameters, distributions = study.ask()
            final = deployed_result(0.5 if size(hyperparameters) < 1_000 else 0.9, size(hyperparameters))
            study.finished(number, final)
            name = f"{strategy}-{number:04d}"
            records.append(
                TrialRecord(name, strategy, number, 0, hyperparameters, distributions, state="finished", final=final)
            )
        again = StrategyStudy(strategy, StudyStorage(InMemoryStorage()), seed, {}, width=32, at_most=at_most)
        for record in records:
            again.restore(record)
        assert again.ask() == study.ask()
        return sum(size(record.hyperparameters) < 1_000 for record in records[10:])

    wished, free = (sum(small_ones(at_most, seed) for seed in range(3)) for at_most in (1_000, None))
    assert wished >= 48, "of 60"
    assert free <= 40
