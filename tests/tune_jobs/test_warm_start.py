"""A search that begins with an earlier run's best configurations."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import InMemoryStorage

from benchmarks.simulated_cluster import deployed_result
from run_folder.errors import InputError
from run_folder.events import Finished, Suggested
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from run_folder.run import Run, open_run
from run_folder.trials import TrialRecord
from search_spaces import paper_configuration
from tests.made_runs import made_run
from tests.tune_jobs.test_cli import refused
from tests.tune_jobs.test_search import fail, finish, make
from tune_jobs.check_settings import run_settings
from tune_jobs.cli import main
from tune_jobs.preparing.warm_start import warm_configurations
from tune_jobs.searching.study import StrategyStudy
from tune_jobs.searching.study_storage import StudyStorage

PAPER = paper_configuration("baseline")
OF_LORA = paper_configuration("low_rank")


def earlier(*trials: tuple[str, Mapping[str, Any], float | None], size: int | None = None) -> Run:
    """A run of these trials: strategy, configuration, and validation macro F1 (None: it failed)."""
    records = [
        TrialRecord(
            name=f"{strategy}-{number:04d}",
            strategy=strategy,
            number=number,
            seed=0,
            hyperparameters=configuration,
            distributions={},
            state="failed" if f1 is None else "finished",
            final=None if f1 is None else deployed_result(f1, size or int(f1 * 1000)),
        )
        for number, (strategy, configuration, f1) in enumerate(trials)
    ]
    return made_run(Folder("earlier"), dict.fromkeys(record.strategy for record in records), records)


def with_rate(rate: float, configuration: Mapping[str, Any] = PAPER, **more: Any) -> dict[str, Any]:
    return {**configuration, "learning_rate": rate, **more}


def rates(found: Mapping[str, list[dict[str, Any]]], strategy: str = "baseline") -> list[float]:
    return [configuration["learning_rate"] for configuration in found[strategy]]


def test_the_best_come_first_each_once_as_many_as_half_of_the_budget_and_at_most_five() -> None:
    found = [("baseline", with_rate(n * 1e-4), 0.1 * n) for n in range(1, 8)]
    run = earlier(
        *found, ("baseline", with_rate(7e-4), 0.9), ("baseline", with_rate(9e-4), None), ("baseline", PAPER, 1.0)
    )
    settings = run_settings(strategies=("baseline", "low_rank"), trials=20)
    warm = warm_configurations(run, settings.search)
    assert list(warm) == ["baseline"]
    assert rates(warm) == pytest.approx([PAPER["learning_rate"], 7e-4, 6e-4, 5e-4, 4e-4])
    few = warm_configurations(run, run_settings(strategies=("baseline",), trials=5).search)
    assert rates(few) == pytest.approx([PAPER["learning_rate"], 7e-4])


def test_of_several_objectives_the_front_is_taken() -> None:
    paper = paper_configuration("combined")
    trials = [("combined", with_rate(rate, paper), f1) for rate, f1 in ((1e-4, 0.9), (2e-4, 0.5), (3e-4, 0.8))]
    run = earlier(*trials)  # each smaller than the better one
    assert rates(warm_configurations(run, run_settings(trials=9).search), "combined") == [1e-4, 3e-4, 2e-4]
    run = earlier(*trials, size=1000)
    assert rates(warm_configurations(run, run_settings(trials=9).search), "combined") == [1e-4]


def test_configurations_are_moved_into_the_space_and_twins_that_this_makes_are_dropped() -> None:
    space = {"baseline": {"learning_rate": {"low": 1e-4, "high": 2e-4}, "batch_size": {"choices": [8, 16]}}}
    run = earlier(
        ("baseline", with_rate(9e-4, batch_size=32, of_an_older_version=1), 0.9),
        ("baseline", with_rate(5e-4, batch_size=32), 0.8),
        ("baseline", with_rate(2e-4), 0.7),
        ("baseline", with_rate(15e-5), 0.6),
    )
    warm = warm_configurations(run, run_settings(strategies=("baseline",), trials=20, space=space).search)["baseline"]
    assert [(c["learning_rate"], c.get("batch_size")) for c in warm] == [(2e-4, None), (2e-4, 16), (15e-5, 16)]
    assert not any("of_an_older_version" in configuration for configuration in warm)


def test_what_gives_no_configuration_is_refused() -> None:
    settings = run_settings(strategies=("baseline",), trials=4)
    cases = [
        (earlier(("baseline", PAPER, None), ("low_rank", OF_LORA, 0.5)), settings, "no finished trial of baseline"),
        (earlier(("baseline", with_rate("high"), 0.5)), settings, "hyperparameters of baseline-0000"),  # type: ignore[arg-type]
        (earlier(("baseline", PAPER, 0.5)), run_settings(trials=1), "ask for 2 trials or more"),
    ]
    for run, asked, words in cases:
        with pytest.raises(InputError, match=words) as refusal:
            warm_configurations(run, asked.search)
        assert str(refusal.value).startswith("warm_start: ")


def test_they_are_asked_for_after_the_papers_also_where_a_trial_ran_again_before_they_were(tmp_path: Path) -> None:
    warm = [with_rate(1e-4), with_rate(2e-4)]
    study = StrategyStudy("baseline", StudyStorage(InMemoryStorage()), 0, {}, warm=[PAPER, *warm])
    assert [study.ask()[1] for _ in range(4)][:3] == [PAPER, *warm]
    study = StrategyStudy("baseline", StudyStorage(InMemoryStorage()), 0, {}, warm=warm)
    asked = [study.ask()[1] for _ in range(5)]
    assert asked[:3] == [PAPER, *warm]
    assert all(configuration not in [PAPER, *warm] for configuration in asked[3:])

    search = make(tmp_path, ("baseline",), trials=5, warm=warm)
    for _ in range(2):
        search.suggest()
    search.report("baseline-0000", fail("non-finite loss in epoch 1"))
    search.report("baseline-0001", finish(0.5))
    again = make(tmp_path, ("baseline",), trials=5, retry_failed=True, warm=warm)
    tried = [again.suggest() for _ in range(3)]
    assert [s.record.hyperparameters for s in tried if s] == [PAPER, warm[1], tried[2].record.hyperparameters]  # type: ignore[union-attr]
    assert tried[0].record.retry_of == "baseline-0000"  # type: ignore[union-attr]
    assert tried[2].record.hyperparameters not in [PAPER, *warm]  # type: ignore[union-attr]


def test_random_trials_follow_them_before_results_count() -> None:
    warm = [with_rate(rate) for rate in (1e-4, 2e-4, 3e-4)]

    def suggested(scores: list[float]) -> list[dict[str, Any]]:
        study, found = StrategyStudy("baseline", StudyStorage(InMemoryStorage()), 0, {}, 2, warm=warm), []
        for score in scores:
            number, hyperparameters, _ = study.ask()
            study.finished(number, deployed_result(score))
            found.append(hyperparameters)
        return found

    rising, falling = suggested([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), suggested([0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert rising[:5] == falling[:5]  # the paper's, three warm ones and a random one
    assert rising[1:4] == warm
    assert rising[5] != falling[5]


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: Path, model_folder: Path) -> list[str]:
    """A launch that is warm started from a run of one finished trial, in its own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tune_jobs.commands.launch._search_and_evaluate", lambda *_: 0)
    options = ["--notes", str(notes), "--model", str(model_folder), "--max-length", "40", "--strategies", "baseline"]
    assert main(["launch", "--name", "old", *options]) == 0
    study = StrategyStudy("baseline", StudyStorage(InMemoryStorage()), 0, {})
    number, _, distributions = study.ask()
    ledger = Ledger(Folder("runs/old"))
    ledger.append(
        Suggested(
            trial="baseline-0000", strategy="baseline", number=number, seed=0, hyperparameters=with_rate(2e-4),
            distributions=distributions, teacher=None,
        )
    )  # fmt: skip
    ledger.append(Finished(trial="baseline-0000", final=deployed_result(0.5)))
    return ["launch", *options, "--warm-start", "old"]


