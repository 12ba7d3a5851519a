"""Benchmarks in their tiniest form: both sides run, and do the same work."""

import json
import math
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compression, null_strategy, prediction, search, threads, training


@pytest.fixture
def options(model_folder: Path, tmp_path: Path) -> list[str]:
    json_file = str(tmp_path / "found.json")
    return ["--model", str(model_folder), "--patients", "40", "--threads", "1", "--json", json_file]


def found(tmp_path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((tmp_path / "found.json").read_text())
    return record


def test_training_compares_loops_that_learn_the_same(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training.main([*options, "--padded", "40", "--teacher-layers", "2", "--rounds", "1", "--epochs", "1"])
    printed, record = capsys.readouterr().out, found(tmp_path)
    assert all(name in printed for name in ("notes", "sentences", "distillation", "PTQ dynamic", "PTQ static", "QAT"))
    for figures in record["epochs"].values():
        ours, other = figures["train_loss"].values()
        assert ours == pytest.approx(other, rel=0.05)  # batches are drawn otherwise
    stored, live = record["epochs"]["distillation"]["train_loss"].values()
    assert stored == pytest.approx(live, rel=1e-4)  # the same batches and dropout
    trials = record["quantization"]
    assert {name: trial["epochs"] for name, trial in trials.items()} == {
        "first PTQ, dynamic": 0, "PTQ dynamic": 0, "PTQ static": 0, "QAT": 1,
    }  # fmt: skip
    assert trials["PTQ static"]["parts"]["training"] == 0 < trials["PTQ static"]["parts"]["calibration"]
    assert all(math.isfinite(trial["validation_f1"]) for trial in trials.values())


def test_prediction_compares_the_labels_of_the_same_sentences(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prediction.main([*options, "--sentences", "60", "--rounds", "2", "--epochs", "3", "--learning-rate", "0.01"])
    printed, record = capsys.readouterr().out, found(tmp_path)
    assert all(name in printed for name in ("symptune predict, INT8", "pipeline, FP32"))
    assert record["sentences"] == 60
    assert record["symptoms_named"] > 1  # else agreement would say nothing
    assert record["same_symptom"] > 0.9


class InThisProcess(Executor):
    """Runs what is submitted at once: new processes would import for seconds."""

    def __init__(self, *_: object) -> None:
        pass

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*arguments, **more))
        return future


def test_search_compares_whole_searches_of_as_many_epochs(
    options: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    local_ray: None,
) -> None:
    monkeypatch.setattr(search, "ProcessPoolExecutor", InThisProcess)
    sides = ["symptune", "Trainer, optuna"]
    search.main([*options, "--trials", "2", "--epochs", "1", "--sides", *sides])
    printed, record = capsys.readouterr().out, found(tmp_path)
    assert all(side in printed for side in sides)
    assert [record["rounds"][side][0]["epochs"] for side in sides] == [2, 2]
    assert all(0 < record["rounds"][side][0]["f1"] <= 1 for side in sides)
    assert record["ratios"]["symptune"].keys() == {"Trainer, optuna"}


def test_threads_compares_a_trial_on_each_core_with_one_on_all(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads.main([*options, "--threads", "2", "--rounds", "1"])
    assert "threads of each" in capsys.readouterr().out
    layouts = found(tmp_path)["layouts"]
    assert [(layout["trials"], layout["threads"]) for layout in layouts] == [(2, 1), (1, 2)]
    assert all(layout["examples_per_second"] > 0 for layout in layouts)


def test_compression_compares_what_each_kind_deploys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--layers", "4", "--width", "128", "--length", "8", "--seconds", "0.05"]
    compression.main([*sizes, "--json", str(tmp_path / "found.json")])
    printed, models = capsys.readouterr().out, found(tmp_path)["models"]
    assert all(name in printed for name in ("INT8 dynamic", "half of heads and neurons"))
    assert models["INT8 static"]["bytes_ratio"] < 0.4  # of a small encoder, whose graph weighs more
    assert models["student, 1 layers"]["bytes"] < models["student, 2 layers"]["bytes"] < models["FP32"]["bytes"]


def test_a_strategy_that_changes_nothing_is_judged_with_one_seed_and_with_all(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "--runs 1 --seeds 2 --patients 40 --epochs 3 --max-length 40 --learning-rate 0.003"
    null_strategy.main(["--model", str(model_folder), *line.split(), "--json", str(tmp_path / "found.json")])
    assert "one trained for as long" in capsys.readouterr().out
    [run] = json.loads((tmp_path / "found.json").read_text())
    less, alone, as_long = (
        run[name] for name in (null_strategy.FIRST, null_strategy.ONE_SEED, null_strategy.ALL_SEEDS)
    )
    assert len({of["difference"] for of in (less, alone, as_long)}) == 3
    assert {of["patients"] for of in (less, alone, as_long)} == {24}, "six tenths of them"
    assert [of["of_training"] for of in (less, alone, as_long)] == [True, False, True]
