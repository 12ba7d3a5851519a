"""Names, files and folders that are not what they should be."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx.external_data_helper
import pytest
from onnx import TensorProto, helper

from run_folder.folder import Folder
from tests.inputs.said import Content, Row, check, table
from tests.made_runs import write_run_file
from trainables.parts.deployed import sha256
from tune_jobs.cli import main
from tune_jobs.preparing import create_run

LONG = "x" * 300
COMMANDS = ("status", "resume", "evaluate", "leaderboard", "report", "compare-paper", "export --to new")


def link(to: str) -> Content:
    return lambda path: path.symlink_to(to)


NAMES = (
    *(
        Row(("launch", "--name", name), ("--name", "is not a plain folder name"))
        for name in (LONG, "ü" * 60, "a/b", "../a", "..", ".", ".a", "a\nb", "a b", "a:b", "a?b", "a#b", "a*b", "*")
    ),
    Row(("launch", "--name", ""), ("--name: give a value",)),
    Row(("launch", "--name", " "), ("--name: give a value",)),
    Row(("launch", "--name", "-a"), ("--name",)),
    Row(("launch", "--name", "a\0b"), ("NUL",)),
    Row(("launch", "--notes", "a\0b"), ("NUL",)),
    Row(("launch", "--name", "\udcff"), ("not UTF-8",)),
    Row(("launch", "--storage", "r\udcff"), ("not UTF-8",)),
    Row(("predict", "\udcff", "f.csv"), ("not UTF-8",)),
)

STORAGES = (
    *(Row(("launch", "--storage", name), ("--storage: give a value",)) for name in ("", " ")),
    Row("launch --storage f", ("--storage: ", "Not a directory"), {"f": "x"}),
    Row("launch --storage f/runs", ("--storage: ", "Not a directory"), {"f": "x"}),
    Row("launch --storage loop", ("--storage: ", "'loop' is no folder"), {"loop": link("loop")}),
    Row("launch --storage ~nobody-such/runs", ("--storage: ", "is no folder")),
    Row(("launch", "--storage", LONG), ("--storage: ", "File name too long")),
    Row("launch --storage nowhere://x", ("--storage: ", "nowhere://x")),
    Row("launch --storage s3://", ("--storage: ", "names no folder")),
    Row("launch --storage file://", ("--storage: ",)),
    Row("launch --storage /dev/null", ("--storage: ", "Not a directory")),
    *(Row(f"{command} r --storage f", ("--storage: ", "Not a directory"), {"f": "x"}) for command in COMMANDS),
)

RUNS = (
    *(Row(f"{command} none", ("RUN: no run 'none' in", "there are none")) for command in COMMANDS),
    *(Row(f"{command} f", ("RUN: ", "Not a directory"), {"f": "x"}) for command in COMMANDS[:3]),
    *(Row((*command.split(), ""), ("RUN: no folder is named",)) for command in COMMANDS[:3]),
    *(Row((*command.split(), LONG), ("RUN: ", "File name too long")) for command in COMMANDS[:3]),
    Row("status ..", ("RUN: no run '..'",)),
    Row("status ~nobody-such", ("RUN: ", "is no folder")),
    Row(("status", "a\nb"), ("RUN: no run 'a\\nb'",)),
    Row("status loop", ("RUN: 'loop' is no folder",), {"loop": link("loop")}),
    Row("status gone", ("RUN: no run 'gone'",), {"gone": link("nowhere")}),
    Row("status r", ("run.json is damaged",), {"runs/r/run.json": ""}),
    Row("status r", ("run.json is damaged",), {"runs/r/run.json": b"\xff\xfe"}),
    Row("status r", ("run.json",), {"runs/r/run.json": "[]"}),
    Row("launch --warm-start none", ("--warm-start: no run 'none'",)),
    Row(("launch", "--warm-start", LONG), ("--warm-start: ", "File name too long")),
    Row("launch --address nowhere:x", ("--address: no Ray cluster answers",)),
    Row("launch --address 127.0.0.1:1", ("--address: no Ray cluster answers",)),
    Row("launch --address 127.0.0.1:99999", ("--address: no Ray cluster answers",)),
    Row("launch --optuna-storage nothing", ("--optuna-storage: not a database URL",)),
    Row("launch --optuna-storage sqlite:////proc/none/x.db", ("--optuna-storage", "cannot be opened")),
    Row("launch --optuna-storage nodb://u:secret@h/d", ("--optuna-storage",)),
)

HIDING = (
    Row("launch", ("hides symptune's own package 'tune_jobs'", "rename it"), {"tune_jobs.py": ""}),
    Row("launch", ("hides symptune's own package 'trainables'", "rename it"), {"trainables/__init__.py": ""}),
)

SHEETS = (
    Row("audit-labels none.tsv", ("none.tsv",)),
    Row("audit-labels g.tsv", ("g.tsv",), {"g.tsv": Path.mkdir}),
    Row("audit-labels g.tsv", ("g.tsv",), {"g.tsv": ""}),
    Row("audit-labels g.tsv", ("g.tsv",), {"g.tsv": b"\xff\xfe\x00"}),
    Row("audit-labels g.tsv", ("g.tsv",), {"g.tsv": link("g.tsv")}),
    Row("audit-labels g.tsv --out s.txt", ("--out", "must end in .csv or .json")),
    Row("audit-labels g.tsv --out none/s.csv", ("--out", "does not exist")),
    Row("audit-labels g.tsv --out s.csv", ("--out: s.csv is a folder",), {"s.csv": Path.mkdir}),
    Row("audit-labels g.tsv --out s.csv", ("--out: s.csv exists; name a new file, or give",), {"s.csv": "x"}),
    Row("audit-labels g.csv --out g.csv", ("g.csv is the file of another option",), {"g.csv": "text,affirmed\n"}),
    Row("audit-labels g.csv --out g.csv --overwrite", ("--out: g.csv is the file of another",), {"g.csv": "text\n"}),
    Row("audit-labels --export-sample 2 --notes n.csv --out s.tsv", ("--out: s.tsv exists",), {
        "n.csv": "TEXT\nfever\n", "s.tsv": "labelled for hours"}),
    Row("audit-labels --export-sample 2 --notes n.csv --out s.tsv --key k.tsv", ("--key: k.tsv exists",), {
        "n.csv": "TEXT\nfever\n", "k.tsv": "x"}),
    Row("audit-labels --export-sample 2 --notes n.csv --out s.tsv --key s.tsv", ("s.tsv is the file of another",)),
    Row("audit-labels --export-sample 2 --notes n.csv --out n.csv", ("--out: n.csv is the file of another",), {
        "n.csv": "TEXT\nfever\n"}),
    Row("audit-labels --export-sample 2 --notes n.csv --out s.tsv --key k.txt", ("--key", "must end in .tsv or .csv")),
    Row("audit-labels g.tsv --symptoms feverr", ("--symptoms", "did you mean 'fever'?"), {
        "g.tsv": "text\taffirmed\tnegated\nfever\tfever\t\n"}),
    Row("audit-labels --export-sample 2 --notes n.csv --out s.json", ("--out", "must end in .tsv or .csv")),
    Row("audit-labels --export-sample 2 --notes none.csv --out s.tsv", ("--notes", "none.csv")),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _notes_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(create_run, "notes_are_small", lambda notes: False)


def test_a_place_of_an_export_that_cannot_be_is_told_before_the_model_is_looked_for(
    capfd: pytest.CaptureFixture[str],
) -> None:
    write_run_file(Folder("runs/r"))
    check(Row(("export", "r", "--to", LONG), ("--to: ", "File name too long")), capfd)


@table(*NAMES, *STORAGES, *RUNS, *HIDING, *SHEETS)
def test_a_path_that_cannot_be_is_told_in_one_line(row: Row, capfd: pytest.CaptureFixture[str]) -> None:
    check(row, capfd)


def graph(location: str | None = None) -> bytes:
    """An ONNX graph whose weights are in another file, if one is named."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4], b"0" * 16, raw=True)
    if location is not None:
        onnx.external_data_helper.set_external_data(weight, location)
        weight.ClearField("raw_data")
    node = helper.make_node("Identity", ["w"], ["logits"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [4])
    model = helper.make_model(helper.make_graph([node], "g", [], [logits], [weight]), ir_version=9)
    model.opset_import[0].version = 17
    return bytes(model.SerializeToString())


INPUT = {
    "symptoms": ["fever", "pain"], "unit": "sentence", "window_chars": 9, "raw_window": False, "mentions": "keep",
    "max_length": 40, "lexicon": {"fever": {"forms": ["fever"]}, "pain": {"forms": ["pain"]}},
}  # fmt: skip


def exported(model: bytes) -> Content:
    """A folder that looks like an export, around these bytes of a graph."""

    def make(folder: Path) -> None:
        folder.mkdir()
        (folder / "model.onnx").write_bytes(model)
        (folder / "input.json").write_text(json.dumps(INPUT))
        hashes = {path.name: sha256(path) for path in folder.iterdir()}
        header = {"format": 1, "model": {"runtime": "torch"}, "settings": {}, "sha256": hashes}
        (folder / "metrics.json").write_text(json.dumps(header))

    return make


NOTES = "TEXT\nfever\n"
EXPORTS = (
    Row("predict none n.csv", ("none: not an exported model",), {"n.csv": NOTES}),
    Row("predict m n.csv", ("m: not an exported model",), {"m": "x", "n.csv": NOTES}),
    Row("predict m n.csv", ("m: not an exported model",), {"m": Path.mkdir, "n.csv": NOTES}),
    Row("predict m n.csv", ("m: not an exported model",), {"m": link("gone"), "n.csv": NOTES}),
    Row("predict m n.csv", ("m: not an exported model",), {"m/metrics.json": Path.mkdir, "n.csv": NOTES}),
    Row("predict m n.csv", ("m: not an exported model",), {"m/metrics.json": "[]", "n.csv": NOTES}),
    Row("predict m n.csv", ("m: not an exported model",), {"m/metrics.json": "[" * 100_000, "n.csv": NOTES}),
    Row("predict m n.csv", ("another version (format 9)",), {"m/metrics.json": '{"format": 9}', "n.csv": NOTES}),
    Row(("predict", "", "n.csv"), ("not an exported model",), {"n.csv": NOTES}),
    Row(("predict", LONG, "n.csv"), ("not an exported model",), {"n.csv": NOTES}),
    Row(
        "predict m n.csv",
        ("m: model.onnx cannot be loaded", "make the folder again"),
        {"m": exported(b""), "n.csv": NOTES},
    ),
    Row("predict m n.csv", ("m: model.onnx cannot be loaded",), {"m": exported(b"\x00" * 99), "n.csv": NOTES}),
    Row("predict m n.csv", ("m: model.onnx cannot be loaded",), {"m": exported(graph()[:40]), "n.csv": NOTES}),
    Row("predict m n.csv", ("m: model.onnx cannot be loaded",), {"m": exported(graph("../w")), "w": b"0" * 16}),
    Row("predict m n.csv", ("m: model.onnx cannot be loaded",), {"m": exported(graph("w"))}),
    Row("predict m n.csv", ("m: model.onnx cannot be loaded",), {"m": exported(graph("/etc/passwd"))}),
    Row("predict m n.csv", ("m: model.onnx",), {"m": exported(graph()), "n.csv": NOTES}),
    Row("predict m n.csv --out o.txt", ("--out: o.txt must end in .csv or .parquet",), {"n.csv": NOTES}),
    Row("predict m n.csv --out none/o.csv", ("--out: the folder of none/o.csv does not exist",), {"n.csv": NOTES}),
    Row("predict m n.csv --out o.csv", ("--out: o.csv is a folder",), {"n.csv": NOTES, "o.csv": Path.mkdir}),
    Row(
        "predict m n.csv --out o.csv",
        ("--out: o.csv exists; name a new file, or give --overwrite",),
        {"n.csv": NOTES, "o.csv": "x"},
    ),
    Row("predict m n.csv --out o.csv --overwrite", ("m: not an exported model",), {"n.csv": NOTES, "o.csv": "x"}),
    Row("predict m n.csv --out o.csv --overwrite", ("o.csv is a folder",), {"n.csv": NOTES, "o.csv": Path.mkdir}),
    Row("predict m n.csv --out n.csv --overwrite", ("--out: n.csv is the file to be read",), {"n.csv": NOTES}),
    Row(
        "predict m n.csv --out o.csv",
        ("--out: o.csv is the file to be read",),
        {"n.csv": NOTES, "o.csv": link("n.csv")},
    ),
    Row("predict m loop --out o.csv", ("m: not an exported model",), {"loop": link("loop")}),
    Row(
        "predict m n.csv --out l.csv",
        ("--out: l.csv exists; name a new file",),
        {"n.csv": NOTES, "l.csv": link("l.csv")},
    ),
    Row("predict m n.csv --out f/o.csv", ("--out: the folder of f/o.csv does not exist",), {"f": "x"}),
    Row(("predict", "m", "n.csv", "--out", f"{LONG}.csv"), ("--out: ", "File name too long"), {"n.csv": NOTES}),
    Row(("predict", "m", "n.csv", "--out", ""), ("--out: give a value",), {"n.csv": NOTES}),
)


@table(*EXPORTS)
def test_what_predict_cannot_use_is_told_in_one_line(row: Row, capfd: pytest.CaptureFixture[str]) -> None:
    check(row, capfd)


@pytest.fixture
def as_nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A current folder that all may enter, for a process that has a common user's rights meanwhile."""
    main(["status", "none"])  # what is imported later may not be readable
    folder = Path(tempfile.mkdtemp(prefix="symptune-test-"))
    folder.chmod(0o777)
    monkeypatch.chdir(folder)
    if os.geteuid() == 0:
        os.setresuid(65534, 65534, 0)
    yield
    if os.getresuid()[2] == 0:
        os.setresuid(0, 0, 0)
    shutil.rmtree(folder, ignore_errors=True)


def closed(mode: int = 0) -> Content:
    """A file, or with an ``x`` in its mode a folder, with these rights."""

    def make(path: Path) -> None:
        if mode & 0o111:
            path.mkdir(mode=mode)
        else:
            path.write_text("x")
            path.chmod(mode)

    return make


@table(
    Row("launch --space s.yaml", ("--space: s.yaml cannot be read (Permission denied)",), {"s.yaml": closed()}),
    Row("launch --lexicon l.yaml", ("--lexicon: l.yaml cannot be read (Permission denied)",), {"l.yaml": closed()}),
    Row("launch --storage s", ("--storage: ", "s is not a folder that can be written"), {"s": closed(0o555)}),
    Row("launch --storage s/runs", ("--storage: ", "s is not a folder that can be written"), {"s": closed(0o555)}),
    Row("launch --storage /root-of-nobody/runs", ("--storage: / is not a folder that can be written",)),
    Row("status r --storage s", ("--storage: ", "Permission denied"), {"s": closed(0o111)}),
    Row("status r", ("RUN: ", "Permission denied"), {"runs/r/run.json": closed()}),
    Row(
        "launch --notes n",
        ("--notes: n/s cannot be read (Permission denied)",),
        {"n/a.csv": "TEXT,SUBJECT_ID\nx,1\n", "n/s": closed(0o111)},
    ),
    Row("audit-labels g.tsv", ("g.tsv cannot be read",), {"g.tsv": closed()}),
    Row("predict m n.csv", ("m: not an exported model",), {"m/metrics.json": closed()}),
)
def test_what_may_not_be_read_or_written_is_told_in_one_line(
    row: Row, as_nobody: None, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    check(row, capfd)
