"""What a resume adds: more trials, failed ones again, the best for longer; and what it refuses."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from run_folder.events import Extended, Failed, Suggested
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from run_folder.lock import only_process
from run_folder.results import EpochResult
from run_folder.run import Run, open_run
from run_folder.trials import TrialRecord
from search_spaces import STRATEGIES
from tests.made_runs import change_run_file
from tests.tiny_runs import FinishedRun
from tune_jobs.cli import main
from tune_jobs.commands.find_run import continue_without_lost_events
from tune_jobs.commands.options import parser


@pytest.fixture
def copied(finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The finished run, moved to another place."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished.run.folder.uri, tmp_path / "runs" / "moved")
    return open_run(Folder("runs/moved"))


def without_time(trial: TrialRecord) -> list[EpochResult]:
    return [replace(epoch, seconds=0) for epoch in trial.epochs]


def test_a_moved_run_is_extended_its_failures_run_again_and_its_best_trained_on(
    copied: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger(copied.folder)
    number = len(ledger.of("baseline"))
    healthy = copied.best("baseline", 1)[0]
    ledger.append(Extended(number + 1))  # the sixth trial of all strategies is missing, but a broken baseline
    broken = Suggested(
        trial=f"baseline-{number:04d}",
        strategy=healthy.strategy,
        number=number,
        seed=healthy.seed,
        hyperparameters=healthy.hyperparameters,
        distributions=healthy.distributions,
        teacher=healthy.teacher,
    )
    ledger.append(broken)
    ledger.append(Failed(broken.trial, "the worker process died"))

    arguments = ["resume", "moved", "--retry-failed", "--epochs", "4", "--seeds", "1"]
    before = copied.folder.names("ledger")
    assert main([*arguments, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert copied.folder.names("ledger") == before
    assert f"run again: baseline-{number:04d}" in said
    assert "trained for longer, to 4 epochs: baseline-" in said
    assert f"new: {len(STRATEGIES) - 1}" in said

    Path("runs/moved/studies.journal").write_bytes(b"\x00 not a journal")  # rebuilt from the ledger
    Path("runs/moved/studies.journal.lock").touch()  # of a process that is no more
    killed = Path(copied.folder.scratch())
    (killed / "model.safetensors").touch()
    assert main(arguments) == 0
    assert not killed.exists()
    run = open_run(copied.folder)
    study = optuna.load_study(
        study_name="baseline", storage=JournalStorage(JournalFileBackend("runs/moved/studies.journal"))
    )
    assert len(study.trials) == len(Ledger(run.folder).of("baseline"))
    kept = {name: run.trials[name] for name in copied.trials}
    assert kept == copied.trials
    assert all(Ledger(run.folder).asked(strategy) == number + 1 for strategy in STRATEGIES)

    (again,) = (trial for trial in run.trials.values() if trial.retry_of == f"baseline-{number:04d}")
    assert again.state == "finished"
    assert without_time(again) == without_time(healthy)  # same configuration, same seed
    assert again.deployed.validation == healthy.deployed.validation

    further = [trial for trial in run.trials.values() if trial.continues]
    assert {trial.strategy for trial in further} >= set(STRATEGIES) - {"quantization"}
    assert all(trial.state == "finished" and [e.epoch for e in trial.epochs] == [1, 2, 3, 4] for trial in further)
    assert all(trial.epochs[:3] == run.trials[trial.continues or ""].epochs for trial in further)

    assert main(["resume", "moved", "--epochs", "4", "--seeds", "1"]) == 0  # nothing is left to add
    assert len(open_run(copied.folder).trials) == len(run.trials)


def test_trials_continue_from_the_checkpoint_that_was_kept(copied: Run) -> None:
    """Only the best trial of each strategy has one."""
    holders = {path.parent.name for path in Path("runs/moved/trials").glob("*/epoch-*")}
    trained = [copied.best(strategy, 9)[0] for strategy in STRATEGIES]
    assert holders == {trial.name for trial in trained if trial.epochs}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--trials", "2"], "--trials: the run has 5 per strategy"),
        (["--epochs", "3"], "--epochs: the run's trials have 3"),
    ],
)
def test_what_cannot_be_added_is_refused(
    copied: Run, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert main(["resume", "moved", *options]) == 2
    assert words in capsys.readouterr().err


def test_changed_data_models_and_versions_are_refused_by_name_unless_forced(
    copied: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    versions = dict(copied.manifest.versions)
    change_run_file(copied.folder, versions=versions | {"torch": "1.0"})
    copied.folder.write("data/train.parquet", copied.folder.read("data/validation.parquet"))
    Path("runs/moved/model/config.json").unlink()
    assert main(["resume", "moved"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for words in ("torch 1.0 → ", "data/train.parquet has changed", "model/config.json is missing", "--force"):
        assert words in line
    change_run_file(copied.folder, versions=versions | {"ray": "0"}, files={})
    assert main(["resume", "moved", "--dry-run"]) == 2
    assert main(["resume", "moved", "--dry-run", "--force"]) == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [('{"format": 99, "settings": {}}', "another version (format 99"), ("{", "run.json is damaged")],
)
@pytest.mark.parametrize("command", ["resume", "status", "leaderboard", "report"])
def test_a_run_of_another_version_or_a_damaged_one_is_refused(
    copied: Run, capsys: pytest.CaptureFixture[str], command: str, content: str, words: str
) -> None:
    copied.folder.write("run.json", content.encode())
    assert main([command, "moved"]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"[]", None])
@pytest.mark.parametrize("command", ["resume", "status", "evaluate"])
def test_a_damaged_or_missing_event_is_told_and_nothing_starts_afresh(
    copied: Run, capsys: pytest.CaptureFixture[str], command: str, content: bytes | None
) -> None:
    names = copied.folder.names("ledger")
    event = Path("runs/moved/ledger") / names[5]
    event.unlink() if content is None else event.write_bytes(content)
    assert main([command, "moved"]) == 2
    assert "from a copy of the run" in capsys.readouterr().err
    assert len(copied.folder.names("ledger")) == len(names) - (content is None)


def test_the_studies_are_in_the_database_that_was_asked_for(copied: Run) -> None:
    for _ in range(2):  # rebuilt, not doubled
        assert main(["resume", "moved", "--seeds", "1", "--optuna-storage", "sqlite:///studies.db"]) == 0
    names = optuna.get_all_study_names("sqlite:///studies.db")
    assert sorted(name.partition("/")[2] for name in names) == sorted(STRATEGIES)
    states = {"finished": "COMPLETE", "stopped": "PRUNED"}
    for name in names:
        assert name.startswith("moved-")
        mine = Ledger(copied.folder).of(name.partition("/")[2])
        study = optuna.load_study(study_name=name, storage="sqlite:///studies.db")
        assert [t.user_attrs["trial"] for t in study.trials] == [trial.name for trial in mine]
        assert [t.state.name for t in study.trials] == [states[trial.state] for trial in mine]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("not a url", "not a database URL"),
        ("sqlite:////nowhere/x.db", "sqlite:////nowhere/x.db cannot be opened"),
        ("postgresql://me:secret@localhost/x", "postgresql://me:***@localhost/x"),
        ("postgresql://localhost/x?user=me&password=secret", "postgresql://localhost/x"),
        ("oracle://me:secret@localhost/x", "needs a driver"),
    ],
)
def test_a_database_that_cannot_be_opened_is_told_without_its_password(
    copied: Run, capsys: pytest.CaptureFixture[str], url: str, words: str
) -> None:
    assert main(["resume", "moved", "--optuna-storage", url]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert words in said
    assert "secret" not in said


class KilledError(BaseException):
    """The process is gone."""


def test_what_is_killed_in_evaluation_or_while_tables_are_written_goes_on_there(
    copied: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {name: copied.folder.names(f"results/{name}") for name in ("", "predictions", "trials")}
    copied.folder.delete_folder("results")
    write, kept = Folder.write, dict[Path, bytes]()
    for writes in (1, 3, 5, 6, 12):  # one kill after another, each that many files further
        left = iter(range(writes))

        def until_killed(
            folder: Folder, relative: str, data: bytes, *, private: bool = False, left: Iterator[int] = left
        ) -> None:
            if next(left, None) is None:
                raise KilledError
            write(folder, relative, data, private=private)

        monkeypatch.setattr(Folder, "write", until_killed)
        with pytest.raises(KilledError):
            main(["evaluate", "moved", "--seeds", "1"])
        monkeypatch.setattr(Folder, "write", write)
        predictions = {path: path.read_bytes() for path in Path("runs/moved/results/predictions").glob("*")}
        assert kept.items() <= predictions.items()
        kept = predictions
    assert main(["evaluate", "moved", "--seeds", "1"]) == 0
    assert all(path.read_bytes() == content for path, content in kept.items())
    for name, files in whole.items():
        assert set(files) <= set(copied.folder.names(f"results/{name}"))


def test_a_multilabel_run_that_lost_its_results_answers_the_same_when_it_is_resumed(
    finished_multilabel: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished_multilabel.run.folder.uri, tmp_path / "runs" / "moved")
    predictions = Path("runs/moved/results/predictions")
    before = {path.name: path.read_bytes() for path in predictions.glob("*")}
    assert len(before) > 2 * len(STRATEGIES)
    shutil.rmtree("runs/moved/results")
    assert main(["resume", "moved", "--seeds", "1"]) == 0
    assert {path.name: path.read_bytes() for path in predictions.glob("*")} == before


def test_a_record_that_lacks_what_every_run_has_is_told(copied: Run, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads(copied.folder.read("run.json"))
    del manifest["counts"], manifest["sources"]
    copied.folder.write("run.json", json.dumps(manifest).encode())
    assert main(["status", "moved"]) == 2
    assert "run.json lacks counts, sources" in capsys.readouterr().err


def test_a_run_file_that_was_changed_or_is_of_another_run_is_refused(
    copied: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads(copied.folder.read("run.json"))
    copied.folder.write("run.json", json.dumps(manifest | {"symptoms": manifest["symptoms"][::-1]}).encode())
    assert main(["leaderboard", "moved"]) == 2
    assert "run.json was changed after the run was created" in capsys.readouterr().err


@pytest.mark.parametrize(("lost", "words"), [(1, "lacks the last of the"), (None, "lacks all of the")])
def test_lost_events_are_told_until_the_run_is_told_to_continue_without_them(
    copied: Run, capsys: pytest.CaptureFixture[str], lost: int | None, words: str
) -> None:
    events = copied.folder.names("ledger")
    for name in events[-lost if lost else 0 :]:
        Path("runs/moved/ledger", name).unlink()
    table = Path("runs/moved/results/leaderboard.csv")
    table.write_text("what was found")
    for command in (["status"], ["leaderboard"], ["report"], ["resume", "--dry-run"], ["evaluate"]):
        assert main([command[0], "moved", *command[1:]]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"ledger/ {words} {len(events)} events that it had" in line
        assert "`symptune resume moved --force`" in line
    assert table.read_text() == "what was found"
    continue_without_lost_events(parser().parse_args(["resume", "moved", "--force"]))
    assert main(["status", "moved"]) == 0


def test_an_old_run_without_its_ledger_is_told_by_its_trials(copied: Run, capsys: pytest.CaptureFixture[str]) -> None:
    change_run_file(copied.folder)
    assert main(["status", "moved"]) == 0
    shutil.rmtree("runs/moved/ledger")
    assert main(["status", "moved"]) == 2
    assert "all events of its ledger/ are missing, although there are trials" in capsys.readouterr().err


def test_a_ledger_without_its_run_file_is_not_started_again(copied: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/moved/run.json").unlink()
    model = str(copied.settings.model.name)
    line = ["launch", "--name", "moved", "--patients", "50", "--model", model, "--max-length", "40"]
    assert main(line) == 2
    assert "has a ledger/ and no run.json" in capsys.readouterr().err


def test_what_a_kill_left_is_dropped_once_the_run_is_locked(copied: Run) -> None:
    home = Path("runs/moved")
    left = [home / "results/.costs.json.0123abcd.tmp", home / "ledger/.00000001-epoch.json.0123abcd.tmp"]
    for path in left:
        path.write_bytes(b"half")
    model = home / "trials/.deployed.0123abcd.tmp"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"half")
    with only_process(copied.folder):
        pass
    assert main(["status", "moved"]) == 0
    assert all(path.exists() for path in (*left, model))  # they may be of a process that works
    assert main(["evaluate", "moved", "--seeds", "1"]) == 0
    assert not any(path.exists() for path in (*left, model))


def test_what_holds_notes_is_its_owners_alone(copied: Run) -> None:
    home = Path(copied.folder.uri)
    private = [*home.glob("data/*"), *home.glob("results/predictions/*")]
    assert len(private) > 3
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}
