"""Models along the front of quality against cost: which are tested, in which order, and what is shown of them."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.evaluation.front import (
    Fronts,
    on_front,
    preferred,
    read_fronts,
    wished,
    with_references,
    write_fronts,
)
from analysis.evaluation.predictions import TEST, Predictions, write_predictions
from analysis.evaluation.wishes import Wishes
from analysis.report.findings import read_findings
from analysis.report.recommend import recommend
from analysis.statistics.comparison import few_changes
from analysis.statistics.fixed_sequence import not_worse, proven_in_turn
from analysis.statistics.resampling import resample
from benchmarks.simulated_cluster import deployed_result, epoch_result
from run_folder.errors import DamagedFileWarning
from run_folder.folder import Folder
from run_folder.run import Run
from run_folder.trials import TrialRecord
from tests.made_runs import made_run
from tests.report_runs import Builder

PATIENTS = 1_200
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 2, PATIENTS)
WRONG = RANDOM.permutation(PATIENTS)[:120]


def predictions(changed: int, *, worse: bool = True) -> Predictions:
    """The baseline's errors, and as many patients more (or fewer) whom the model gets wrong."""
    said = LABELS.copy()
    said[WRONG] = 1 - said[WRONG]
    others = np.setdiff1d(np.arange(PATIENTS), WRONG)[:changed] if worse else WRONG[:changed]
    said[others] = 1 - said[others]
    return Predictions(np.array([f"{i:05d}" for i in range(PATIENTS)]), LABELS, np.eye(2)[said] * 0.8 + 0.1)


def trial(strategy: str, number: int, f1: float, size: int) -> TrialRecord:
    return TrialRecord(
        f"{strategy}-{number:04d}", strategy, number, 0, {"start": "pretrained"}, {}, state="finished",
        final=replace(deployed_result(f1, size), macs=size), epochs=(epoch_result(1, f1),),
    )  # fmt: skip


def run_of(folder: Path, changed: dict[str, int], trials: list[TrialRecord]) -> Run:
    """A run whose baseline and these trials were evaluated; ``changed`` patients are lost by each."""
    run = made_run(Folder(folder), ("baseline", "low_rank", "pruning"), trials, ("pain", "fever"))
    buffer = io.BytesIO()
    ids = predictions(0).ids
    pd.DataFrame({"id": ids, "patient": ids, "text": "", "symptom": "pain", "category": ""}).to_parquet(buffer)
    run.folder.write("data/test.parquet", buffer.getvalue())
    for name, count in ({"baseline-0000": 0} | changed).items():
        write_predictions(run, name, TEST, predictions(count))
    for found in trials:
        run.folder.write(f"trials/{found.name}/deployed/model", b"x")
    return run


BASELINE = trial("baseline", 0, 0.9, 1_000)


def fronts_of(run: Run) -> Fronts:
    write_fronts(run, 0.01, preferred(run))
    found = read_fronts(run)
    assert found is not None
    return found


def test_the_smallest_that_is_proven_after_all_larger_ones_is_found(tmp_path: Path) -> None:
    large, middle, small = (trial("pruning", n, f1, s) for n, f1, s in ((0, 0.9, 800), (1, 0.89, 400), (2, 0.88, 100)))
    surpassed = trial("low_rank", 0, 0.87, 500)
    names = [t.name for t in (large, middle, small, surpassed)]
    run = run_of(tmp_path, dict(zip(names, (2, 2, 60, 60), strict=True)), [BASELINE, large, middle, small, surpassed])
    assert on_front(run) == [large.name, middle.name, small.name]
    members = fronts_of(run).members["bytes"]
    assert [(m.trial, m.proven) for m in members] == [(large.name, True), (middle.name, True), (small.name, False)]
    assert fronts_of(run).smallest_proven == members[1]
    assert "latency" not in fronts_of(run).members  # nobody measured it
    assert all(m.reference == "baseline-0000" for m in members)


def test_none_is_tested_after_one_that_is_not_proven(tmp_path: Path) -> None:
    large, small = trial("pruning", 0, 0.9, 800), trial("pruning", 1, 0.89, 100)
    run = run_of(tmp_path, {large.name: 60, small.name: 0}, [BASELINE, large, small])
    assert [m.proven for m in fronts_of(run).members["bytes"]] == [False, None]
    assert fronts_of(run).smallest_proven is None


