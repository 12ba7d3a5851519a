"""What a search found out, of hand-made trials."""

import json
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, distribution_to_json

from analysis.evaluation.evaluate import Evaluation
from analysis.evaluation.result_files import SEAL
from analysis.evaluation.search_insight import (
    HistoryRow,
    TrialCurve,
    importances_of,
    insight,
    read_insight,
    write_insight,
)
from benchmarks.simulated_cluster import deployed_result, epoch_result
from run_folder.folder import Folder
from run_folder.records import to_json, to_plain
from run_folder.results import Metrics
from run_folder.run import Run
from run_folder.trials import TrialRecord
from tests.made_runs import made_run

RATE = distribution_to_json(FloatDistribution(0.0, 1.0))
SCHEME = distribution_to_json(CategoricalDistribution(["a", "b"]))


def trial(number: int, state: str, score: float = 0.0, epochs: tuple[float, ...] = (), **more: Any) -> TrialRecord:
    record: dict[str, Any] = {
        "hyperparameters": {"rate": number / 10}, "distributions": {"rate": RATE}, "strategy": "baseline", **more,
    }  # fmt: skip
    results = tuple(epoch_result(i, f1, 2.0) for i, f1 in enumerate(epochs, 1))
    final = deployed_result(score, seconds=9.0) if state == "finished" else None
    name = f"{record['strategy']}-{number:04d}"
    return TrialRecord(name=name, number=number, seed=0, state=state, epochs=results, final=final, **record)  # type: ignore[arg-type]


def run_of(folder: Path, *trials: TrialRecord) -> Run:
    return made_run(Folder(folder), dict.fromkeys(t.strategy for t in trials), trials)


def test_failed_trials_count_zero_and_stopped_ones_their_last_epoch(tmp_path: Path) -> None:
    run = run_of(
        tmp_path,
        trial(0, "finished", 0.9, (0.5, 0.8)),
        trial(1, "stopped", epochs=(0.7, 0.6)),
        trial(2, "failed", reason="out of memory", epochs=(0.8,)),
        trial(3, "running", epochs=(0.95,)),
        trial(4, "finished", 0.99, continues="baseline-0000"),
        trial(5, "finished", 0.98, repeats="baseline-0000"),
    )
    found = insight(run).strategies["baseline"]
    assert found.expected_best.trials == (1, 2, 3)
    assert found.expected_best.mean == pytest.approx([(0.9 + 0.6 + 0) / 3, (0.9 + 0.9 + 0.6) / 3, 0.9])
    assert (found.trials, found.finished, found.stopped, found.failed) == (5, 2, 1, 1)
    assert found.stopped_after == {"2": 1}
    assert found.curves["baseline-0001"] == TrialCurve(state="stopped", f1=(0.7, 0.6), final=None)


def test_a_failed_trial_that_was_retried_counts_once(tmp_path: Path) -> None:
    run = run_of(tmp_path, trial(0, "failed"), trial(1, "finished", 0.5, retry_of="baseline-0000"))
    assert insight(run).strategies["baseline"].expected_best.mean == (0.5,)


def test_importances_find_the_parameter_that_matters_and_name_conditional_ones() -> None:
    trials = [
        trial(
            i, "finished", 0.5 + 0.04 * i + 0.001 * (i % 2),
            hyperparameters={"rate": i / 10, "scheme": "ab"[i % 2], "fixed": 0.5, **({"depth": 0.1} if i % 2 else {})},
            distributions={"rate": RATE, "scheme": SCHEME, "fixed": RATE, **({"depth": RATE} if i % 2 else {})},
        )
        for i in range(8)
    ]  # fmt: skip
    shares, note = importances_of(trials)
    assert shares is not None
    assert list(shares) == ["rate", "scheme"]
    assert shares["rate"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)
    assert note == "of parameters that all finished trials have; not of depth"
    assert importances_of(trials) == (shares, note)


@pytest.mark.parametrize(
    ("trials", "why"),
    [
        ([trial(0, "finished", 0.5)], "needs 4 finished trials, and there are 1"),
        ([trial(i, "finished", 0.5) for i in range(5)], "all finished trials have the same score"),
        (
            [trial(i, "finished", i / 10, hyperparameters={"rate": 0.3}) for i in range(5)],
            "no parameter that all finished trials have was varied",
        ),
        ([trial(0, "failed"), trial(1, "failed")], "needs 4 finished trials, and there are 0"),
    ],
)
def test_where_there_are_no_importances_a_note_says_why(trials: list[TrialRecord], why: str) -> None:
    assert importances_of(trials) == (None, why)


def test_the_gap_is_that_of_the_best_trial_once_it_is_evaluated(tmp_path: Path) -> None:
    run = run_of(tmp_path, trial(0, "finished", 0.6), trial(1, "finished", 0.8), trial(0, "failed", strategy="pruning"))
    assert write_insight(run).strategies["baseline"].gap is None
    test = Metrics(accuracy=0.7, precision=0.7, recall=0.7, f1=0.7, auroc=None, per_symptom={})
    figures = Evaluation(name="baseline-0001", identity="", examples=9, test=test)
    run.folder.write("results/trials/baseline-0001.json", to_json(figures))
    found = write_insight(run)
    gap = found.strategies["baseline"].gap
    assert gap is not None
    assert gap.difference == pytest.approx(0.1)
    assert found.strategies["pruning"].gap is None
    written = json.loads(run.folder.read("results/insight.json"))
    assert {name: value for name, value in written.items() if name != SEAL} == to_plain(found)
    assert read_insight(run) == found


def test_a_trial_without_epochs_has_an_empty_curve_and_is_in_the_history(tmp_path: Path) -> None:
    run = run_of(tmp_path, trial(0, "finished", 0.6, strategy="quantization"))
    found = write_insight(run)
    assert found.strategies["quantization"].curves["quantization-0000"].f1 == ()
    assert found.history == (
        HistoryRow(trial="quantization-0000", strategy="quantization", number=0, state="finished", f1=0.6,
                   epochs=0, seconds=9.0),
    )  # fmt: skip
    assert "| quantization | 0.6000 |" in run.folder.read("results/insight.md").decode()


def test_what_is_written_already_is_kept_and_what_is_new_replaces_it(tmp_path: Path) -> None:
    first = run_of(tmp_path, trial(0, "running"))
    write_insight(first)
    written = (tmp_path / "results/insight.json").stat()
    write_insight(first)
    assert (tmp_path / "results/insight.json").stat().st_ino == written.st_ino
    assert write_insight(run_of(tmp_path, trial(0, "stopped", epochs=(0.4,)))).strategies["baseline"].stopped == 1
