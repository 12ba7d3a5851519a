"""Further cycles of the best baseline: until it has settled, and as what longer trained models are compared with."""

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.evaluation.predictions import TEST, VALIDATION, Predictions, write_predictions
from analysis.evaluation.references import reference_in
from analysis.evaluation.run_statistics import compared_trials, read_statistics, write_statistics
from analysis.statistics.verdict import Outcome
from benchmarks.simulated_cluster import deployed_result, epoch_result
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from run_folder.results import Report, TrialFailed
from run_folder.run import Run
from run_folder.trials import TrialRecord
from tests.made_runs import made_run
from tests.tiny_runs import quiet
from trainables import trainable_class
from trainables.parts.training.teaching import LOGITS_FILE
from trainables.references import epochs_in_all, without_reference
from tune_jobs.searching.cycles import gains
from tune_jobs.searching.plan import SearchPlan
from tune_jobs.searching.progress import Progress
from tune_jobs.searching.search import Search
from tune_jobs.searching.study import StrategyStudy
from tune_jobs.searching.study_storage import StudyStorage, journal

STRATEGIES = ("baseline", "low_rank", "quantization")
EPOCHS = 2


def open_search(folder: Path, cycles: int = 2, *, seeds: int = 1, retry_failed: bool = False) -> Search:
    storage = StudyStorage(journal(folder / "studies.journal"))
    studies = {name: StrategyStudy(name, storage, 0, {}) for name in STRATEGIES}
    plan = SearchPlan(2, cycles=cycles, seeds=seeds, retry_failed=retry_failed)
    return Search(Folder(folder), Ledger(Folder(folder)), studies, plan)


def run_all(search: Search, f1: Mapping[str, float], most: int = 100) -> list[str]:
    """Run what the search deals; a trial without a figure here fails."""
    names = []
    while len(names) < most and (suggestion := search.suggest()) is not None:
        record = suggestion.record
        names.append(record.name)
        if record.name not in f1:
            search.report(record.name, Report(TrialFailed("out of luck")))
            continue
        if trainable_class(record.strategy).reads_teacher_logits:
            search.ledger.folder.write(f"{record.teacher}/{LOGITS_FILE}", b"x")
        for number in range(1, EPOCHS + 1):
            search.report(record.name, Report(epoch_result(number, f1[record.name])))
        search.report(record.name, Report(deployed_result(f1[record.name])))
    return names


def test_trials_of_the_search_are_patient_and_cycles_train_to_their_ends(tmp_path: Path) -> None:
    def patience_of(folder: Path, cycles: int) -> dict[str, int]:
        storage = StudyStorage(journal(folder / "studies.journal"))
        studies = {name: StrategyStudy(name, storage, 0, {}) for name in STRATEGIES}
        plan = SearchPlan(2, cycles=cycles, patience=3, seeds=2)
        search = Search(Folder(folder), Ledger(Folder(folder)), studies, plan)
        run_all(search, dict.fromkeys((*FOUND, *CYCLES), 0.6) | {f"{n}-seed1": 0.6 for n in (*FOUND, *CYCLES)})
        return {trial.name: trial.patience for trial in Ledger(Folder(folder)).trials.values()}

    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    found = patience_of(tmp_path / "with", cycles=1)
    assert found["baseline-0000"] == found["low_rank-0001"] == found["quantization-0000"] == 3
    assert found["low_rank-0000-seed1"] == 3
    assert {found[name] for name in found if "cycle" in name} == {0}
    alone = patience_of(tmp_path / "without", cycles=0)
    assert alone["low_rank-0000"] == 3
    assert {alone[name] for name in alone if name.startswith("baseline")} == {0}, (
        "there is no longer one to compare with"
    )


CYCLES = ("baseline-0000-cycle2", "baseline-0000-cycle3")
FOUND = {f"{strategy}-000{n}": 0.6 + n / 100 for strategy in STRATEGIES for n in range(2)}