def test_the_order_does_not_depend_on_the_test_set(tmp_path: Path) -> None:
    models = [BASELINE, trial("pruning", 0, 0.9, 800), trial("pruning", 1, 0.89, 100)]
    orders = []
    for place, counts in enumerate(({"pruning-0000": 0, "pruning-0001": 90}, {"pruning-0000": 90, "pruning-0001": 0})):
        orders.append([m.trial for m in fronts_of(run_of(tmp_path / str(place), counts, models)).members["bytes"]])
    assert orders[0] == orders[1] == ["pruning-0000", "pruning-0001"]


def test_what_is_as_large_as_the_baseline_is_no_member(tmp_path: Path) -> None:
    run = run_of(tmp_path, {"pruning-0000": 0}, [BASELINE, trial("pruning", 0, 0.99, 1_000)])
    assert fronts_of(run).members["bytes"] == ()


def test_a_model_that_started_from_the_baseline_is_not_proven_against_one_trained_for_less(tmp_path: Path) -> None:
    started = replace(
        trial("pruning", 0, 0.9, 100), hyperparameters={"start": "baseline"}, teacher="trials/baseline-0000"
    )
    run = run_of(tmp_path, {started.name: 0}, [BASELINE, started])
    member = fronts_of(run).members["bytes"][0]
    assert (member.reference, member.found, member.proven) == (None, None, None)


@pytest.mark.parametrize(
    ("p", "proven"),
    [
        ([0.01, 0.05, 0.2, 0.001], [True, True, False, None]),
        ([0.06, 0.0], [False, None]),
        ([], []),
        ([float("nan")], [False]),
    ],
)
def test_claims_are_proven_in_turn(p: list[float], proven: list[bool | None]) -> None:
    assert list(proven_in_turn(p)) == proven


def test_few_changes_are_judged_by_how_many_they_are() -> None:
    found = [predictions(0), predictions(2), predictions(100), predictions(60, worse=False)]
    of_all = resample(LABELS, found[0].ids, np.stack([p.probabilities for p in found]), resamples=1)
    few = few_changes(of_all, 1, 0)
    assert few is not None
    assert few.changed == 2
    assert not_worse(of_all, 1, 0, 0.01).p <= 0.05
    alone = resample(LABELS, found[0].ids, np.stack([p.probabilities for p in found[:2]]), resamples=1)
    assert few_changes(alone, 1, 0) is None  # nothing tells what a change does
    assert few_changes(of_all, 2, 0) is None  # many changes tell enough themselves


def test_the_reach_of_few_changes_is_what_its_p_value_says() -> None:
    found = [predictions(0), predictions(3), predictions(100)]
    of_all = resample(LABELS, found[0].ids, np.stack([p.probabilities for p in found]), resamples=1)
    few = few_changes(of_all, 1, 0)
    assert few is not None
    for level in (0.5, 0.9, 0.95, 0.99):
        assert few.p_beyond(few.reach(level)) == pytest.approx((1 - level) / 2, rel=1e-3)
    assert few.worst >= 1  # a patient in 1,200 is worth about that share of macro F1


def test_the_recommendation_says_how_much_smaller_and_what_is_shown(tmp_path: Path) -> None:
    builder = Builder(tmp_path, ("baseline", "quantization"))
    builder.search(1)
    found = recommend(read_findings(builder.analyse()))
    assert found is not None
    assert found.why == (
        "quantization is 4.0 × smaller (23.0 MB against 91.0 MB) and 4.0 × as fast, and not worse by more than 0.01 "
        "macro F1 (95%)."
    )


def test_a_model_without_a_reference_does_not_end_the_sequence(tmp_path: Path) -> None:
    started = replace(
        trial("pruning", 0, 0.9, 800), hyperparameters={"start": "baseline"}, teacher="trials/baseline-0000"
    )
    small, large_change = trial("pruning", 1, 0.89, 100), trial("low_rank", 0, 0.1, 900)
    counts = {started.name: 0, small.name: 2, large_change.name: 60}
    run = run_of(tmp_path, counts, [BASELINE, started, small, large_change])
    assert [(m.trial, m.proven) for m in fronts_of(run).members["bytes"]] == [(started.name, None), (small.name, True)]


