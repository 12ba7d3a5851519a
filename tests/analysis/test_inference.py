"""What is said of an evaluated run: that it is what the test patients show, and that any run gets an answer."""

import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from rich.console import Console
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score

from analysis.evaluation.evaluate import Evaluation, evaluate
from analysis.evaluation.leaderboard import Leaderboard, build_leaderboard, print_leaderboard, write_leaderboard
from analysis.evaluation.predictions import (
    TEST,
    VALIDATION,
    Predictions,
    read_predictions,
    write_predictions,
)
from analysis.evaluation.run_statistics import STATISTICS, Statistics, read_statistics, write_statistics
from analysis.statistics.calibration import fit_temperature
from analysis.statistics.resampling import METRICS, OVERALL, resample
from analysis.statistics.verdict import Outcome, verdicts
from benchmarks.simulated_cluster import deployed_result
from run_folder.errors import DamagedFileWarning
from run_folder.folder import Folder
from run_folder.records import to_json, to_plain
from run_folder.run import Run, open_run
from run_folder.trials import TrialRecord
from tests import made_runs
from tests.tiny_runs import FinishedRun
from trainables.parts.metrics import classification_metrics
from tune_jobs.cli import main

SYMPTOMS = ("pain", "edema", "fever")
PATIENTS = np.repeat(np.arange(30), 3)
LABELS = np.random.default_rng(0).permutation(np.arange(90) % 3)


