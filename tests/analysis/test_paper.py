"""A run compared with the paper."""

import io
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from analysis.evaluation.evaluate import Evaluation
from analysis.evaluation.result_files import write_result
from analysis.evaluation.run_statistics import (
    DifferenceFigure,
    SeedsFigure,
    Statistics,
    StrategyStatistics,
    read_statistics,
)
from analysis.paper.claims import (
    NOT_SUPPORTED,
    PAPER,
    SUPPORTED,
    UNKNOWN,
    Claim,
    Comparison,
    OurDifferences,
    PaperDifferences,
    claims,
    compare_paper,
    read_paper,
)
from analysis.paper.published import area_error, likely_confusion, paper_figures
from analysis.statistics.comparison import compare
from analysis.statistics.intervals import figure_intervals
from analysis.statistics.resampling import METRICS, OVERALL, resample
from benchmarks.simulated_cluster import deployed_result
from run_folder.folder import Folder
from run_folder.records import to_json, to_plain
from run_folder.results import Metrics, Scores
from run_folder.run import Run
from run_folder.trials import TrialRecord
from tests.made_runs import made_run

SHARED = Path(__file__).parents[2].parent / "shared" / "paper"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the paper's figures as CSV are not next to the repository"
)


@needs_shared
def test_class_counts_are_the_fewest_examples_that_every_recall_is_a_whole_share_of() -> None:
    epochs = pd.read_csv(SHARED / "reference_run_per_epoch_per_symptom.csv")
    counts = paper_figures().examples
    for symptom, rows in epochs.groupby("symptom"):
        shares = [Fraction(recall).limit_denominator(435) for recall in rows["recall"]]
        assert math.lcm(*(share.denominator for share in shares)) == counts[str(symptom)]
        pairs = 2 * rows["auroc"] * counts[str(symptom)] * (435 - counts[str(symptom)])  # ties count half
        assert np.allclose(pairs, pairs.round(), atol=1e-6)
    assert sum(counts.values()) == 435


@needs_shared
def test_the_tables_are_those_of_the_paper() -> None:
    figures = paper_figures().figures
    for row in pd.read_csv(SHARED / "table1.csv").to_dict("records"):
        assert all(figures[row["strategy"], OVERALL, metric].value == row[metric] for metric in METRICS)
    for row in pd.read_csv(SHARED / "table2.csv").to_dict("records"):
        assert all(figures[row["strategy"], row["symptom"], metric].value == row[metric] for metric in METRICS[1:])


def test_435_examples_leave_an_accuracy_open_by_more_than_two_hundredths() -> None:
    accuracy = paper_figures().figures["baseline", OVERALL, "accuracy"]
    assert (accuracy.low, accuracy.high) == pytest.approx((0.9085, 0.9551), abs=1e-4)
    f1 = paper_figures().figures["baseline", OVERALL, "f1"]
    assert f1.error == pytest.approx(0.0116, abs=5e-4)


def test_errors_are_spread_so_that_rows_and_columns_sum_up() -> None:
    examples, hits, predicted = np.array([98, 93, 71]), np.array([90, 86, 70]), np.array([95, 93, 74])
    confusion = likely_confusion(examples, hits, predicted)
    np.testing.assert_allclose(confusion.sum(axis=1), examples, atol=1e-6)
    np.testing.assert_allclose(confusion.sum(axis=0), predicted, atol=1e-6)


def test_the_error_of_an_auroc_is_that_of_exponential_scores() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([1, 0], [40, 120])
    drawn = generator.exponential(np.where(labels, 9.0, 1.0), (1000, 160))  # AUROC 0.9
    areas = (rankdata(drawn, axis=1)[:, labels == 1].sum(axis=1) - 40 * 41 / 2) / (40 * 120)
    assert area_error(0.9, 40, 120) == pytest.approx(areas.std(), rel=0.1)


def test_every_claim_is_what_the_papers_figures_say_and_few_are_more_than_chance() -> None:
    paper = PaperDifferences(paper_figures())
    for claim in claims():
        assert all(paper.widest(comparison).point > claim.least for comparison in claim.comparisons), claim.words
    verdicts = {claim.words: paper.judged(claim)[0] for claim in claims()}
    assert verdicts["The baseline has the best macro F1"] == NOT_SUPPORTED  # 407 of 435 against 406
    assert SUPPORTED not in verdicts.values()


SYMPTOMS = ("fever", "cough", "edema", "rash")
QUALITY = {"baseline": 4.0, "distillation": 4.0, "quantization": 0.5}


def record(strategy: str) -> TrialRecord:
    return TrialRecord(f"{strategy}-0000", strategy, 0, 0, {}, {}, state="finished", final=deployed_result(0.5))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Three strategies, one of them bad, with symptoms that are not all the paper's."""
    generator, folder = np.random.default_rng(0), Folder(tmp_path)
    labels = np.arange(240) % len(SYMPTOMS)
    ids = [f"{i:03d}" for i in range(len(labels))]
    patients = [f"p{i // 3}" for i in range(len(labels))]
    examples = pd.DataFrame({"id": ids, "symptom": [SYMPTOMS[label] for label in labels], "patient": patients})
    (tmp_path / "data").mkdir()
    examples.to_parquet(tmp_path / "data" / "test.parquet")
    common = generator.normal(size=(240, 4))
    probabilities = []
    for strategy, quality in QUALITY.items():
        scores = np.exp(common + 0.3 * generator.normal(size=(240, 4)) + quality * np.eye(4)[labels])
        scores /= scores.sum(axis=1, keepdims=True)
        probabilities.append(scores)
        table = pd.DataFrame(
            {"id": ids, "label": labels, **{f"probability_{s}": scores[:, c] for c, s in enumerate(SYMPTOMS)}}
        )
        buffer = io.BytesIO()
        table.sample(frac=1, random_state=1).to_parquet(buffer)
        folder.write(f"results/predictions/{strategy}-0000.parquet", buffer.getvalue())
    statistics = statistics_of(labels, np.array(patients), np.array(probabilities))
    folder.write("results/statistics.json", to_json(statistics))
    strategies = [*QUALITY, "low_rank"]
    return made_run(folder, strategies, map(record, QUALITY), SYMPTOMS)


