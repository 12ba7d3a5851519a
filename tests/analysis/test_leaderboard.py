"""The leaderboard of a hand-made run."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from analysis.evaluation.controls import CONTROLS
from analysis.evaluation.costs import Costs, ModelCosts
from analysis.evaluation.evaluate import Evaluation, read_evaluation
from analysis.evaluation.leaderboard import build_leaderboard, print_leaderboard, write_leaderboard
from benchmarks.simulated_cluster import deployed_result
from run_folder.errors import DamagedFileWarning
from run_folder.folder import Folder
from run_folder.records import from_plain, to_json
from run_folder.results import Metrics
from run_folder.run import Run
from run_folder.trials import TrialRecord
from tests.made_runs import made_run

SYMPTOMS = ("pain", "=edema")


def metrics(f1: float, auroc: float | None = 0.9) -> dict[str, Any]:
    scores = {"precision": 0.5, "recall": 0.5, "f1": f1, "auroc": auroc}
    return {"accuracy": 0.5, **scores, "per_symptom": {name: dict(scores) for name in SYMPTOMS}}


def trial(strategy: str, number: int, f1: float | None, **hyperparameters: object) -> TrialRecord:
    record = TrialRecord(f"{strategy}-{number:04d}", strategy, number, 0, hyperparameters, {})
    if f1 is None:
        return TrialRecord(**{**vars(record), "state": "failed", "reason": "out of memory"})
    final = replace(
        deployed_result(f1, 4000, 1.5),
        validation=from_plain(metrics(f1), Metrics, "test"),
        parameters=1000,
        nonzero_parameters=900,
        epoch=2,
    )
    return TrialRecord(**{**vars(record), "state": "finished", "final": final})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    trials = [
        trial("baseline", 0, 0.5, learning_rate=1e-3, batch_size=16),
        trial("baseline", 1, 0.7, learning_rate=3e-5, batch_size=8),
        trial("pruning", 0, 0.8, ratio=0.5, scheme="structured"),
        trial("low_rank", 0, None),
    ]
    folder = Folder(tmp_path)
    for name, auroc in (("baseline-0001", 0.9), ("pruning-0000", None), *((name, 0.5) for name in CONTROLS)):
        test, validation = (from_plain(of, Metrics, "test") for of in (metrics(0.6, auroc), metrics(0.4)))
        figures = Evaluation(name=name, identity="", examples=9, test=test, validation=validation)
        folder.write(f"results/trials/{name}.json", to_json(figures))
    return made_run(folder, ("baseline", "low_rank", "pruning"), trials, SYMPTOMS)


def test_rank_follows_validation_and_each_strategys_best_stands_for_it(run: Run) -> None:
    best = build_leaderboard(run, top=2).best
    assert list(best["trial"][:3]) == ["pruning-0000", "baseline-0001", "baseline-0000"]
    assert list(best["rank"][:3]) == [1, 2, 3]
    assert list(best["strategy"][3:]) == list(CONTROLS)
    assert best["test_f1"][2] == "not evaluated"
    assert best["hp_batch_size"][1] == 8


def test_an_undefined_figure_says_so(run: Run) -> None:
    board = build_leaderboard(run, top=1)
    assert dict(board.table1[["strategy", "auroc"]].to_numpy())["pruning"] == "not defined"
    assert set(board.table2[board.table2["strategy"] == "pruning"]["auroc"]) == {"not defined"}


def test_a_strategy_without_a_model_is_named_with_its_reason(run: Run) -> None:
    board = build_leaderboard(run, top=1)
    assert board.without == {"low_rank": "all 1 trials failed: out of memory"}
    console = Console(file=io.StringIO(), width=120)
    print_leaderboard(board, console)
    assert "low_rank: no model (all 1 trials failed: out of memory)" in console.file.getvalue()  # type: ignore[attr-defined]


def test_the_tables_are_written_in_forms_that_agree(run: Run) -> None:
    write_leaderboard(run, build_leaderboard(run, top=1))
    results = Path(run.folder.uri) / "results"
    assert {path.name for path in results.iterdir() if path.is_file()} == {
        f"{table}.{ending}" for table in ("leaderboard", "table1", "table2") for ending in ("csv", "json", "md", "tex")
    }
    rows = json.loads((results / "leaderboard.json").read_text())
    assert rows[0]["hp_ratio"] == 0.5
    assert rows[1]["hp_ratio"] is None
    assert list(pd.read_csv(results / "table1.csv").columns) == [
        "strategy", "accuracy", "precision", "recall", "f1", "auroc",
    ]  # fmt: skip
    table2 = pd.read_csv(results / "table2.csv")
    assert list(table2.columns) == ["symptom", "strategy", "precision", "recall", "f1", "auroc"]
    assert len(table2) == 2 * 4
    assert len((results / "table2.md").read_text().splitlines()) == 2 + 2 * 4
    assert r"=edema & pruning & 0.5000 & 0.5000 & 0.6000 & not defined \\" in (results / "table2.tex").read_text()


def test_cells_that_a_spreadsheet_would_run_are_defused(run: Run) -> None:
    write_leaderboard(run, build_leaderboard(run, top=1))
    text = (Path(run.folder.uri) / "results" / "table2.csv").read_text()
    assert "\n'=edema," in text


def test_costs_are_shown_with_quality_on_each_device_that_was_there(run: Run) -> None:
    cpu = ModelCosts(latency_median=0.02, latency_p95=0.03, throughput=90.0, peak_memory_bytes=1_000_000)
    gpu = ModelCosts(latency_median=0.004, latency_p95=0.005, throughput=800.0)
    costs = Costs(
        models={},
        machine="CPU",
        threads=1,
        cpu={"baseline-0001": cpu},
        gpu_machine="GPU",
        gpu={"baseline-0001": gpu, "pruning-0000": replace(gpu, latency_median=0.001)},
    )
    run.folder.write("results/costs.json", to_json(costs))
    board = build_leaderboard(run, top=1)
    rows = board.best.set_index("trial")
    assert rows.loc["baseline-0001", "speed_up"] == 1.0
    assert rows.loc["pruning-0000", "speed_up"] is None  # no ONNX graph: it is one for GPUs
    assert rows.loc["pruning-0000", "gpu_speed_up"] == pytest.approx(4.0)
    assert rows.loc["pruning-0000", "gpu_throughput"] == 800.0
    console = Console(file=io.StringIO(), width=160)
    print_leaderboard(board, console)
    assert "4.00 ×" in console.file.getvalue()  # type: ignore[attr-defined]


def test_figures_of_another_model_are_none(run: Run) -> None:
    assert read_evaluation(run, "pruning-0099") is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"recall": 0.5', '"recall": "high"', 1),
        lambda text: text.replace('"examples": 9', '"more": 9'),
        lambda text: "[]",
        lambda text: "[" * 100_000,
    ],
)
def test_a_damaged_result_is_told_by_its_file_and_counts_as_missing(run: Run, spoil: Callable[[str], str]) -> None:
    path = "results/trials/pruning-0000.json"
    run.folder.write(path, spoil(run.folder.read(path).decode()).encode())
    with pytest.warns(DamagedFileWarning, match=rf"{path} is damaged .* `symptune evaluate"):
        board = build_leaderboard(run, top=1)
    assert board.best.set_index("trial")["test_f1"]["pruning-0000"] == "not evaluated"