def guesses(labels: NDArray[np.int64], seed: int, skill: float) -> NDArray[np.float64]:
    """(n, 3) probabilities; the more skill, the likelier the label is the largest."""
    logits = np.random.default_rng(seed).normal(size=(len(labels), 3)) + skill * np.eye(3)[labels]
    return np.asarray(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


def made_run(
    folder: Path,
    skills: Mapping[str, Sequence[float]],
    labels: NDArray[np.int64] = LABELS,
    patients: NDArray[np.int64] = PATIENTS,
    failed: Sequence[str] = (),
) -> Run:
    """A run whose models (of each strategy its best trial, then repetitions of it) are as good as said."""
    ids = np.array([f"e{i:03d}" for i in range(len(labels))])
    trials = {name: TrialRecord(name, name[:-5], 0, 0, {}, {}, state="failed", reason="lost") for name in failed}
    for strategy, of in skills.items():
        for seed, skill in enumerate(of):
            name = f"{strategy}-0000" + f"-seed{seed + 1}" * bool(seed)
            again = f"{strategy}-0000" if seed else None
            scores = classification_metrics(LABELS, guesses(LABELS, seed, skill), SYMPTOMS)
            final = replace(deployed_result(0.5, 4, 1.0), validation=scores)
            record = TrialRecord(name, strategy, seed, seed, {}, {}, state="finished", final=final, repeats=again)
            trials[name] = record
    strategies = dict.fromkeys(trial.strategy for trial in trials.values())
    run = made_runs.made_run(Folder(folder), strategies, trials.values(), SYMPTOMS)
    buffer = io.BytesIO()
    names = [SYMPTOMS[label] for label in labels]
    pd.DataFrame({"id": ids, "symptom": names, "patient": patients}).sample(frac=1, random_state=1).to_parquet(buffer)
    run.folder.write("data/test.parquet", buffer.getvalue())
    for number, name in enumerate(name for name, trial in trials.items() if trial.state == "finished"):
        strategy, seed = trials[name].strategy, trials[name].number
        for split, shift in ((TEST, 10), (VALIDATION, 20)):
            found = Predictions(ids, labels, guesses(labels, number + shift, skills[strategy][seed]))
            write_predictions(run, name, split, found)
        test = classification_metrics(labels, kept(run, name, TEST).probabilities, SYMPTOMS)
        figures = Evaluation(name=name, identity="", examples=len(labels), test=test)
        run.folder.write(f"results/trials/{name}.json", to_json(figures))
    return run


def kept(run: Run, name: str, split: str) -> Predictions:
    found = read_predictions(run, name, split)
    assert found is not None
    return found


def said_of(run: Run, margin: float = 0.01) -> Statistics:
    write_statistics(run, margin)
    found = read_statistics(run)
    assert found is not None
    return found


def printed(board: Leaderboard) -> str:
    console = Console(file=io.StringIO(), width=110)
    print_leaderboard(board, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_figures_agree_with_scikit_learn_and_verdicts_with_the_statistics(tmp_path: Path) -> None:
    run = made_run(tmp_path, {"baseline": [3.0], "pruning": [0.5], "low_rank": [3.0]})
    found = said_of(run)
    of = {name: kept(run, name, TEST).probabilities for name in found.models}
    model, probabilities = found.models["pruning-0000"], of["pruning-0000"]
    assert model.figures[OVERALL]["f1"].point == pytest.approx(
        f1_score(LABELS, probabilities.argmax(1), average="macro")
    )
    assert model.figures["edema"]["auroc"].point == pytest.approx(roc_auc_score(LABELS == 1, probabilities[:, 1]))
    assert [list(row) for row in model.confusion] == confusion_matrix(LABELS, probabilities.argmax(1)).tolist()
    validation = kept(run, "pruning-0000", VALIDATION)
    assert model.calibration is not None
    assert model.calibration.temperature == pytest.approx(fit_temperature(LABELS, validation.probabilities))

    resampled = resample(LABELS, PATIENTS, np.stack(list(of.values())))
    expected = verdicts(resampled, {"pruning": ([1], [0]), "low_rank": ([2], [0])}, margin=0.01)
    pruning = found.strategies["pruning"]
    assert pruning.verdict == expected["pruning"]
    assert pruning.verdict.outcome is Outcome.WORSE
    assert pruning.differences is not None
    difference = pruning.differences[OVERALL]["f1"]
    assert difference.low == pruning.verdict.low
    assert difference.point == pytest.approx(np.diff(resampled.point[:2, 0, METRICS.index("f1")])[0])
    assert (found.patients, found.examples, found.undefined_note) == (30, 90, None)
    assert found.examples_per_symptom == {symptom: 30 for symptom in SYMPTOMS}
    right = {name: p.argmax(1) == LABELS for name, p in of.items()}
    alone = int((right["pruning-0000"] & ~right["baseline-0000"]).sum())
    assert pruning.mcnemar is not None
    assert pruning.mcnemar.only_model == alone
    assert pruning.delong is not None
    assert pruning.delong_holm is not None
    p, p_holm = pruning.delong["pain"], pruning.delong_holm["pain"]
    assert p is not None
    assert p_holm is not None
    assert p_holm <= 2 * p


def test_the_order_of_rows_changes_nothing_and_a_margin_does(tmp_path: Path) -> None:
    run = made_run(tmp_path, {"baseline": [3.0], "pruning": [2.8]})
    first = said_of(run)
    for name in ("baseline-0000", "pruning-0000"):
        path = tmp_path / "results" / "predictions" / f"{name}.parquet"
        pd.read_parquet(path).sample(frac=1, random_state=3).to_parquet(path)
    (tmp_path / STATISTICS).unlink()
    assert said_of(run) == first
    kept = replace(first, undefined_note="kept")
    (tmp_path / STATISTICS).write_bytes(to_json(kept))
    assert said_of(run) == kept  # nothing is computed twice
    wide = said_of(run, margin=0.5)
    assert wide.undefined_note is None
    verdict = wide.strategies["pruning"].verdict
    assert verdict is not None
    assert verdict.outcome is Outcome.EQUIVALENT


def test_tables_hold_intervals_and_verdicts_and_the_terminal_shows_them_in_110_columns(tmp_path: Path) -> None:
    run = made_run(tmp_path, {"baseline": [3.0], "pruning": [0.5]}, failed=["low_rank-0000"])
    said_of(run)
    board = build_leaderboard(run, top=1)
    write_leaderboard(run, board)
    results = tmp_path / "results"
    table1 = pd.read_csv(results / "table1.csv").set_index("strategy")
    assert list(table1.columns[:5]) == list(METRICS)  # the paper's come first
    assert (table1["f1_low"] < table1["f1"]).all()
    assert table1.loc["pruning", "difference"] == pytest.approx(table1["f1"].diff()["pruning"])
    assert "worse" in table1.loc["pruning", "verdict"]
    assert "f1_deviation" not in table1
    assert list(pd.read_csv(results / "table2.csv").columns[:6]) == [
        "symptom", "strategy", "precision", "recall", "f1", "auroc",
    ]  # fmt: skip
    rows = {row["strategy"]: row for row in json.loads((results / "verdicts.json").read_text())}
    assert rows["baseline"]["words"] == "the baseline"
    assert rows["low_rank"]["words"] == "no model (all 1 trials failed: lost)"
    assert "1 seed of each strategy" in (results / "table1.md").read_text()
    assert r"\toprule" in (results / "verdicts.tex").read_text()
    shown = printed(board)
    assert rows["pruning"]["words"] in shown
    of = {name: f"{table1.loc['pruning', name]:.3f}"[1:] for name in ("f1", "f1_low", "f1_high")}
    assert f"{of['f1']} [{of['f1_low']}, {of['f1_high']}]" in shown
    tables = [line for line in shown.splitlines() if line.startswith("  ") and "[" in line]
    assert tables
    assert all(len(line.rstrip()) <= 110 for line in tables)


def test_with_seeds_figures_are_means_and_speak_of_training(tmp_path: Path) -> None:
    run = made_run(tmp_path, {"baseline": [3.0, 2.5, 3.5], "pruning": [2.0, 2.4], "low_rank": [1.0]})
    found = said_of(run)
    of = found.strategies["baseline"]
    assert of.seeds == ("baseline-0000", "baseline-0000-seed2", "baseline-0000-seed3")
    each = [found.models[name].figures[OVERALL]["f1"].point for name in of.seeds]
    assert of.macro_f1.point == pytest.approx(np.mean(each))
    assert of.macro_f1.deviation == pytest.approx(np.std(each, ddof=1))
    pruning, low_rank = (found.strategies[strategy].verdict for strategy in ("pruning", "low_rank"))
    assert pruning is not None
    assert pruning.of_training
    assert low_rank is not None
    assert not low_rank.of_training
    board = build_leaderboard(run, top=1)
    table1 = board.table1.set_index("strategy")
    assert table1.loc["baseline", "f1"] == pytest.approx(np.mean(each))
    assert list(table1["seeds"]) == [3, 2, 1]
    assert list(table1["f1_deviation"].isna()) == [False, False, True]
    assert "(3 seeds)" in " ".join(board.notes)
    assert "1 seed of low_rank" in " ".join(board.notes)


def test_a_run_without_a_baseline_has_intervals_but_no_verdicts(tmp_path: Path) -> None:
    run = made_run(tmp_path, {"pruning": [2.0]}, failed=["baseline-0000"])
    assert "verdict" not in to_plain(said_of(run))["strategies"]["pruning"]
    board = build_leaderboard(run, top=1)
    write_leaderboard(run, board)
    assert "pruning: no baseline to compare with" in printed(board)
    assert board.table1["f1_low"].notna().all()


def test_a_run_of_the_baseline_alone_has_intervals(tmp_path: Path) -> None:
    run = made_run(tmp_path, {"baseline": [2.0]})
    assert said_of(run).models.keys() == {"baseline-0000"}
    board = build_leaderboard(run, top=1)
    write_leaderboard(run, board)
    assert list(json.loads((tmp_path / "results" / "verdicts.json").read_text())[0].values())[-1] == "the baseline"
    assert "95 % intervals over 30 test patients" in printed(board)


def test_a_symptom_that_the_test_set_lacks_has_no_figures_and_is_named(tmp_path: Path) -> None:
    run = made_run(tmp_path, {"baseline": [3.0], "pruning": [1.0]}, labels=LABELS % 2)
    found = said_of(run)
    figures = found.models["pruning-0000"].figures
    assert figures["fever"]["f1"].point is None
    assert figures[OVERALL]["f1"].low is not None
    delong = found.strategies["pruning"].delong
    assert delong is not None
    assert delong["fever"] is None
    assert "fever has no test example" in str(found.undefined_note)
    board = build_leaderboard(run, top=1)
    write_leaderboard(run, board)
    assert "fever has no test example" in printed(board)


def test_of_one_patient_nothing_can_be_said(tmp_path: Path) -> None:
    run = made_run(tmp_path, {"baseline": [3.0], "pruning": [1.0]}, patients=np.zeros(90, np.int64))
    found = said_of(run)
    assert (found.models, found.strategies) == ({}, {})
    board = build_leaderboard(run, top=1)
    write_leaderboard(run, board)
    assert list(board.table1.columns) == ["strategy", *METRICS]
    assert "the test set is of one patient" in printed(board)


def test_a_run_that_was_not_evaluated_has_no_statistics(tmp_path: Path) -> None:
    run = made_run(tmp_path, {"baseline": [3.0]})
    shutil.rmtree(tmp_path / "results")
    write_statistics(run, 0.01)
    assert read_statistics(run) is None
    assert build_leaderboard(run, top=1).notes == ()


def test_statistics_of_another_best_trial_are_not_shown(tmp_path: Path) -> None:
    run = made_run(tmp_path, {"baseline": [3.0], "pruning": [1.0]})
    said_of(run)
    better = replace(run.trials["pruning-0000"], name="pruning-0009", number=9)
    trials = {name: trial for name, trial in run.trials.items() if name != "pruning-0000"} | {better.name: better}
    run.folder.write("results/trials/pruning-0009.json", run.folder.read("results/trials/pruning-0000.json"))
    table1 = build_leaderboard(replace(run, trials=trials), top=1).table1.set_index("strategy")
    assert list(table1["f1_low"].isna()) == [False, True]


def test_an_evaluated_run_says_something_of_every_strategy_and_the_margin_is_the_users(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished.run.folder.uri, tmp_path / "runs" / "moved")
    run = open_run(Folder("runs/moved"))
    found = read_statistics(run)
    assert found is not None
    others = [strategy for strategy in run.strategies if strategy != "baseline"]
    words = {strategy: verdict.words for strategy in others if (verdict := found.strategies[strategy].verdict)}
    assert "low_rank" in words  # trained for as many epochs as the baseline
    for strategy in set(others) - set(words):  # started from it, and no baseline was trained further
        assert found.strategies[strategy].reference is None
        words[strategy] = "no baseline was trained for as many epochs"
    assert all(read_predictions(run, name, VALIDATION) is not None for name in found.models)
    calibration = found.models["control-tfidf"].calibration
    assert calibration is not None
    assert calibration.temperature > 0
    best = found.strategies["baseline"].trial
    assert found.models[best].validation_f1 == pytest.approx(run.trials[best].score, abs=1e-3)
    before = (tmp_path / "runs/moved" / STATISTICS).read_bytes()
    for name in (best, "control-tfidf"):  # as runs of earlier versions lack them
        (tmp_path / "runs/moved/results/predictions" / f"{name}-validation.parquet").unlink()
    evaluate(run, top=1)
    assert read_predictions(run, best, VALIDATION) is not None
    assert (tmp_path / "runs/moved" / STATISTICS).read_bytes() == before

    assert main(["leaderboard", "moved", "--margin", "0.05"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{strategy}: {words[strategy]}" in shown for strategy in others)
    assert "margin 0.05" in shown
    assert main(["leaderboard", "moved"]) == 0
    assert "margin 0.05" in capsys.readouterr().out  # as last given
    for command in ("leaderboard", "evaluate"):
        assert main([command, "moved", "--margin", "0"]) == 2
        assert capsys.readouterr().err == "symptune: error: --margin: must be in (0, 1], got 0\n"


def test_a_model_whose_predictions_are_lost_is_named_and_the_statistics_stay(tmp_path: Path) -> None:
    run = made_run(tmp_path, {"baseline": [3.0], "pruning": [0.5]})
    found = said_of(run)
    path = tmp_path / "results" / "predictions" / "pruning-0000.parquet"
    other = path.with_name("baseline-0000.parquet").read_bytes()
    for damaged in (path.read_bytes()[:-9], b"", other):
        path.write_bytes(damaged)
        with pytest.warns(DamagedFileWarning, match=r"pruning-0000\.parquet is damaged and counts as missing"):
            assert said_of(run) == found
    path.unlink()
    with pytest.warns(DamagedFileWarning, match=r"pruning-0000\.parquet is missing; `symptune evaluate"):
        assert said_of(run) == found


def test_damaged_statistics_are_computed_again(tmp_path: Path) -> None:
    run = made_run(tmp_path, {"baseline": [3.0], "pruning": [0.5]})
    found = said_of(run)
    path = tmp_path / "results" / "statistics.json"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"[]", whole.replace(b'"margin": 0.01', b'"margin": 0.9')):
        path.write_bytes(damaged)
        with pytest.warns(DamagedFileWarning, match=r"statistics\.json is damaged"):
            assert said_of(run) == found
        assert path.read_bytes() == whole