def statistics_of(labels: Any, patients: Any, probabilities: Any) -> Statistics:
    resampled = resample(labels, patients, probabilities, resamples=200)
    strategies = {
        strategy: StrategyStatistics(
            trial=f"{strategy}-0000",
            seeds=(f"{strategy}-0000",),
            figures=table(figure_intervals(resampled.mean([i])), partial(SeedsFigure, deviation=None)),
            differences=table(compare(resampled, [i], [0]), partial(DifferenceFigure, p=None)) if i else None,
        )
        for i, strategy in enumerate(QUALITY)
    }
    return Statistics(
        identity="",
        margin=0.01,
        level=0.95,
        resamples=200,
        patients=80,
        examples=len(labels),
        examples_per_symptom={},
        models={},
        strategies=strategies,
        undefined_note=None,
    )


def table(found: Any, of: Callable[..., Any]) -> dict[str, Any]:
    def cell(row: int, column: int) -> Any:
        values = {end: float(getattr(found, end)[row, column]) for end in ("point", "low", "high")}
        return of(**{end: None if math.isnan(value) else value for end, value in values.items()})

    return {
        name: {metric: cell(row, column) for column, metric in enumerate(METRICS)}
        for row, name in enumerate((OVERALL, *SYMPTOMS))
    }


def test_claims_are_judged_by_the_runs_own_intervals(run: Run) -> None:
    found = {claim.claim: claim for claim in compare_paper(run).claims}
    within = found["Compression keeps macro F1 within 0.023 of the baseline"]
    assert within.verdict == NOT_SUPPORTED  # whatever the strategies that are missing would do
    assert within.why == "quantization − baseline: the whole interval is below -0.023"
    next_best = found["Pruning comes next, before low rank and quantization"]
    assert (next_best.verdict, next_best.why) == (UNKNOWN, "the run has no evaluated model of pruning")
    pain = found["Low rank and quantization say pain too often: its precision is less than the baseline's"]
    assert pain.verdict == UNKNOWN
    assert "pain is no symptom of the run" in pain.why


def test_a_claim_whose_every_interval_lies_where_it_says_is_supported(run: Run) -> None:
    statistics = read_statistics(run)
    claim = next(claim for claim in claims() if claim.words.startswith("Quantization costs"))
    of_two = Claim(claim.words, tuple(c for c in claim.comparisons if c.strategy in QUALITY))
    verdict, ours, why = OurDifferences(run, statistics).judged(of_two)
    assert (verdict, why) == (SUPPORTED, "every interval is above 0")
    assert " − quantization +" in ours


def test_strategies_that_are_not_the_baseline_are_compared_as_with_it(run: Run) -> None:
    """The same test gives the stored difference to the baseline when asked for it in another strategy's place."""
    statistics = read_statistics(run)
    assert statistics is not None
    of = statistics.strategies
    assert of["quantization"].differences is not None
    stored = of["quantization"].differences[OVERALL]["f1"]
    comparison = Comparison("quantization", "pruning")
    found = OurDifferences(run, replace(statistics, strategies={**of, "pruning": of["baseline"]})).difference(
        comparison
    )
    assert not isinstance(found, str)
    assert (found.point, found.low, found.high) == pytest.approx((stored.point, stored.low, stored.high))


def test_rows_are_matched_by_name_and_what_one_side_lacks_is_left_open(run: Run) -> None:
    found = compare_paper(run)
    rows = {(row.symptom, row.strategy, row.metric): row for row in found.table2}
    assert rows["edema", "pruning", "f1"].ours is None
    assert rows["rash", "baseline", "f1"].paper is None
    edema = rows["edema", "baseline", "f1"]
    assert edema.ours is not None
    assert edema.difference == pytest.approx(edema.ours - 0.9278)
    assert read_paper(run) == found
    assert len(run.folder.read("results/paper.csv").decode().splitlines()) == 1 + 5 * 5 + 6 * 5 * 4


@pytest.mark.parametrize("protocol", [True, False])
def test_a_comparison_that_an_older_version_wrote_is_read_with_the_runs_protocol(run: Run, *, protocol: bool) -> None:
    found = compare_paper(run)
    old = to_plain(replace(found, follows=None)) | {"protocol": protocol}
    write_result(run, PAPER, old)
    read = read_paper(run)
    assert read == found
    assert read.follows == "paper"


def test_without_statistics_figures_have_no_intervals_and_claims_no_verdict(run: Run) -> None:
    Path(run.folder.uri, "results/statistics.json").unlink()
    fever = Scores(precision=0.5, recall=0.5, f1=0.5, auroc=None)
    test = Metrics(**vars(fever), accuracy=0.5, per_symptom={"fever": fever})
    figures = Evaluation(name="baseline-0000", identity="", examples=9, test=test)
    run.folder.write("results/trials/baseline-0000.json", to_json(figures))
    found = compare_paper(run)
    first = found.table1[0]
    assert (first.ours, first.ours_low) == (0.5, None)
    assert {claim.verdict for claim in found.claims} == {UNKNOWN}
    assert found.claims[0].why == "there is no results/statistics.json yet"
