"""A whole search with further cycles of the baseline, on Ray, resumed in the middle of one."""

from pathlib import Path

import torch

from analysis.evaluation.evaluate import evaluate
from analysis.evaluation.leaderboard import build_leaderboard
from analysis.evaluation.run_statistics import read_statistics
from run_folder.folder import Folder
from run_folder.run import open_run
from tests.tiny_runs import quiet, settings_for
from trainables.parts.model.stored import load_model
from tune_jobs.execution import Execution
from tune_jobs.preparing.create_run import create_run
from tune_jobs.searching.run_search import search


def test_a_settled_baseline_is_the_teacher_and_longer_ones_are_compared_with_what_starts_from_it(
    tmp_path: Path, model_folder: Path, local_ray: None
) -> None:
    settings = settings_for(
        model_folder, strategies=("baseline", "quantization"), trials=1, cycles=1, epochs=2,
        space={"baseline": {"learning_rate": {"low": 5e-4, "high": 1e-3}}, "quantization": {"scheme": "qat"}},
    )  # fmt: skip
    folder = Folder(tmp_path / "run")
    prepared = create_run(folder, settings, workers=1)
    search(folder, settings, prepared, Execution(seeds=2), quiet())
    run = open_run(folder)
    cycles = [trial for trial in run.trials.values() if trial.trains_on]
    assert cycles
    assert all(trial.state == "finished" for trial in cycles)
    first, second = (
        load_model(tmp_path / "run/trials" / name / "deployed") for name in ("baseline-0000", cycles[0].name)
    )
    words = first.get_input_embeddings().weight, second.get_input_embeddings().weight
    assert not torch.equal(*words)
    assert torch.allclose(*words, atol=0.05)  # it is the first one's, trained further
    evaluate(run, 1)
    statistics = read_statistics(run)
    assert statistics is not None
    of_int8 = statistics.strategies["quantization"]
    assert of_int8.reference is not None
    assert of_int8.reference.startswith("baseline-")
    assert of_int8.epochs == statistics.strategies[of_int8.reference].epochs
    assert len(statistics.strategies[of_int8.reference].seeds) == 2
    board = build_leaderboard(run, 1)
    assert set(board.table1["strategy"]) >= {"baseline", "quantization", of_int8.reference}
    row = board.best[board.best["strategy"] == "quantization"].iloc[0]
    table1 = board.table1[board.table1["strategy"] == "quantization"].iloc[0]
    assert row["test_f1"] == table1["f1"]  # one figure per row: the mean over seeds
    assert row["epochs"] == of_int8.epochs