def test_a_model_that_is_no_longer_on_the_storage_is_not_recommended(tmp_path: Path) -> None:
    kept, gone = trial("pruning", 0, 0.9, 800), trial("pruning", 1, 0.89, 100)
    run = run_of(tmp_path, {kept.name: 2, gone.name: 2, "low_rank-0000": 60}, [BASELINE, kept, gone])
    run.folder.delete_folder(f"trials/{gone.name}")
    assert [m.trial for m in fronts_of(run).members["bytes"]] == [kept.name]


def test_a_best_model_that_is_missing_is_told(tmp_path: Path) -> None:
    kept, gone = trial("pruning", 0, 0.9, 800), trial("low_rank", 0, 0.89, 100)
    run = run_of(tmp_path, {kept.name: 2, gone.name: 2}, [BASELINE, kept, gone])
    run.folder.delete_folder(f"trials/{gone.name}")
    with pytest.warns(DamagedFileWarning, match="the models of low_rank-0000 are missing"):
        assert [m.trial for m in fronts_of(run).members["bytes"]] == [kept.name]


def test_the_baselines_that_members_of_the_front_need_are_evaluated_too(tmp_path: Path) -> None:
    started = replace(
        trial("pruning", 0, 0.9, 800), hyperparameters={"start": "baseline"}, teacher="trials/baseline-0000"
    )
    longer = replace(BASELINE, name="baseline-0000-cycle2", trains_on="baseline-0000", teacher="trials/baseline-0000")
    run = run_of(tmp_path, {}, [BASELINE, longer, started])
    assert with_references(run, on_front(run)) == [started.name, longer.name]


@pytest.mark.parametrize(
    ("wishes", "size", "latency", "missed"),
    [
        (Wishes(), 5_000, None, {}),
        (Wishes(at_most=1_000), 1_000, None, {}),
        (Wishes(at_most=1_000), 2_500, None, {"at_most": 2.5}),
        (Wishes(faster=2.0), 1, 0.001, {}),
        (Wishes(faster=4.0), 1, 0.001, {"faster": 2.0}),
        (Wishes(latency=0.001), 1, 0.003, {"latency": 3.0}),
        (Wishes(faster=2.0, latency=1.0), 1, None, {"faster": None, "latency": None}),
    ],
)
def test_what_a_model_misses_is_said_as_a_factor(
    wishes: Wishes, size: int, latency: float | None, missed: dict[str, float | None]
) -> None:
    assert wishes.missed(size, latency, 0.002) == pytest.approx(missed)


def test_the_recommended_model_is_as_wished_or_the_nearest_that_is_proven(tmp_path: Path) -> None:
    large, small, lost = trial("pruning", 0, 0.9, 800), trial("low_rank", 0, 0.89, 400), trial("pruning", 1, 0.5, 100)
    run = run_of(tmp_path, {large.name: 2, small.name: 2, lost.name: 60}, [BASELINE, large, small, lost])
    write_fronts(run, 0.01, "bytes", Wishes(at_most=500))
    assert wished(run) == Wishes(at_most=500)
    found = recommend(read_findings(run))
    assert found is not None
    assert found.trial.name == small.name
    write_fronts(run, 0.01, "bytes", Wishes(at_most=200))
    found = recommend(read_findings(run))
    assert found is not None
    assert found.trial.name == small.name
    assert "No model that is shown to be no worse by more than 0.01 is as wished (at most 0.0002 MB)" in found.why
    assert "2 × away" in found.why


def test_wishes_that_nothing_proven_could_fulfil_are_said_not_to_be(tmp_path: Path) -> None:
    lost = trial("pruning", 1, 0.5, 100)
    run = run_of(tmp_path, {lost.name: 60}, [BASELINE, lost])
    write_fronts(run, 0.01, "bytes", Wishes(at_most=500))
    found = recommend(read_findings(run))
    assert found is not None
    assert found.trial.name == BASELINE.name
    assert "So none is as wished (at most 0.0005 MB)" in found.why
