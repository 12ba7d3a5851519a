"""The Python interface as a notebook uses it."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import symptune
from clinical_notes.notes import read_notes
from clinical_notes.tables.columns import NoteColumns
from run_folder.folder import Folder
from run_folder.run import open_run as open_stored
from symptune._launch import launch
from tests.conftest import PYTHON_PATH
from tests.tiny_runs import save_tiny_model
from tests.waiting import GUARD_SECONDS
from tune_jobs.cli import main
from tune_jobs.commands.options import parser
from tune_jobs.signals import interruptible, was_interrupted

SMALL: symptune.SearchOptions = {
    "strategies": ("baseline", "quantization"), "trials": 1, "epochs": 1, "cycles": 0, "seeds": 1,
    "max_length": 40,
    "space": {"all": {"batch_size": 32}, "quantization": {"scheme": "ptq_dynamic"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def table(notes: Path) -> pd.DataFrame:
    return pd.read_csv(notes)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def searched(home: Path, table: pd.DataFrame, model_folder: Path) -> symptune.Run:
    """A run of a table in memory."""
    return symptune.search(table, model=model_folder, storage=home / "runs", name="small", progress=False, **SMALL)


def python(code: str, folder: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    """Run code in another folder, with the folder first on its path, as an interactive session has it."""
    line = [sys.executable, *flags, "-c", textwrap.dedent(code)]
    environment = {**os.environ, "PYTHONPATH": PYTHON_PATH}
    return subprocess.run(
        line, cwd=folder, env=environment, capture_output=True, text=True, timeout=GUARD_SECONDS, check=False
    )


def package(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"raise RuntimeError('the user\\'s {name}')\n")


def test_its_import_imports_nothing_heavy(tmp_path: Path) -> None:
    done = python(
        """
        import sys, symptune
        heavy = {"torch", "ray", "transformers", "pandas", "optuna", "numpy", "pyarrow", "onnxruntime", "matplotlib"}
        print(sorted(heavy & set(sys.modules)))
        """,
        tmp_path,
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_every_public_name_is_documented() -> None:
    for name in symptune.__all__:
        item = getattr(symptune, name)
        if name == "__version__":
            continue
        assert item.__doc__, name
        members = [member for member in vars(item) if not member.startswith("_")] if isinstance(item, type) else []
        for member in members:
            value = vars(item)[member]
            assert not (callable(value) or isinstance(value, property)) or value.__doc__, f"{name}.{member}"


def test_its_options_are_those_of_the_command() -> None:
    options = set(vars(parser().parse_args(["launch"]))) - {"command", "notes"}
    assert set(symptune.SearchOptions.__annotations__) == options


# A search


def test_a_table_in_memory_is_searched_and_evaluated(searched: symptune.Run, home: Path) -> None:
    assert searched.name == "small"
    assert Path(searched.path) == home / "runs" / "small"
    assert {trial.state for trial in searched.trials} == {"finished"}
    best = searched.leaderboard()
    assert list(best["strategy"][best["rank"].notna()].sort_values()) == ["baseline", "quantization"]
    assert best.loc[best["rank"].notna(), "test_f1"].map(lambda value: isinstance(value, float)).all()
    assert (home / "runs" / "small" / "results" / "report.html").exists()


def test_a_tables_notes_are_left_nowhere_but_in_the_runs_data(searched: symptune.Run, table: pd.DataFrame) -> None:
    storage = Path(searched.path).parent
    assert [path.name for path in storage.iterdir()] == ["small"]
    words = table["TEXT"].iloc[0][:60].encode()
    holding = [path for path in storage.rglob("*") if path.is_file() and words in path.read_bytes()]
    assert not [path for path in holding if path.parent.name != "data"]


def test_the_same_call_adds_nothing(
    searched: symptune.Run, home: Path, table: pd.DataFrame, model_folder: Path
) -> None:
    before = {path.name for path in (Path(searched.path) / "ledger").iterdir()}
    again = symptune.search(
        table.copy(), model=model_folder, storage=home / "runs", name="small", progress=False, **SMALL
    )
    assert [trial.name for trial in again.trials] == [trial.name for trial in searched.trials]
    assert {path.name for path in (Path(searched.path) / "ledger").iterdir()} == before


def test_other_notes_are_not_taken_for_the_same(
    searched: symptune.Run, home: Path, table: pd.DataFrame, model_folder: Path
) -> None:
    with pytest.raises(symptune.InputError, match="run small exists with other settings"):
        symptune.search(
            table.iloc[1:], model=model_folder, storage=home / "runs", name="small", progress=False, **SMALL
        )


def test_the_command_line_finds_the_run_of_a_call_with_the_same_options(
    notes: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local_ray: None
) -> None:
    monkeypatch.chdir(tmp_path)
    options: symptune.SearchOptions = {
        "strategies": ["baseline"], "trials": 1, "epochs": 1, "cycles": 0, "seeds": 1,
    "max_length": 40, "hold_back": 1,
        "category": ["Nursing", "Discharge summary", "Physician"], "split": (0.6, 0.2, 0.2), "balance": False,
    }  # fmt: skip
    run = symptune.search(notes, model=model_folder, **options)
    line = [
        "launch", "--notes", str(notes), "--model", str(model_folder), "--strategies", "baseline",
        "--cycles", "0", "--trials", "1",
        "--epochs", "1", "--seeds", "1", "--max-length", "40", "--hold-back", "1", "--category", "Nursing",
        "--category", "Discharge summary", "--category", "Physician", "--split", "0.6,0.2,0.2", "--no-balance",
    ]  # fmt: skip
    assert main(line) == 0
    assert [path.name for path in Path("runs").iterdir()] == [run.name]
    assert len(symptune.open_run(run.path).trials) == 1


def test_a_search_in_a_notebook_is_interrupted_and_called_again(
    notes: Path, model_folder: Path, tmp_path: Path
) -> None:
    done = python(
        f"""
        import os, signal, threading, time
        from pathlib import Path
        import symptune

        def search():
            return symptune.search({str(notes)!r}, model={str(model_folder)!r}, max_length=40, name="cut", seeds=1,
                                   strategies=["baseline"], trials=1, cycles=0, epochs=2, progress=False)

        def interrupt():
            while len(list(Path("runs/cut/ledger").glob("[!.]*.json"))) < 2:
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        try:
            search()
        except KeyboardInterrupt:
            print("interrupted")
        run = search()
        print(*[trial.state for trial in run.trials])
        thread = threading.Thread(target=lambda: print(search().name, "in a thread"))
        thread.start()
        thread.join()
        """,
        tmp_path,
    )
    assert done.stdout.splitlines() == ["interrupted", "finished", "cut in a thread"], done.stderr


def interrupted() -> None:
    with interruptible():
        assert not was_interrupted()
        with interruptible():
            signal.raise_signal(signal.SIGINT)


def test_each_outermost_block_counts_its_own_signals() -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert was_interrupted()


def test_a_thread_that_gets_no_signals_leaves_them_alone() -> None:
    handlers = []

    def enter() -> None:
        with interruptible():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]


def test_a_search_without_a_result_says_why(notes: Path, model_folder: Path, tmp_path: Path, local_ray: None) -> None:
    with pytest.raises(symptune.SearchError, match=r"run none .*: .*baseline: no model"):
        symptune.search(
            notes, model=model_folder, max_length=40, storage=tmp_path, name="none", strategies=["baseline"], trials=1,
            cycles=0, epochs=1, seeds=1, epoch_limit=1e-6, progress=False,
        )  # fmt: skip


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": "many"}, "trials: give a whole number, not 'many'"),
        ({"trials": -1}, "trials: must be at least 1, got -1"),
        ({"unit": "word"}, "unit: there is no 'word' (there are note, sentence, row)"),
        (
            {"hold_back": 1, "mentions": "mask"},
            "hold_back: mentions are masked, which hides every form; set only one of the two",
        ),
        ({"address": "ray://127.0.0.1:1"}, "address: ray:// is for the command line"),
        ({"space": {"baseline": {"batch_sise": 3}}}, "space: the dictionary: "),
    ],
)
def test_bad_options_are_told_by_their_python_names(
    options: dict[str, object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(symptune.InputError) as raised:
        symptune.search(**options)  # type: ignore[arg-type]
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_several_problems_are_told_together_each_with_its_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(symptune.InputError) as raised:
        symptune.search(trials=-1, epochs=0, sample=2.0)
    assert {problem.field for problem in raised.value.problems} == {"trials", "epochs", "sample"}


def test_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="no option 'trails'; did you mean 'trials'"):
        symptune.search(trails=4)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.rename(columns={"TEXT": "REMARK"}), r"^text_column: the DataFrame has no column TEXT"),
        (lambda table: table.iloc[:0], r"^notes: the DataFrame has a header and no rows"),
        (lambda table: table.to_dict(), r"^notes: give a path or a pandas DataFrame, not dict"),
    ],
)
def test_a_table_that_cannot_be_read_is_told_and_leaves_nothing(
    change: object, message: str, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(symptune.InputError, match=message):
        symptune.search(change(table), storage="deep/runs")  # type: ignore[operator]
    assert not list(tmp_path.iterdir())


def test_a_table_is_read_as_its_file_would_be(
    table: pd.DataFrame, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with quotes, line ends and gaps in it."""
    seen = []

    def read(arguments: list[str], *, progress: bool) -> str:
        path = next(word for word in arguments if word.startswith("--notes=")).removeprefix("--notes=")
        seen.append(pd.concat(read_notes(path)))
        assert Path(path).stat().st_mode & 0o077 == 0
        raise symptune.InputError("seen")

    monkeypatch.setattr("symptune._search.launch", read)
    awkward = table.head(3).assign(TEXT=['he said "no pain",\r\nthen\n"fever"', " ", "é\u2028cough"])
    for given in (table, awkward):
        with pytest.raises(symptune.InputError, match="seen"):
            symptune.search(given, storage=tmp_path)
    pd.testing.assert_frame_equal(seen[0], pd.concat(read_notes(notes)))
    assert list(seen[1]["text"]) == ['he said "no pain",\r\nthen\n"fever"', "é\u2028cough"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.set_index("SUBJECT_ID"), None),
        (lambda table: table.set_index(["SUBJECT_ID", "ROW_ID"]), None),
        (lambda table: table.rename(columns={"SUBJECT_ID": "who"}).set_index("who"), None),
        (lambda table: table.assign(SUBJECT_ID=table["SUBJECT_ID"].astype(float)), None),
        (lambda table: table.assign(SUBJECT_ID=table["SUBJECT_ID"].astype("Int64")), None),
        (lambda table: table.assign(SUBJECT_ID=table["SUBJECT_ID"].astype("float32")), None),
        (lambda table: table.assign(SUBJECT_ID=np.float32(2**24)), "DataFrame: data row 1: its patient's identifier"),
        (lambda table: table.assign(SUBJECT_ID=pd.Series(1.1, table.index, "Float32")), "lost its last digits"),
        (lambda table: table.assign(mrn=np.float32(1.1)), None),
        (lambda table: table.assign(SUBJECT_ID=True), "the DataFrame: data row 1: its patient is a truth value"),
        (lambda table: table.assign(SUBJECT_ID=None), "the DataFrame: no row has anything in SUBJECT_ID"),
        (lambda table: table.assign(TEXT=[text.encode() for text in table["TEXT"]]), None),
        (lambda table: table.astype({"CATEGORY": "category", "ISERROR": "boolean"}), None),
        (lambda table: table.assign(TEXT="fièvre".encode("latin-1")), "data row 1: byte 0xe8 is not UTF-8; decode"),
        (lambda table: pd.concat({"a": table}, axis=1), "the DataFrame has columns of 2 levels; give columns of one"),
    ],
)
def test_a_table_of_any_types_is_read_as_its_plain_form(
    change: object, words: str | None, table: pd.DataFrame, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def read(arguments: list[str], *, progress: bool) -> str:
        path = next(word for word in arguments if word.startswith("--notes=")).removeprefix("--notes=")
        who = next((word for word in arguments if word.startswith("--patient-column=")), "=SUBJECT_ID").split("=")[1]
        seen.append(pd.concat(read_notes(path, columns=NoteColumns(patient=who))))
        raise symptune.InputError("seen")

    monkeypatch.setattr("symptune._search.launch", read)
    given = change(table)  # type: ignore[operator]
    options = {"patient_column": "who"} if given.index.names == ["who"] else {}
    with pytest.raises(symptune.InputError, match=words or "seen"):
        symptune.search(given, storage=tmp_path, **options)
    if words is None:
        pd.testing.assert_frame_equal(seen[0], pd.concat(read_notes(notes)))
    assert not list(tmp_path.iterdir())


def test_several_paths_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    def read(arguments: list[str], *, progress: bool) -> str:
        given.extend(arguments)
        raise symptune.InputError("seen")

    monkeypatch.setattr("symptune._search.launch", read)
    with pytest.raises(symptune.InputError, match="seen"):
        symptune.search([Path("discharge.csv"), "radiology.csv"], seed=1)
    assert given == ["--notes=discharge.csv", "--notes=radiology.csv", "--seed=1"]


def test_a_process_that_is_connected_to_ray_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    with pytest.raises(symptune.InputError, match=r"ray\.shutdown"):
        launch(["--patients=50"], progress=False)


def test_a_folder_without_a_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(symptune.InputError, match=r"not a run \(it has no run\.json\)"):
        symptune.open_run(tmp_path)


# What is found


def test_the_best_trial_has_the_figures_of_the_run(searched: symptune.Run) -> None:
    stored = open_stored(Folder(searched.path))
    for strategy in searched.strategies:
        best, record = searched.best(strategy), stored.best(strategy, 1)[0]
        assert (best.name, best.f1, best.bytes) == (record.name, record.score, record.figure("bytes"))
        assert best.hyperparameters == record.hyperparameters
    assert searched.best("quantization").bytes < searched.best("baseline").bytes  # type: ignore[operator]
    with pytest.raises(symptune.InputError, match="has no 'pruning'; it has baseline, quantization"):
        searched.best("pruning")


def test_a_model_labels_texts_as_the_command_does(
    searched: symptune.Run, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    model = searched.export(searched.best("baseline"), home / "model")
    texts = pd.Series(["patient has pain", "", None, "no fever but cough"], index=list("wxyz"))
    labels = model.predict(texts)
    assert list(labels.index) == list("wxyz")
    assert list(labels.columns) == [*model.symptoms, *(f"probability_{symptom}" for symptom in model.symptoms)]
    assert list(labels["pain"].isna()) == [False, True, True, False]
    probabilities = labels.drop(columns=list(model.symptoms))
    assert probabilities.loc[["w", "z"]].to_numpy().max() <= 1

    texts.fillna("").to_frame("TEXT").assign(note="").to_csv("texts.csv", index=False)
    assert main(["predict", "model", "texts.csv", "--out", "labels.parquet"]) == 0
    assert "symptune: Columns: text from TEXT (not note)" in capsys.readouterr().err
    assert main(["predict", "model", "texts.csv", "--out", "labels.parquet"]) == 2  # it exists
    assert main(["predict", "model", "texts.csv", "--out", "labels.parquet", "--overwrite"]) == 0
    written = pd.read_parquet("labels.parquet")
    assert list(written["pain"].fillna("")) == list(labels["pain"].fillna(""))
    np.testing.assert_array_equal(written[probabilities.columns], probabilities)

    reloaded = symptune.load(home / "model", threads=1).predict(iter(["patient has pain"]))
    np.testing.assert_allclose(reloaded["probability_pain"], labels.loc[["w"], "probability_pain"], rtol=1e-4)
    assert list(model.predict([]).columns) == list(labels.columns)


def test_what_is_no_list_of_texts_is_told(searched: symptune.Run, tmp_path: Path) -> None:
    model = searched.export("baseline-0000", tmp_path / "model")
    with pytest.raises(symptune.InputError, match="give a list of texts"):
        model.predict("pain")
    with pytest.raises(symptune.InputError, match=r"number 1 \(from 0\) is of type int"):
        model.predict(["pain", 3])  # type: ignore[list-item]
    with pytest.raises(symptune.InputError, match="not an exported model"):
        symptune.load(tmp_path)
    with pytest.raises(symptune.InputError, match="no trial 'baseline-0099'"):
        searched.export("baseline-0099", tmp_path / "other")


# Folders of the user that are named like packages of ours


@pytest.mark.parametrize("name", ["analysis", "trainables"])
def test_a_package_that_hides_ours_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    package(tmp_path, name)
    for line in ("import symptune", "from symptune.__main__ import main"):
        done = python(line, tmp_path)
        assert done.stderr.splitlines()[-1] == (
            f"ImportError: symptune: {tmp_path / name} hides symptune's own package {name!r}; rename it, or start "
            "Python in another folder"
        )


def test_a_module_that_was_imported_before_is_seen(tmp_path: Path) -> None:
    (tmp_path / "analysis.py").write_text("")
    done = python("import sys, analysis; sys.path.remove(''); import symptune", tmp_path)
    assert f"{tmp_path / 'analysis.py'} hides" in done.stderr


def test_folders_that_hide_nothing_do_no_harm(tmp_path: Path) -> None:
    package(tmp_path, "benchmarks", "tests", "docs")
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "plots.py").write_text("")
    done = python("import symptune, analysis.report; print('fine')", tmp_path)
    assert done.stdout == "fine\n", done.stderr


def test_a_search_by_the_command_is_not_disturbed_by_the_current_folder(notes: Path, tmp_path: Path) -> None:
    """Ray's workers and the process that measures memory look into it; the command itself does not."""
    package(tmp_path, "analysis", "benchmarks", "tests")
    model = save_tiny_model(tmp_path / "model")
    line = f"""
        import sys
        from symptune.__main__ import main
        sys.argv = ["symptune", "launch", "--notes", {str(notes)!r}, "--model", {str(model)!r}, "--max-length", "40",
                    "--strategies", "baseline",
                    "--cycles", "0", "--trials", "1", "--epochs", "1", "--seeds", "1", "--name", "here"]
        sys.exit(main())
        """
    done = python(line, tmp_path, "-P")
    assert done.returncode == 0, done.stderr
    assert open_stored(Folder(tmp_path / "runs" / "here")).trials["baseline-0000"].state == "finished"

    package(tmp_path, "trainables")
    done = python(line.replace("here", "there"), tmp_path, "-P")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"symptune: error: {tmp_path / 'trainables'}: it hides symptune's own package 'trainables' from Ray's workers; "
        "rename it, or start in another folder"
    ]
    assert not (tmp_path / "runs" / "there").exists()
