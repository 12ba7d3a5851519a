"""The command line as a user meets it: bad input, a whole run, kill and resume, privacy."""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from clinical_notes.notes import read_notes
from clinical_notes.synthetic import write_synthetic_notes
from run_folder.errors import InputError
from run_folder.folder import Folder
from run_folder.lock import only_process
from run_folder.run import open_run
from tests import held
from tests.made_runs import write_run_file
from tests.tiny_runs import settings_for
from tests.waiting import until
from trainables.parts.deployed import int8_overflows
from tune_jobs.check_settings import run_settings
from tune_jobs.cli import main
from tune_jobs.preparing import pretrained
from tune_jobs.preparing.create_run import create_run

MARKER = "zyxmarker"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """The error lines of a command that must refuse its input and leave nothing behind."""
    before = sorted(Path().rglob("*"))
    assert main(arguments) == 2
    assert sorted(Path().rglob("*")) == before
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert lines
    assert all(line.startswith("symptune: error: ") for line in lines)
    return lines


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--notes", "none.csv"], ["--notes: none.csv is not a file"]),
        (["--notes", "a.csv", "--notes", "."], ["--notes: a.csv is not a file"]),
        (["--notes", "."], ["--notes: . is a folder without tables or .txt files"]),
        (["--sample", "0"], ["--sample"]),
        (["--symptoms", "60"], ["--symptoms: 60 were asked for", "ask for fewer"]),
        (["--symptoms", "edma,pain"], ["'edma'", "did you mean 'edema'"]),
        (["--strategies", "prunning,baseline"], ["'prunning'", "did you mean 'pruning'"]),
        (["--strategies", "distillation"], ["distillation", "add baseline"]),
        (["--model", "."], ["--model", "config.json"]),
        (["--layers", "99"], ["--layers", "got 99"]),
        (["--max-length", "9999"], ["--max-length", "9999"]),
        (["--gpus-per-trial", "99"], ["--gpus-per-trial", "at most 1", "got 99"]),
        (["--gpus-per-trial", "1.5", "--address", "127.0.0.1:1"], ["--gpus-per-trial", "at most 1", "got 1.5"]),
        (["--cpus-per-trial", "0"], ["--cpus-per-trial", "at least 0.01"]),
        (["--trials", "0"], ["--trials", "at least 1"]),
        (["--epochs", "0"], ["--epochs", "at least 1"]),
        (["--top", "0"], ["--top", "more than 0"]),
        (["--name", "../escape"], ["--name", "plain folder name"]),
        (["--space", "none.yaml"], ["--space", "none.yaml"]),
        (["--lexicon", "none.yaml"], ["--lexicon", "none.yaml"]),
        (["--patients", "4"], ["patients"]),
        (["--split", "0.5,0.1,0.1"], ["--split", "add up to 1"]),
        (["--split", "0.34,0.33,0.33"], ["--split", "steps"]),
        (["--storage", "nowhere://x"], ["nowhere"]),
        (["--storage", "/dev/null"], ["--storage: ", "Not a directory: /dev/null", "name another"]),
        (["--hold-back", "-1"], ["--hold-back", "at least 0"]),
        (["--hold-back", "1", "--mentions", "mask"], ["--hold-back", "mentions are masked"]),
        (["--seed", "-1"], ["--seed", "at least 0"]),
        (["--patients", "9", "--group-by", "SHOE"], ["--group-by", "no column SHOE", "CATEGORY"]),
        (["--address", "127.0.0.1:1"], ["--address", "no Ray cluster answers"]),
        (["--address", "ray://127.0.0.1:1", "--storage", "/runs"], ["--address", "no Ray Client server answers"]),
        (["--address", "ray://127.0.0.1:1"], ["--storage", "absolute path", "'runs'"]),
        (
            ["--address", "ray://127.0.0.1:1", "--storage", "/runs", "--warm-start", "runs/old"],
            ["--warm-start", "absolute path", "'runs/old'"],
        ),
    ],
)
def test_bad_input_is_one_line_that_names_the_option(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    (line,) = refused(capsys, "launch", *arguments)
    assert all(word in line for word in words), line


def test_notes_without_patients_are_refused_until_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.csv").write_text("ROW_ID,TEXT\n" + "".join(f"{i},Visit {i}. Has fever.\n" for i in range(40)))
    launch = ("launch", "--trials", "0", "--symptoms", "fever,cough", "--notes", "notes.csv")
    lines = refused(capsys, *launch)
    assert lines[-1] == (
        "symptune: error: --patient-column: notes.csv has no column of patients (it has ROW_ID, TEXT); "
        "name it, or give none: each note then counts as one patient"
    )
    lines = refused(capsys, *launch, "--patient-column", "none")
    assert [line.split(": ")[2] for line in lines] == ["--trials", "--symptoms"]
    Path("notes.csv").write_text("MRN,TEXT\n" + "".join(f"{i},Visit {i}. Has fever.\n" for i in ("7", "007")))
    assert "--patient-column: notes.csv: data row 2: its patient may be" in refused(capsys, *launch)[-1]


def test_a_model_folder_without_weights_is_refused(
    capsys: pytest.CaptureFixture[str], model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_bytes((model_folder / "config.json").read_bytes())
    (line,) = refused(capsys, "launch", "--model", "m")
    assert "no weights" in line


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_model_folder_with_damaged_or_missing_parts_is_refused(
    capsys: pytest.CaptureFixture[str], model_folder: Path, notes: Path, file: str
) -> None:
    shutil.copytree(model_folder, "m")
    damaged = Path("m") / file
    if file == "tokenizer.json":
        damaged.unlink()
    else:
        damaged.write_bytes(damaged.read_bytes()[:1000])
    (line,) = refused(capsys, "launch", "--model", "m", "--notes", str(notes), "--max-length", "40")
    assert ("has no tokenizer" if file == "tokenizer.json" else "cannot be loaded") in line


def test_weights_of_another_model_are_refused(
    capsys: pytest.CaptureFixture[str], model_folder: Path, notes: Path
) -> None:
    shutil.copytree(model_folder, "m")
    save_file({"other.weight": torch.zeros(2)}, "m/model.safetensors", metadata={"format": "pt"})
    (line,) = refused(capsys, "launch", "--model", "m", "--notes", str(notes), "--max-length", "40")
    assert "do not fit its config.json" in line


def test_all_problems_are_reported_together(capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.csv").write_text("SUBJECT_ID,REMARK\n1,x\n")
    Path("space.yaml").write_text("all: {batch_size: {choices: 16}}")
    lines = refused(
        capsys, "launch", "--space", "space.yaml", "--notes", "notes.csv", "--strategies", "basline", "--sample", "2",
        "--gpus-per-trial", "99", "--symptoms", "edma,pain", "--model", ".",
    )  # fmt: skip
    named = ("--gpus-per-trial", "--space", "--sample", "--strategies", "--model", "--symptoms", "--text-column")
    assert [line.split(": ")[2] for line in lines] == list(named)


@pytest.mark.parametrize(
    "option", ["--gpus-per-trial", "--cpus-per-trial", "--time-budget", "--sample", "--split", "--smallest-group"]
)
def test_what_is_no_number_is_refused(capsys: pytest.CaptureFixture[str], option: str) -> None:
    """A NaN would pass every comparison, and no trial could ever start."""
    for value in ("nan", "inf", "x"):
        assert main(["launch", option, f"{value},0.1,0.2" if option == "--split" else value]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"symptune: error: {option}: give ")


def test_an_address_of_the_environment_is_looked_at_first_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    lines = refused(capsys, "launch", "--cpus-per-trial", "99", "--epochs", "0")
    assert [line.split(": ")[2] for line in lines] == ["--epochs", "--address"]  # the CPUs are that cluster's matter


def test_what_only_reading_the_notes_shows_is_reported_with_the_rest(
    capsys: pytest.CaptureFixture[str], notes: Path
) -> None:
    arguments = ["--notes", str(notes), "--symptoms", "60", "--gpus-per-trial", "99", "--patients", "9"]
    lines = refused(capsys, "launch", *arguments)
    assert [line.split(": ")[2].split()[0] for line in lines] == ["--gpus-per-trial", "--patients", "--symptoms"]


def test_a_hub_name_without_a_network_is_told_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://127.0.0.1:1")
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    pretrained._hub_answers.cache_clear()
    (line,) = refused(capsys, "launch", "--model", "somebody/Some_Model")
    pretrained._hub_answers.cache_clear()
    assert "neither a folder nor in the cache" in line
    assert "does not answer" in line


@pytest.mark.parametrize("command", ["resume", "status", "evaluate", "leaderboard", "report", "compare-paper"])
def test_a_folder_that_is_no_run_is_refused(capsys: pytest.CaptureFixture[str], command: str) -> None:
    more = ["--optuna-storage", "sqlite:///studies.db"] if command == "resume" else []
    (line,) = refused(capsys, command, "nothing", *more)
    assert "no run 'nothing'" in line


Start = Callable[..., "subprocess.Popen[str]"]


def launch_line(notes: Path, model_folder: Path, *more: str) -> list[str]:
    return [
        "launch", "--notes", str(notes), "--model", str(model_folder), "--max-length", "40",
        "--cycles", "0", "--trials", "2",
        "--epochs", "3", "--strategies", "baseline,pruning", "--max-concurrent", "1", "--reduction-factor", "0",
        "--storage", "runs", "--seeds", "1", "--deploy", "last", *more,
    ]  # fmt: skip


def output_of(process: "subprocess.Popen[str]", code: int) -> str:
    """What the process printed until it ended with this code."""
    printed, _ = process.communicate()
    assert process.returncode == code, printed
    return printed


def _second_process(folder: Folder) -> None:
    with only_process(folder):
        pass


def test_an_interrupted_run_goes_on_where_it_was_and_ends(
    notes: Path, model_folder: Path, capsys: pytest.CaptureFixture[str], start_python: Start, local_ray: None
) -> None:
    line = launch_line(notes, model_folder, "--name", "cut")
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    interrupted = start_python("-m", "tests.held", 4, *line, start_new_session=True, **piped)
    until(held.WAITING.exists, process=interrupted)
    interrupted.send_signal(signal.SIGINT)
    output = output_of(interrupted, 130)
    assert "Continue with: symptune resume cut\n" in output
    assert "SIGINT" not in output

    held.WAITING.unlink()
    at_once = start_python("-m", "tests.held", 8, "--stubborn", "resume", "cut", "--seeds", "1", **piped)
    until(held.WAITING.exists, process=at_once)
    at_once.send_signal(signal.SIGTERM)
    until(held.INTERRUPTED.exists, process=at_once)
    at_once.send_signal(signal.SIGINT)
    assert "are kept" in output_of(at_once, 130)

    again = start_python("-m", "tune_jobs", *line, "--gpus-per-trial", "auto", **piped)
    ended = output_of(again, 0)  # the same launch line again, for whatever is here
    assert "--gpus-per-trial auto: " in ended
    assert "Best configurations" in ended
    assert "(raylet" not in ended
    cut = open_run(Folder("runs/cut"))
    assert [len(trial.epochs) for trial in cut.trials.values()] == [3] * 4
    assert {trial.state for trial in cut.trials.values()} == {"finished"}
    assert [trial.deployed.epoch for trial in cut.trials.values()] == [3] * 4

    assert not list(Path("runs/cut/.scratch").glob("*"))  # also of the process that ended at once
    left = {path.relative_to("runs/cut/trials") for path in Path("runs/cut/trials").glob("*/*")}
    checkpoints = {path for path in left if path.name.startswith("epoch-")}
    assert {path.name for path in left - checkpoints} <= {"deployed", "onnx", "train_logits.safetensors"}
    assert len(checkpoints) == 2  # the last one of each strategy's best trial
    with only_process(Folder("runs/cut")), pytest.raises(InputError, match="another process is working on cut"):
        _second_process(Folder("runs/cut"))

    for ending in ("csv", "json", "md"):
        assert Path(f"runs/cut/results/leaderboard.{ending}").stat().st_size > 100
    rows = pd.read_csv("runs/cut/results/leaderboard.csv")
    assert {"rank", "strategy", "validation_f1", "test_f1", "bytes", "hp_learning_rate", "trial", "checkpoint"} <= set(
        rows
    )
    assert Path("runs/cut", rows["checkpoint"][0], "deployed.json").exists()
    assert f"Report: {Path('runs/cut/results/report.html').resolve()}" in ended
    assert "Recommended" in Path("runs/cut/results/report.html").read_text()
    for name, word in (("leaderboard", "Best configurations"), ("status", "finished"), ("report", "report.html")):
        assert main([name, "cut"]) == 0
        assert word in capsys.readouterr().out

    assert main(["evaluate", "cut", "--seeds", "2"]) == 0
    assert "seeds more" in capsys.readouterr().out
    again = open_run(Folder("runs/cut"))
    for strategy in ("baseline", "pruning"):
        (best,) = again.best(strategy, 1)
        assert [trial.name for trial in again.repetitions(best.name)] == [f"{best.name}-seed1"]
        assert Path(f"runs/cut/trials/{best.name}-seed1/deployed").exists()


def test_the_same_line_with_other_notes_in_the_file_is_refused(
    capsys: pytest.CaptureFixture[str], notes: Path, model_folder: Path
) -> None:
    shutil.copyfile(notes, "notes.csv.gz")
    options = [
        "--notes",
        "notes.csv.gz",
        "--model",
        str(model_folder),
        "--max-length",
        "40",
        "--strategies",
        "baseline",
    ]
    settings = run_settings(
        notes="notes.csv.gz",
        model=str(model_folder),
        max_length=40,
        strategies=("baseline",),
        reduce_range=int8_overflows(),
    )
    create_run(Folder("runs/r"), settings, workers=1)
    other = "--no-reduce-range" if int8_overflows() else "--reduce-range"
    (line,) = refused(capsys, "launch", "--name", "r", *options, other)
    assert "reduce_range" in line
    write_synthetic_notes(Path("notes.csv.gz"), patients=50, seed=2)
    (line,) = refused(capsys, "launch", "--name", "r", *options)
    assert "--notes: the file has changed" in line


def test_a_run_tells_which_forms_were_held_back(model_folder: Path) -> None:
    folder = Folder("runs/held")
    create_run(folder, settings_for(model_folder, hold_back=1), workers=1)
    run = open_run(folder)
    assert set(run.held_back) == set(run.symptoms)
    for forms in run.held_back.values():
        assert len(forms) == 1
        assert not run.examples("train")["text"].str.contains(rf"\b{forms[0]}\b").any()


def test_a_run_name_with_other_settings_is_refused(
    capsys: pytest.CaptureFixture[str], notes: Path, model_folder: Path
) -> None:
    write_run_file(Folder("runs/taken"), strategies=("baseline",), trials=7)
    (line,) = refused(
        capsys, "launch", "--name", "taken", "--model", str(model_folder), "--notes", str(notes), "--max-length", "40",
        "--trials", "4",
    )  # fmt: skip
    assert "trials 7 → 4" in line
    assert "symptune resume taken" in line


def holders_of(text: str, folder: Path) -> set[tuple[str, ...]]:
    return {
        path.relative_to(folder).parts[:3]
        for path in folder.rglob("*")
        if path.is_file() and text.encode() in path.read_bytes()
    }


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Short, since Ray puts sockets there."""
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        yield Path(folder)


def test_no_note_text_leaves_the_data_folder(
    notes: Path, model_folder: Path, tmp_path: Path, ray_folder: Path, start_python: Start, local_ray: None
) -> None:
    table = pd.concat(list(read_notes(notes)), ignore_index=True)
    marked = pd.DataFrame({"SUBJECT_ID": table["patient"], "TEXT": table["text"].str.replace("pain", f"{MARKER} pain")})
    marked.to_csv("marked.csv", index=False)
    process = start_python(
        "-m", "tune_jobs", "launch", "--notes", "marked.csv", "--model", str(model_folder), "--max-length", "40",
        "--cycles", "0", "--trials", "1", "--epochs", "1", "--strategies", "baseline", "--name", "m", "--seeds", "1",
        "--verbose", "--log-level", "debug",
        env={"RAY_TMPDIR": str(ray_folder)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    printed = output_of(process, 0)
    assert MARKER not in printed
    driver, trial = (Path(f"runs/m/logs/{name}.log").read_text() for name in ("driver", "baseline-0000"))
    assert "versions: python" in driver
    assert "baseline-0000 finished" in driver
    assert "started on cpu" in trial
    assert "deployed the model of epoch" in trial
    assert list(ray_folder.rglob("*.log"))
    assert not holders_of(MARKER, ray_folder)
    assert holders_of(MARKER, tmp_path) == {("marked.csv",), ("runs", "m", "data")}
