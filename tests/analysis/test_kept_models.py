"""What is said of a model that is not on the storage any more."""

from pathlib import Path

import pytest

from analysis.evaluation.onnx_graphs import check_kept
from benchmarks.simulated_cluster import deployed_result
from run_folder.errors import InputError
from run_folder.folder import Folder
from run_folder.trials import TrialRecord
from tests.made_runs import made_run


def test_the_best_model_was_kept_and_is_missing_and_others_were_not_kept(tmp_path: Path) -> None:
    trials = [
        TrialRecord(
            name=f"baseline-{number:04d}", strategy="baseline", number=number, seed=0, hyperparameters={},
            distributions={}, state="finished", final=deployed_result(f1, 1000),
        )
        for number, f1 in enumerate((0.5, 0.7, 0.6))
    ]  # fmt: skip
    run = made_run(Folder(tmp_path), ["baseline"], trials)
    with pytest.raises(InputError, match=r"models of baseline-0000, baseline-0002 were not kept .*keep more"):
        check_kept(run, ["baseline-0000", "baseline-0002"])
    with pytest.raises(InputError, match=r"trials/baseline-0001/deployed, a strategy's best model, is missing or has"):
        check_kept(run, ["baseline-0000", "baseline-0001"])
    (tmp_path / "trials/baseline-0001/deployed").mkdir(parents=True)
    (tmp_path / "trials/baseline-0001/deployed/deployed.json").write_text("{}")
    check_kept(run, ["baseline-0001"])