def test_a_launch_records_them_and_goes_on_without_the_earlier_run(
    line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line) == main([*line, "--name", "new"]) == 0
    for folder in Path("runs").glob("[!o]*"):
        settings = open_run(Folder(folder)).settings.search
        assert settings.warm_start == "old"
        assert settings.warm_configurations == {"baseline": [with_rate(2e-4)]}
    capsys.readouterr()
    assert main(["status", "new"]) == 0
    assert "\n  warm start from old: 1 configuration\n" in capsys.readouterr().out
    shutil.rmtree("runs/old")
    runs = sorted(Path("runs").iterdir())
    assert main(line) == main([*line, "--name", "new"]) == 0
    assert sorted(Path("runs").iterdir()) == runs
    (problem,) = refused(capsys, *line[:-1], "other", "--name", "new")
    assert "warm_start 'old' → 'other'" in problem


def test_a_wrong_warm_start_is_one_line_beside_other_problems(
    line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for more, words in (
        (["none"], "no run 'none'"),
        (["nowhere://x"], "nowhere"),
        (["self", "--name", "self"], "self is the run itself"),
        (["old", "--trials", "1"], "ask for 2 trials or more"),
    ):
        (problem,) = refused(capsys, *line[:-1], *more)
        assert problem.startswith("symptune: error: --warm-start: ")
        assert words in problem
    Path("runs/old/run.json").write_text("{")
    problems = refused(capsys, *line, "--epochs", "0")
    assert [problem.split(": ")[2] for problem in problems] == ["--epochs", "--warm-start"]


def test_configurations_of_a_small_encoder_are_moved_to_what_a_wide_one_bears() -> None:
    warm = [with_rate(7e-4), with_rate(9e-4), with_rate(5e-5)]
    study = StrategyStudy("baseline", StudyStorage(InMemoryStorage()), 0, {}, warm=warm, width=768)
    asked = [study.ask() for _ in range(3)]
    assert [values["learning_rate"] for _, values, _ in asked] == pytest.approx([PAPER["learning_rate"], 1e-4, 5e-5])
    again = StrategyStudy("baseline", StudyStorage(InMemoryStorage()), 0, {}, warm=warm, width=768)
    for number, values, distributions in asked:
        again.restore(TrialRecord(f"baseline-{number:04d}", "baseline", number, 0, values, distributions))
    assert again.next_number == 3