def test_the_best_baseline_is_trained_until_a_cycle_gains_nothing_and_is_the_teacher_then(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    names = run_all(search, FOUND | {"baseline-0001-cycle2": 0.7, "baseline-0001-cycle3": 0.701})
    assert names[:2] == ["baseline-0000", "low_rank-0000"]  # what needs no teacher need not wait
    cycles = [name for name in names if "cycle" in name]
    assert cycles == ["baseline-0001-cycle2", "baseline-0001-cycle3"]
    assert search.ledger.teacher == "baseline-0001-cycle2"
    students = [trial for trial in search.ledger.trials.values() if trial.strategy == "quantization"]
    assert {trial.teacher for trial in students} == {"trials/baseline-0001-cycle2"}
    assert search.ledger.asked("baseline") == 2
    assert search.done


def test_where_each_cycle_gains_one_more_is_trained_to_compare_with_and_is_no_teacher(tmp_path: Path) -> None:
    search = open_search(tmp_path, cycles=1)
    names = run_all(search, FOUND | {"baseline-0001-cycle2": 0.7, "baseline-0001-cycle3": 0.8})
    assert search.ledger.teacher == "baseline-0001-cycle2"
    assert "baseline-0001-cycle3" in names
    assert "baseline-0001-cycle4" not in names


def test_without_cycles_the_best_baseline_of_the_search_is_the_teacher(tmp_path: Path) -> None:
    search = open_search(tmp_path, cycles=0)
    run_all(search, FOUND)
    assert search.ledger.teacher == "baseline-0001"
    assert not any(trial.trains_on for trial in search.ledger.trials.values())


@pytest.mark.parametrize("most", range(1, 9))
def test_a_search_that_is_opened_again_at_any_time_trains_the_same(tmp_path: Path, most: int) -> None:
    f1 = FOUND | {"baseline-0001-cycle2": 0.7, "baseline-0001-cycle3": 0.72, "baseline-0001-cycle4": 0.72}
    run_all(open_search(tmp_path / "a"), f1)
    begun = run_all(open_search(tmp_path / "b"), f1, most)
    rest = run_all(open_search(tmp_path / "b"), f1)
    assert len(begun) == most
    whole, broken = (Ledger(Folder(tmp_path / name)) for name in "ab")
    assert {n: (t.seed, t.teacher, t.score) for n, t in broken.trials.items()} == {
        n: (t.seed, t.teacher, t.score) for n, t in whole.trials.items()
    }
    assert not set(begun) & set(rest)
    assert broken.teacher == whole.teacher == "baseline-0001-cycle3"


def test_a_cycle_that_fails_ends_the_training_and_is_repeated_if_asked(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    run_all(search, FOUND)
    assert search.ledger.trials["baseline-0001-cycle2"].state == "failed"
    assert search.ledger.teacher == "baseline-0001"
    again = open_search(tmp_path, retry_failed=True)
    assert run_all(again, FOUND | {"baseline-0001-cycle2": 0.7}) == ["baseline-0001-cycle2"]
    assert again.ledger.trials["baseline-0001-cycle2"].state == "finished"
    assert again.ledger.teacher == "baseline-0001"


def test_seeds_repeat_the_cycles_one_after_another(tmp_path: Path) -> None:
    f1 = FOUND | {"baseline-0001-cycle2": 0.7, "baseline-0001-cycle3": 0.7}
    f1 |= {f"{name}-seed1": score for name, score in f1.items()}
    search = open_search(tmp_path, seeds=2)
    names = [name for name in run_all(search, f1) if "seed" in name]
    chain = ["baseline-0001-seed1", "baseline-0001-cycle2-seed1", "baseline-0001-cycle3-seed1"]
    assert [name for name in names if name in chain] == chain
    assert search.ledger.trials[chain[2]].teacher == f"trials/{chain[1]}"
    assert search.ledger.trials["quantization-0001-seed1"].teacher == f"trials/{chain[1]}"
    assert search.done


@pytest.mark.parametrize(
    ("f1", "loss", "gained"),
    [
        (0.705, 0.5, True),
        (0.704, 0.5, False),
        (0.7, 0.48, True),
        (0.7, 0.495, False),
        (0.699, 0.1, False),
        (0.7, None, False),
    ],
)
def test_a_cycle_gains_by_macro_f1_or_by_loss(f1: float, loss: float | None, gained: bool) -> None:
    before, after = (
        replace(finished("baseline", 0, score), final=replace(deployed_result(score), validation_loss=of))
        for score, of in ((0.7, 0.5), (f1, loss))
    )
    assert gains(before, after) is gained


def finished(strategy: str, number: int, f1: float, teacher: str | None = None, cycle: int = 1) -> TrialRecord:
    name = f"{strategy}-{number:04d}" + (f"-cycle{cycle}" if cycle > 1 else "")
    return TrialRecord(
        name, strategy, number, 0, {"scheme": "qat"}, {}, state="finished", final=deployed_result(f1),
        epochs=tuple(epoch_result(n, f1) for n in range(1, 6)), teacher=teacher and f"trials/{teacher}",
        trains_on=teacher if cycle > 1 else None,
    )  # fmt: skip


def run_of(folder: Folder, *trials: TrialRecord, teacher: str | None) -> Run:
    return replace(made_run(folder, STRATEGIES, trials, ("pain", "fever")), teacher=teacher)


def test_a_model_is_compared_with_the_best_baseline_that_was_trained_for_as_long(tmp_path: Path) -> None:
    first, settled = finished("baseline", 0, 0.7), finished("baseline", 0, 0.8, "baseline-0000", 2)
    longer = finished("baseline", 0, 0.79, settled.name, 3)
    from_scratch, from_teacher = finished("low_rank", 0, 0.75), finished("quantization", 0, 0.81, settled.name)
    run = run_of(Folder(tmp_path), first, settled, longer, from_scratch, from_teacher, teacher=settled.name)
    assert [t.name for t in run.best("baseline", 3)] == [settled.name]
    assert [epochs_in_all(run.trials, t) for t in (first, settled, longer, from_scratch, from_teacher)] == [
        5, 10, 15, 5, 15,
    ]  # fmt: skip
    assert reference_in(run, from_scratch) == settled
    assert reference_in(run, from_teacher) == longer
    assert list(compared_trials(run)) == ["baseline", "low_rank", "quantization", "baseline-15-epochs"]
    alone = run_of(Folder(tmp_path), first, from_scratch, finished("quantization", 0, 0.8, first.name), teacher=None)
    assert reference_in(alone, alone.trials["quantization-0000"]) is None


def test_a_resume_names_what_would_be_trained_for_longer_than_any_baseline(tmp_path: Path) -> None:
    first, settled = finished("baseline", 0, 0.7), finished("baseline", 0, 0.8, "baseline-0000", 2)
    longer = finished("baseline", 0, 0.79, settled.name, 3)
    from_scratch, from_teacher = finished("low_rank", 0, 0.75), finished("quantization", 0, 0.81, settled.name)
    trials = {t.name: t for t in (first, settled, longer, from_scratch, from_teacher)}
    best = [settled, from_scratch, from_teacher]
    assert without_reference(trials, best, 5) == []
    assert without_reference(trials, best, 6) == [from_teacher.name]  # 10 + 6 epochs, and no baseline has more than 15
    assert without_reference(trials, best, 20) == [from_teacher.name]  # from scratch, as the baseline that has 20 then


def test_training_alone_is_not_called_better(tmp_path: Path) -> None:
    """A "compression" that changes nothing, and trains the teacher for as long as the longer baseline was."""
    random, patients = np.random.default_rng(0), 80
    labels = random.integers(0, 2, patients)

    def predictions(wrong: float) -> Predictions:
        said = np.where(random.random(patients) < wrong, 1 - labels, labels)
        return Predictions(np.array([f"{i:03d}" for i in range(patients)]), labels, np.eye(2)[said] * 0.8 + 0.1)

    first, longer = finished("baseline", 0, 0.7), finished("baseline", 0, 0.7, "baseline-0000", 2)
    null, other = finished("quantization", 0, 0.97, first.name), finished("low_rank", 0, 0.97)
    run = run_of(Folder(tmp_path), first, longer, null, other, teacher=first.name)
    examples = {"id": predictions(0).ids, "patient": predictions(0).ids, "text": "", "symptom": "pain", "category": ""}
    run = _with_test_examples(run, examples)
    trained = predictions(0.02)
    of_trial = {first.name: predictions(0.3), longer.name: trained, null.name: trained, other.name: trained}
    for name, found in of_trial.items():
        for split in (VALIDATION, TEST):
            write_predictions(run, name, split, found)
    write_statistics(run, 0.01)
    statistics = read_statistics(run)
    assert statistics is not None
    verdicts = {name: found.verdict.outcome for name, found in statistics.strategies.items() if found.verdict}
    assert verdicts == {"quantization": Outcome.SAME, "low_rank": Outcome.BETTER}
    assert statistics.strategies["quantization"].reference == "baseline-10-epochs"


def _with_test_examples(run: Run, columns: Mapping[str, object]) -> Run:
    buffer = io.BytesIO()
    pd.DataFrame(dict(columns)).to_parquet(buffer)
    run.folder.write("data/test.parquet", buffer.getvalue())
    return run


def test_seeds_of_a_chain_wait_for_one_another_where_many_trials_run_at_once(tmp_path: Path) -> None:
    f1 = FOUND | {"baseline-0001-cycle2": 0.7, "baseline-0001-cycle3": 0.7}
    f1 |= {f"{name}-seed{n}": score for name, score in f1.items() for n in (1, 2)}
    search = open_search(tmp_path, seeds=3)
    finished: set[str] = set()
    seeds: dict[str, int] = {}
    while not search.done:
        running = []
        while (suggestion := search.suggest()) is not None:
            record = suggestion.record
            assert record.teacher is None or record.teacher.removeprefix("trials/") in finished
            if record.repeats:
                seeds[record.name] = record.seed
            running.append(record.name)
        for name in running:
            search.report(name, Report(epoch_result(1, f1[name])))
            search.report(name, Report(deployed_result(f1[name])))
            finished.add(name)
    assert {"baseline-0001-cycle3-seed2", "quantization-0001-seed2"} <= finished
    assert len(set(seeds.values())) == len(seeds)  # none repeats the batches of another


def test_the_time_left_counts_cycles_and_their_seeds() -> None:
    def trials_left(cycles: int, seeds: int, *dealt: TrialRecord) -> str:
        progress = Progress(quiet(), "run", STRATEGIES, 2, EPOCHS, seeds=seeds, cycles=cycles)
        trials = {trial.name: trial for trial in (finished("baseline", 0, 0.7), *dealt)}
        progress.changed(trials["baseline-0000"], trials, {})
        return progress.time_left().partition(" trials")[0]

    assert trials_left(0, 1) == "1 of 6"
    assert trials_left(3, 1) == "1 of 8"
    assert trials_left(3, 2) == "1 of 13"
    chain = [finished("baseline", 0, 0.7, "baseline-0000", cycle) for cycle in (2, 3, 4)]
    assert trials_left(3, 1, *chain) == "4 of 9"
