"""Tables of notes as hospitals have them: in any format, with any type, and one patient stays one patient."""

import bz2
import gzip
import io
import json
import lzma
import re
import uuid
import zipfile
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clinical_notes.notes import check_notes, read_notes
from clinical_notes.tables.columns import NoteColumns
from clinical_notes.tables.tally import Tally
from clinical_notes.tables.values import canonical
from run_folder.errors import InputError

ROWS = [("100", "has fever, and a cough"), ("100", 'said "no pain"'), ("101", "edème\nof the leg")]
CSV = 'SUBJECT_ID,TEXT\n100,"has fever, and a cough"\n100,"said ""no pain"""\n101,"edème\nof the leg"\n'


def read(paths: Any, **options: Any) -> pd.DataFrame:
    return pd.concat(list(read_notes(paths, **options)), ignore_index=True)


def pairs(paths: Any, **options: Any) -> list[tuple[str, str]]:
    return list(read(paths, **options)[["patient", "text"]].itertuples(index=False, name=None))


def refusal(paths: Any, **options: Any) -> str:
    with pytest.raises(InputError) as raised:
        list(read_notes(paths, **options))
    message = str(raised.value)
    assert "\n" not in message
    return message


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


# One patient, one identifier


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("7", "7"), (" 7 ", "7"), ("7.0", "7"), ("7.", "7"), ("7.00", "7"), ("\ufeff7", "7"), ("7\u00a0", "7"),
        ("10000.0", "10000"), ("1e+04", "10000"), ("1.0E4", "10000"), ("1.00001E5", "100001"), ("1E+05", "100000"),
        ("-3.0", "-3"), ("-0.0", "0"), ("+7.0", "7"), ("007", "007"), ("007.0", "007"), ("A7", "A7"),
        ("1e4", "1e4"), ("5e10a", "5e10a"), ("1.5", "1.5"), ("1.10", "1.10"), ("10.000", "10.000"),
        ("123456789012345678901", "123456789012345678901"), ("9" * 5000, "9" * 5000),
        ("", ""), ("nan", ""), ("NaN", ""), ("<NA>", ""), ("NULL", ""), ("None", ""), ("NA", ""), ("Nan", "Nan"),
    ],
)  # fmt: skip
def test_an_identifier_has_one_spelling(written: str, meant: str) -> None:
    assert canonical(written) == meant


DOUBLES = pa.array([7.0, 10000.0, None, 7.0])
AS_ANY_TYPE = {
    "integers": pa.array([7, 10000, None, 7]),
    "small integers": pa.array([7, 10000, None, 7], pa.uint16()),
    "doubles": DOUBLES,
    "doubles with NaN": pa.array(np.array([7.0, 10000.0, np.nan, 7.0])),
    "floats": DOUBLES.cast(pa.float32()),
    "decimals": pa.array([Decimal("7.00"), Decimal("10000.00"), None, Decimal("7.00")], pa.decimal128(12, 2)),
    "texts": pa.array(["7", "10000.0", "nan", " 7.0 "]),
    "large texts": pa.array(["7", "10000", None, "7"], pa.large_string()),
    "views": pa.array(["7", "10000", None, "7"], pa.string_view()),
    "bytes": pa.array([b"7", b"1e+04", b"", b"7.0"]),
    "bytes of one length": pa.array([b"7\0\0\0\0", b"10000", b"\0\0\0\0\0", b"7\0\0\0\0"], pa.binary(5)),
    "categories": pa.array(["7", "10000", None, "7"]).dictionary_encode(),
    "categories of numbers": pa.array([7, 10000, None, 7]).dictionary_encode(),
}


@pytest.mark.parametrize("kind", AS_ANY_TYPE)
@pytest.mark.parametrize("chunk_rows", [1, 4])
def test_a_patient_is_the_same_whatever_the_columns_type(tmp_path: Path, kind: str, chunk_rows: int) -> None:
    table = pa.table({"SUBJECT_ID": AS_ANY_TYPE[kind], "TEXT": ["a", "b", "c", "d"]})
    path = tmp_path / "n.parquet"
    pq.write_table(table, path)
    assert list(read(path, chunk_rows=chunk_rows)["patient"]) == ["7", "10000", "note-2", "7"]


def test_identifiers_of_other_kinds_are_kept(tmp_path: Path) -> None:
    keys = [uuid.UUID(int=1), uuid.UUID(int=2)]
    path = parquet(tmp_path / "n.parquet", SUBJECT_ID=pa.array([k.bytes for k in keys], pa.uuid()), TEXT=["a", "b"])
    assert list(read(path)["patient"]) == [str(key) for key in keys]


@pytest.mark.parametrize(
    "patients",
    [
        pa.array([None, None]), pa.array([None, None], pa.int64()), pa.array([None, float("nan")]),
        pa.array(["", " "]), pa.array(["NULL", None]), pa.array([None, None], pa.string()).dictionary_encode(),
        pa.array([b"\0\0", b"\0\0"], pa.binary(2)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("chunk_rows", [1, 10])
def test_a_column_without_any_patient_is_refused(tmp_path: Path, patients: pa.Array, chunk_rows: int) -> None:
    """Unless none are asked for."""
    path = parquet(tmp_path / "n.parquet", SUBJECT_ID=patients, TEXT=["a", "b"])
    message = refusal(path, chunk_rows=chunk_rows)
    assert message.startswith(f"patient_column: {path}: no row has anything in SUBJECT_ID, the column of patients; ")
    assert "give none: each note then counts as one patient" in message
    assert list(read(path, columns=NoteColumns(patient=None))["patient"]) == ["note-0", "note-1"]


def test_one_of_several_tables_without_any_patient_is_refused(tmp_path: Path) -> None:
    """But not a part of a folder, which may be small."""
    one, two = tmp_path / "t" / "1.csv", tmp_path / "t" / "2.csv"
    one.parent.mkdir()
    one.write_text("SUBJECT_ID,TEXT\n1,a\n")
    two.write_text("SUBJECT_ID,TEXT\n,b\n")
    assert f"patient_column: {two}: no row has anything in SUBJECT_ID" in refusal([one, two])
    assert list(read(one.parent)["patient"]) == ["1", "note-1"]


@pytest.mark.parametrize("index", [[5, 6, 7], [5, 7, 5], [5.0, 7.0, None], ["5", "7.0", "5"]])
def test_the_patient_may_be_the_index_of_a_table_of_pandas(tmp_path: Path, index: list[object]) -> None:
    """The first is not a column of the file, since it counts evenly."""
    frame = pd.DataFrame({"TEXT": ["a", "b", "c"]}, index=pd.Index(index, name="SUBJECT_ID"))
    frame = frame.set_index(pd.RangeIndex(5, 8, name="SUBJECT_ID")) if index == [5, 6, 7] else frame
    frame.to_parquet(tmp_path / "n.parquet")
    meant = ["note-2" if patient is None else str(int(float(str(patient)))) for patient in index]
    assert list(read(tmp_path / "n.parquet", chunk_rows=2)["patient"]) == meant


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("007", "7"), ("007", "7.0"), ("0007", "007"), ("P07", "P7"), ("a12", "A12"), ("1e4", "10000"), ("+7", "7"),
        ("10.000", "10"), ("7,0", "7"), ("1.1", "1.10"), ("７", "7"), ("1,234", "1234"), ("1'234", "1234"),
        ("10.000", "10000"), ("1\u00a0234", "1234"), ("'7", "7"), ("=007", "007"), ("#7", "7"), ("7\u00ad", "7"),
        ("A 12", "A12"), ("\u0667", "7"),
    ],
)  # fmt: skip
def test_spellings_of_one_or_of_two_patients_are_refused(tmp_path: Path, first: str, second: str) -> None:
    """In one chunk, in two, and in two files."""
    rows = [first, "500", "500", second]
    one = tmp_path / "one.csv"
    one.write_text("SUBJECT_ID,TEXT\n" + "".join(f'"{patient}",note {i}\n' for i, patient in enumerate(rows)))
    for chunk_rows in (1, 2, 10):
        message = refusal(one, chunk_rows=chunk_rows)
        assert message.startswith(f"patient_column: {one}: data row 4: its patient may be that of data row 1 of {one}")
        assert "write each patient's in one way" in message
    parts = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for part, patient in zip(parts, (first, second), strict=True):
        part.write_text(f'SUBJECT_ID,TEXT\n500,note\n"{patient}",note\n')
    assert f"{parts[1]}: data row 2: its patient may be that of data row 2 of {parts[0]}" in refusal(parts)


def test_a_null_among_integers_does_not_make_two_patients_of_one(tmp_path: Path) -> None:
    """Parts of one folder have the column as integers, and as floating-point numbers."""
    parquet(tmp_path / "1.parquet", SUBJECT_ID=[1, 2], TEXT=["a", "b"])
    parquet(tmp_path / "2.parquet", SUBJECT_ID=[2.0, None], TEXT=["c", "d"])
    parquet(tmp_path / "3.parquet", SUBJECT_ID=["1.0", "2"], TEXT=["e", "f"])
    assert list(read(tmp_path)["patient"]) == ["1", "2", "2", "note-3", "1", "2"]


@pytest.mark.parametrize(
    "patients",
    [
        pa.array([1.0, 2.0**53 + 2]),
        pa.array([1.0, 2.0**53]),
        pa.array([1.0, 2.0**24 + 2], pa.float32()),
        pa.array([1.0, 2.0**24], pa.float32()),
        pa.array([1.0, -(2.0**24)], pa.float32()),
        pa.array([1.0, 1.1, float("nan")], pa.float32()),
        pa.array(np.array([1, 2048], np.float16)),
        pa.array([1.0, float("inf")]),
        pa.array(["1", "1.2345678901234568e+19"]),
        pa.array(["1", "1.23457E+11"]),
        pa.array(["1", "12345678901234567890.0"]),
    ],
)
def test_identifiers_that_lost_digits_are_refused(tmp_path: Path, patients: pa.Array) -> None:
    message = refusal(parquet(tmp_path / "n.parquet", SUBJECT_ID=patients, TEXT=["a"] * len(patients)))
    assert message.startswith("patient_column: ")
    assert "data row 2: its patient's identifier passed through floating-point numbers and lost" in message


def test_the_largest_exact_numbers_are_identifiers(tmp_path: Path) -> None:
    for kind, largest in ((pa.float32(), 2**24 - 1), (pa.float64(), 2**53 - 1), (pa.int64(), 2**63 - 1)):
        path = parquet(tmp_path / "n.parquet", SUBJECT_ID=pa.array([largest], kind), TEXT=["a"])
        assert list(read(path)["patient"]) == [str(largest)]


@pytest.mark.parametrize(
    "patients", [[True, False], pa.array([True, None]).dictionary_encode(), [[1], [2]], [pd.Timestamp(0)] * 2]
)
def test_what_identifies_nobody_is_no_column_of_patients(tmp_path: Path, patients: list[object]) -> None:
    message = refusal(parquet(tmp_path / "n.parquet", SUBJECT_ID=patients, TEXT=["a", "b"]))
    assert "the column SUBJECT_ID holds" in message
    assert "not identifiers of patients" in message


@pytest.mark.parametrize("content", ["SUBJECT_ID,TEXT\nTrue,a\nFalse,b\n", '{"mrn": true, "text": "a"}\n'])
def test_a_truth_value_is_no_patient(tmp_path: Path, content: str) -> None:
    (tmp_path / "n.csv").write_text(content)
    message = refusal(tmp_path / "n.csv")
    assert message.startswith("patient_column: ")
    assert "data row 1: its patient is a truth value; name the column of patients" in message


# Columns


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("SUBJECT_ID,TEXT", ("SUBJECT_ID", "TEXT", None)),
        ("subject_id,text,note_type", ("subject_id", "text", "note_type")),
        ("Patient ID,Note Text,Note Type", ("Patient ID", "Note Text", "Note Type")),
        ("patientId,reportText,reportType", ("patientId", "reportText", "reportType")),
        ("patient,note,category", ("patient", "note", "category")),
        ("pat_id,report", ("pat_id", "report", None)),
        ("MRN,Report", ("MRN", "Report", None)),
        ("person_id,note_text,note_class", ("person_id", "note_text", "note_class")),
        ("note_id,patient_id,mrn,text,note", ("patient_id", "text", None)),
        ("mrn,SUBJECT_ID,report,TEXT,type,CATEGORY", ("SUBJECT_ID", "TEXT", "CATEGORY")),
    ],
)
def test_usual_names_are_recognised(tmp_path: Path, header: str, taken: tuple[str, str, str | None]) -> None:
    names = header.split(",")
    path = tmp_path / "n.csv"
    path.write_text(f"{header}\n{','.join(f'value {i}' for i in range(len(names)))}\n")
    tally = Tally()
    notes = read(path, tally=tally)
    found = tally.columns[str(path)].names
    assert (found["patient"], found["text"], found.get("category")) == taken
    assert notes["patient"][0] == f"value {names.index(taken[0])}"
    assert notes["text"][0] == f"value {names.index(taken[1])}"
    said = next(tally.lines())
    assert said.startswith(f"Columns: text from {taken[1]}")
    assert f", patient from {taken[0]}" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("mrn,patient_id,text\n1,2,a\n", "text from text, patient from patient_id (not mrn)"),
        ("note,text,mrn\n,a,1\n", "text from text (not note), patient from mrn"),
        ("TEXT,text,mrn\na,a,1\n", "text from TEXT (not text), patient from mrn"),
        ("type,text,mrn,note_type\nx,a,1,y\n", "text from text, patient from mrn, category from note_type (not type)"),
        ("mrn,text,ISERROR,is_error\n1,a,,\n", "text from text, patient from mrn, error from ISERROR (not is_error)"),
        ('{"mrn": 1, "text": "a", "TEXT": "b"}\n', "text from TEXT (not text), patient from mrn"),
    ],
)
def test_several_candidates_are_told(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "n.csv").write_text(content)
    tally = Tally()
    read(tmp_path / "n.csv", tally=tally)
    assert next(tally.lines()) == f"Columns: {said}"


TWO_NAMES: dict[str, tuple[str, str]] = {
    "texts": ("mrn,text,note\n1,a,\n2,,b\n", "text_column: N: data row 2 has nothing in text and something in note"),
    "two cases": (
        '{"mrn": 1, "TEXT": "a"}\n{"mrn": 2, "text": "b"}\n',
        "row 2 has nothing in TEXT and something in text",
    ),
    "patients": (
        '{"subject_id": 1, "text": "a"}\n{"patient_id": 2, "text": "b"}\n',
        "patient_column: N: data row 2 has nothing in subject_id and something in patient_id; put all patients into",
    ),
    "patients with marks": ("subject_id,mrn,text\n1,,a\nNULL,7,b\n", "data row 2 has nothing in subject_id and"),
    "categories": (
        "mrn,text,type,category\n1,a,,x\n2,b,y,\n",
        "data row 2 has nothing in category and something in type",
    ),
    "marks": (
        "mrn,text,ISERROR,is_error\n1,a,1,\n2,b,,1\n",
        "data row 2 has nothing in ISERROR and something in is_error",
    ),
    "a name that was asked for": (
        "mrn,Report,REPORT\n1,a,\n",
        "data row 1 has nothing in REPORT and something in Report",
    ),
}


@pytest.mark.parametrize("kind", TWO_NAMES)
@pytest.mark.parametrize("chunk_rows", [1, 10])
def test_rows_that_use_two_names_of_a_column_are_refused(tmp_path: Path, kind: str, chunk_rows: int) -> None:
    content, words = TWO_NAMES[kind]
    path = tmp_path / "N"
    path.write_text(content)
    columns = NoteColumns(text="report") if "asked" in kind else NoteColumns()
    message = refusal(path, chunk_rows=chunk_rows, columns=columns).replace(str(path), "N")
    assert words in message, message


def test_two_columns_of_texts_of_any_type_may_stand_next_to_each_other(tmp_path: Path) -> None:
    path = parquet(tmp_path / "n.parquet", mrn=[1, 2], text=["a", ""], note=[["x"], ["y"]])
    assert pairs(path) == [("1", "a")]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("ROW_ID,TEXT", ["patient_column: ", "has no column of patients (it has ROW_ID, TEXT)", "give none"]),
        ("SUBJECT_ID,REMARK", ["text_column: ", "has no column TEXT (it has SUBJECT_ID, REMARK)"]),
        ("SUBJECT_ID,TEXT,TEXT", ["the column TEXT twice"]),
        ("SUBJECT_ID,SUBJECT_ID,TEXT", ["the column SUBJECT_ID twice"]),
        ("John Smith has fever,and cough", ["none of the 2 names in its first row is a usual one"]),
    ],
)
def test_a_missing_column_is_refused(tmp_path: Path, header: str, words: list[str]) -> None:
    path = tmp_path / "n.csv"
    path.write_text(f"{header}\n" + ",".join("abc"[: header.count(",") + 1]) + "\n")
    message = refusal(path)
    assert all(word in message for word in words), message
    assert "Smith" not in message


def test_no_patients_are_read_where_none_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("TEXT\na\nb\n")
    assert pairs(tmp_path / "n.csv", columns=NoteColumns(patient=None)) == [("note-0", "a"), ("note-1", "b")]


# Types


@pytest.mark.parametrize(
    ("column", "values", "kept"),
    [
        ("ISERROR", pa.array([True, False, None]), "bc"),
        ("ISERROR", pa.array([1, 0, None]), "bc"),
        ("ISERROR", pa.array([1.0, 0.0, float("nan")]), "bc"),
        ("ISERROR", pa.array(["true", "F", None]), "bc"),
        ("IsError", pa.array([" T ", "no", ""]), "bc"),
        ("is_error", pa.array(["Y", "N", "null"]), "bc"),
        ("ISERROR", pa.array(["yes", "false", "NaN"]), "bc"),
        ("ISERROR", pa.array(["1.0", "0.0", "0"]), "bc"),
        ("ISERROR", pa.array([b"1", b"0", None]), "bc"),
        ("ISERROR", pa.array(["True", "False", None]).dictionary_encode(), "bc"),
        ("ISERROR", pa.array([None, None, None]), "abc"),
        ("ISERROR", pa.array([Decimal("1"), Decimal("0"), None]), "bc"),
    ],
)
def test_marked_rows_are_dropped_whatever_the_marks_type(
    tmp_path: Path, column: str, values: pa.Array, kept: str
) -> None:
    path = parquet(tmp_path / "n.parquet", **{"SUBJECT_ID": [1, 2, 3], "TEXT": list("abc"), column: values})
    assert "".join(read(path)["text"]) == kept


@pytest.mark.parametrize("marks", [["", "x"], ["0", "2"], ["0", "maybe"]])
def test_an_unknown_mark_is_one_line_with_its_row(tmp_path: Path, marks: list[str]) -> None:
    path = parquet(tmp_path / "n.parquet", SUBJECT_ID=[1, 2], TEXT=["a", "b"], ISERROR=marks)
    message = refusal(path, chunk_rows=1)
    assert "data row 2: ISERROR holds a mark that is neither true nor false; write 1 or 0" in message


@pytest.mark.parametrize(
    ("values", "meant"),
    [
        (pa.array(["x", None, "z"]), ["x", "", "z"]),
        (pa.array(["x", None, "z"]).dictionary_encode(), ["x", "", "z"]),
        (pa.array([None, None, None]), ["", "", ""]),
        (pa.array([1, None, 3]), ["1", "", "3"]),
        (pa.array([1.0, None, 2.5]), ["1", "", "2.5"]),
        (pa.array([True, None, False]), ["True", "", "False"]),
        (pa.array([b"x", None, b"z"]), ["x", "", "z"]),
        (pa.array([pd.Timestamp("2151-07-16"), None, None]), ["2151-07-16 00:00:00", "", ""]),
        (pa.array(["x", None, "z"], pa.large_string()), ["x", "", "z"]),
    ],
)
def test_categories_and_groups_of_any_type_are_texts(tmp_path: Path, values: pa.Array, meant: list[str]) -> None:
    path = parquet(tmp_path / "n.parquet", SUBJECT_ID=[1, 2, 3], TEXT=list("abc"), CATEGORY=values, UNIT=values)
    notes = read(path, columns=NoteColumns(groups=("UNIT",)))
    assert list(notes["category"]) == list(notes["group_UNIT"]) == meant


UNKNOWN = "its encoding is not known (UTF-8, UTF-16 and UTF-32 are read): convert it"
LATIN1 = "fièvre".encode("latin-1")


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.string()])
def test_bytes_that_are_not_utf8_are_told_with_their_row(tmp_path: Path, kind: pa.DataType) -> None:
    """Also in a column that says it holds text."""
    raw = pa.array([b"fine"] * 5 + [LATIN1], pa.binary())
    column = raw if kind != pa.string() else pa.StringArray.from_buffers(6, *raw.buffers()[1:])
    column = column.cast(kind) if kind == pa.large_binary() else column
    path = parquet(tmp_path / "n.parquet", SUBJECT_ID=range(6), TEXT=column)
    message = refusal(path, chunk_rows=4)
    assert f"{path}: data row 6: byte 0xe8 is not UTF-8" in message


def test_a_list_is_no_text(tmp_path: Path) -> None:
    assert "TEXT holds list" in refusal(parquet(tmp_path / "n.parquet", SUBJECT_ID=[1], TEXT=[["a", "b"]]))


# Formats

Write = Callable[[Path], Path]


def _packed(pack: Callable[[bytes], bytes], name: str, content: str = CSV, encoding: str = "utf-8") -> Write:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(pack(content.encode(encoding)))
        return folder / name

    return write


def _plain(content: bytes) -> bytes:
    return content


def _zip(content: bytes, *more: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/NOTEEVENTS.csv", content)
        for name in more:
            archive.writestr(name, b"x")
    return stream.getvalue()


def _arrow_packed(content: bytes, how: str) -> bytes:
    stream = pa.BufferOutputStream()
    with pa.CompressedOutputStream(stream, how) as packed:
        packed.write(content)
    packed_bytes: bytes = stream.getvalue().to_pybytes()
    return packed_bytes


def _zstd(content: bytes) -> bytes:
    return _arrow_packed(content, "zstd")


def _delimited(mark: str) -> str:
    lines = "".join(f'{patient}{mark}"{text.replace(chr(34), chr(34) * 2)}"\n' for patient, text in ROWS)
    return f"SUBJECT_ID{mark}TEXT\n{lines}"


def _json_lines(rows: Sequence[Any] = ROWS) -> str:
    return "".join(json.dumps({"SUBJECT_ID": patient, "TEXT": text}) + "\n" for patient, text in rows)


READABLE: dict[str, Write] = {
    "CSV": _packed(_plain, "n.csv"),
    "CSV without an ending": _packed(_plain, "notes"),
    "CSV named .parquet": _packed(_plain, "n.parquet"),
    "CSV with a mark of UTF-8": _packed(_plain, "n.csv", encoding="utf-8-sig"),
    "UTF-16 of Windows": _packed(_plain, "n.csv", encoding="utf-16"),
    "UTF-16 without a mark": _packed(_plain, "n.csv", encoding="utf-16-le"),
    "UTF-16, big end first": _packed(_plain, "n.csv", encoding="utf-16-be"),
    "UTF-32": _packed(_plain, "n.csv", encoding="utf-32"),
    "semicolons": _packed(_plain, "n.csv", _delimited(";")),
    "tabs": _packed(_plain, "n.tsv", _delimited("\t")),
    "bars": _packed(_plain, "n.txt", _delimited("|")),
    "Excel's line about the delimiter": _packed(_plain, "n.csv", "sep=;\n" + _delimited(";")),
    "Windows' line ends": _packed(_plain, "n.csv", CSV.replace("\n", "\r\n").replace("edème\r\n", "edème\n")),
    "an empty line first": _packed(_plain, "n.csv", "\n" + CSV),
    "gzip": _packed(gzip.compress, "n.csv.gz"),
    "gzip named .csv": _packed(gzip.compress, "n.csv"),
    "gzip named .CSV.GZ": _packed(gzip.compress, "N.CSV.GZ"),
    "plain text named .csv.gz": _packed(_plain, "n.csv.gz"),
    "gzip in two members": _packed(lambda content: gzip.compress(content[:40]) + gzip.compress(content[40:]), "n.gz"),
    "gzip twice": _packed(lambda content: gzip.compress(gzip.compress(content)), "n.csv.gz.gz"),
    "UTF-16 in gzip": _packed(gzip.compress, "n.csv.gz", encoding="utf-16"),
    "bzip2": _packed(bz2.compress, "n.csv.bz2"),
    "xz": _packed(lzma.compress, "n.csv.xz"),
    "old xz": _packed(lambda content: lzma.compress(content, lzma.FORMAT_ALONE), "n.csv.lzma"),
    "zstd": _packed(_zstd, "n.csv.zst"),
    "zstd in two frames": _packed(lambda content: _zstd(content[:40]) + _zstd(content[40:]), "n.csv.zst"),
    "lz4": _packed(lambda content: _arrow_packed(content, "lz4"), "n.csv.lz4"),
    "zip": _packed(_zip, "n.csv.zip"),
    "zip of macOS": _packed(lambda content: _zip(content, "__MACOSX/folder/._NOTEEVENTS.csv"), "n.zip"),
    "gzip in zip": _packed(lambda content: _zip(gzip.compress(content)), "n.zip"),
    "JSON lines": _packed(_plain, "n.jsonl", _json_lines()),
    "JSON lines with numbers": _packed(_plain, "n.json", _json_lines([(float(p), text) for p, text in ROWS])),
    "JSON lines in zstd": _packed(_zstd, "n.ndjson.zst", _json_lines()),
    "JSON lines with empty lines": _packed(_plain, "n.jsonl", _json_lines().replace("\n", "\n\n")),
}


@pytest.mark.parametrize("kind", READABLE)
@pytest.mark.parametrize("chunk_rows", [1, 100])
def test_a_table_is_read_for_what_it_is_whatever_its_name(tmp_path: Path, kind: str, chunk_rows: int) -> None:
    path = READABLE[kind](tmp_path)
    assert pairs(path, chunk_rows=chunk_rows) == ROWS


def _of_frame(write: Callable[[pd.DataFrame, Path], object]) -> Write:
    def written(folder: Path) -> Path:
        write(pd.DataFrame(ROWS, columns=["SUBJECT_ID", "TEXT"]), folder / "n")
        return folder / "n"

    return written


def _arrow_stream(frame: pd.DataFrame, path: Path) -> None:
    table = pa.Table.from_pandas(frame)
    with pa.ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table)


def _zip_of(*names: str) -> Write:
    def write(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "n", "w") as archive:
            for name in names:
                archive.writestr(name, b"x")
        return folder / "n"

    return write


REFUSED: dict[str, tuple[Write, str]] = {
    "a zip of two": (_packed(lambda c: _zip(c, "b.csv"), "n.zip"), "is a zip archive that holds 2 files; unpack it"),
    "an empty zip": (_packed(lambda c: b"PK\5\6" + bytes(18), "n.zip"), "is a zip archive that holds no file"),
    "a zip in gzip": (_packed(lambda c: gzip.compress(_zip(c)), "n.gz"), "holds a zip archive inside another file"),
    "half a gzip": (_packed(lambda c: gzip.compress(c)[:60], "n.csv.gz"), "damaged gzip"),
    "half a bzip2": (_packed(lambda c: bz2.compress(c)[:60], "n.csv.bz2"), "damaged bzip2"),
    "half an xz": (_packed(lambda c: lzma.compress(c)[:100], "n.csv.xz"), "damaged xz"),
    "half a zstd": (_packed(lambda c: _zstd(c * 9)[:60], "n.csv.zst"), "damaged zstd"),
    "half a zip": (_packed(lambda c: _zip(c)[:90], "n.csv.zip"), "damaged zip"),
    "wrong bytes in gzip": (_packed(lambda c: gzip.compress(c)[:-8] + bytes(8), "n.csv.gz"), "damaged gzip"),
    "half a UTF-16": (_packed(lambda c: c[:-1], "n.csv", encoding="utf-16"), "damaged UTF-16"),
    "old Excel": (
        _packed(lambda c: b"\xd0\xcf\x11\xe0\xa1\xb1", "n.xls"),
        "is an old Excel or Word file, or an encrypted",
    ),
    "empty lines": (_packed(_plain, "n.csv", "\n\n \n"), "is empty; give a table with a header and notes"),
    "a mark alone": (_packed(_plain, "n.csv", "", "utf-16"), "is empty; give a table with a header and notes"),
    "Feather": (_of_frame(lambda frame, path: frame.to_feather(path)), "is an Arrow file (Feather)"),
    "old Feather": (_packed(lambda c: b"FEA1\0\0\0\0", "n.feather"), "is an old Feather file; write it as Parquet"),
    "an Arrow stream": (_of_frame(_arrow_stream), "is an Arrow stream; write it as Parquet"),
    "ORC": (_of_frame(lambda frame, path: frame.to_orc(path)), "is an ORC file; write it as Parquet"),
    "Avro": (_packed(lambda c: b"Obj\1\4\x14avro.codec", "n.avro"), "is an Avro file"),
    "encrypted Parquet": (_packed(lambda c: b"PARE" + c, "n.parquet"), "is an encrypted Parquet file"),
    "HDF5": (_packed(lambda c: b"\x89HDF\r\n\x1a\n\0", "n.h5"), "is an HDF5 file; write the table with pandas' to"),
    "NumPy": (_of_frame(lambda frame, path: np.save(path.open("wb"), frame.to_numpy("U9"))), "is a NumPy file"),
    "a pickle": (_of_frame(lambda frame, path: frame.to_pickle(path)), "is a Python pickle; write the table with"),
    "a pickle in gzip": (
        _of_frame(lambda frame, path: frame.to_pickle(path, compression="gzip")),
        "is a Python pickle",
    ),
    "a pickle of Python 2": (_of_frame(lambda frame, path: frame.to_pickle(path, protocol=2)), "is a Python pickle"),
    "Stata": (_of_frame(lambda frame, path: frame.to_stata(path, version=118)), "is a Stata file; save it as .csv"),
    "old Stata": (_of_frame(lambda frame, path: frame.to_stata(path, version=114)), "is a Stata file; save it as .csv"),
    "SPSS": (_packed(lambda c: b"$FL2@(#) SPSS DATA FILE", "n.sav"), "is an SPSS file; save it as .csv"),
    "packed SPSS": (_packed(lambda c: b"$FL3@(#) SPSS DATA FILE", "n.zsav"), "is an SPSS file; save it as .csv"),
    "SAS": (_packed(lambda c: bytes(12) + b"\xc2\xea\x81\x60", "n.sas7bdat"), "is a SAS file; save it as .csv"),
    "SAS's transport": (_packed(lambda c: b"HEADER RECORD*******LIBRARY", "n.xpt"), "is a SAS file"),
    "R": (_packed(lambda c: gzip.compress(b"X\n\0\0\0\3\0\4"), "n.rds"), "is an R file"),
    "R's workspace": (_packed(lambda c: bz2.compress(b"RDX3\nX\n"), "n.RData"), "is an R file"),
    "Access": (_packed(lambda c: b"\0\1\0\0Standard ACE DB\0", "n.accdb"), "is an Access database; export the table"),
    "OpenDocument": (_zip_of("mimetype", "content.xml"), "is an OpenDocument file (.ods); save it as .xlsx or .csv"),
    "binary Excel": (_zip_of("xl/workbook.bin"), "is a binary Excel file (.xlsb); save it as .xlsx or .csv"),
    "Word": (_zip_of("word/document.xml"), "is a Word file; save it as"),
    "Numbers": (_zip_of("Index/Document.iwa"), "is a Numbers or Pages file; save it as"),
    "compress": (_packed(lambda c: b"\x1f\x9d\x90" + c, "n.csv.Z"), "is packed with compress (.Z); unpack it first"),
    "snappy": (_packed(lambda c: b"\xff\6\0\0sNaPpY" + c, "n.csv.sz"), "is packed with snappy; unpack it first"),
    "raw snappy": (_packed(lambda c: b"\x14L" + c, "n.csv.snappy"), "is not a table, or is text"),
    "brotli": (_packed(lambda c: pa.compress(c, "brotli", asbytes=True), "n.csv.br"), "is not a table, or is text"),
    "old lz4": (_packed(lambda c: b"\x02\x21\x4c\x18" + c, "n.csv.lz4"), "is packed with an old lz4; unpack it first"),
    "Git's pointer": (_packed(_plain, "n.csv", "version https://git-lfs.github.com/spec/v1\n"), "fetch it with git"),
    "PGP": (_packed(_plain, "n.csv", "-----BEGIN PGP MESSAGE-----\n"), "is encrypted; decrypt it first"),
    "circumflexes": (_packed(_plain, "n.csv", _delimited("^")), "has '^' between its columns; write commas, semi"),
    "two colons": (_packed(_plain, "n.csv", _delimited("::")), "has ':' between its columns"),
    "tildes": (_packed(_plain, "n.csv", _delimited("~")), "has '~' between its columns"),
    "Hive's mark": (_packed(_plain, "n.csv", _delimited("\x01")), "has '\\x01' between its columns"),
    "blanks": (_packed(_plain, "n.txt", _delimited("  ")), "has ' ' between its columns"),
    "broken bars": (_packed(_plain, "n.csv", _delimited("¦")), "has '¦' between its columns"),
    "a PDF": (_packed(lambda c: b"%PDF-1.7\n", "n.csv"), "is a PDF"),
    "SQLite": (_packed(lambda c: b"SQLite format 3\0", "n.db"), "is an SQLite database"),
    "XML": (_packed(_plain, "n.xml", "<?xml version='1.0'?><TEXT>x</TEXT>"), "is XML or HTML"),
    "a JSON array": (_packed(_plain, "n.json", '[{"TEXT": "x"}]'), "is one JSON array; write an object a line"),
    "bytes": (_packed(lambda c: bytes(range(50)), "n.csv"), "is not a table, or is text"),
    "half a Parquet": (_packed(lambda c: b"PAR1" + c, "n.parquet"), "is not a readable Parquet file"),
    "Parquet in gzip": (_packed(lambda c: gzip.compress(b"PAR1" + c), "n.gz"), "is Parquet inside gzip; unpack it"),
    "a header in latin-1": (
        _packed(_plain, "n.csv", "SUBJECT_ID,TEXT,FIÈVRE\n1,a,b\n", "latin-1"),
        "its first row: byte 0xc8 is not UTF-8",
    ),
    **{
        f"{encoding}, {kind}": (_packed(_plain, f"n{kind}", content, encoding), f"0x{byte} is not UTF-8; {UNKNOWN}")
        for encoding, content, kind, byte in (
            ("cp037", "SUBJECT_ID,TEXT\n1,a\n", ".csv", "e2"),
            ("cp500", '{"SUBJECT_ID": 1, "TEXT": "a"}\n', ".jsonl", "c0"),
            ("shift_jis", "SUBJECT_ID,TEXT\n1,発熱\n", ".csv", "94"),
            ("shift_jis", "患者,TEXT\n1,a\n", ".tsv", "8a"),
            ("shift_jis", '{"SUBJECT_ID": 1, "TEXT": "発熱"}\n', ".jsonl", "94"),
        )
    },
    "EBCDIC with its own line ends": (
        _packed(_plain, "n.csv", "SUBJECT_ID,TEXT\x851,a\x85", "cp037"),
        "is not a table, or is text whose encoding is not known (UTF-8, UTF-16 and UTF-32 are read)",
    ),
    "a line that is no object": (_packed(_plain, "n.jsonl", _json_lines() + "7\n"), "data row 4 is not a JSON object"),
    "half a line": (_packed(_plain, "n.jsonl", _json_lines()[:-9]), "data row 3 is not a JSON object"),
    "deep JSON": (_packed(_plain, "n.jsonl", '{"TEXT":' * 100_000), "data row 1 is not a JSON object"),
    "a name twice in JSON": (_packed(_plain, "n.jsonl", '{"TEXT": "a", "TEXT": "b"}\n'), "data row 1 has a name twice"),
    "a list in JSON": (
        _packed(_plain, "n.jsonl", '{"SUBJECT_ID": 1, "TEXT": ["a"]}\n'),
        "data row 1 has a list or an object where a text belongs",
    ),
    "half a character in JSON": (
        _packed(_plain, "n.jsonl", '{"SUBJECT_ID": 1, "TEXT": "a\\ud800"}\n'),
        "data row 1 has half of a character",
    ),
    "latin-1 in JSON": (
        _packed(_plain, "n.jsonl", '{"SUBJECT_ID": 1, "TEXT": "fièvre"}\n', "latin-1"),
        "data row 1: byte 0xe8 is not UTF-8",
    ),
    "parts with their columns in another order": (
        _packed(_plain, "n.csv", "SUBJECT_ID,TEXT\n1,a\nTEXT,SUBJECT_ID\nb,2\n"),
        "data row 2 is a header with the columns in another order; give each part by itself",
    ),
    "semicolons in a text": (
        _packed(_plain, "n.csv", "SUBJECT_ID;TEXT\n1;a;b\n"),
        "data row 1 has 3 fields, the header 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_refused_for_the_right_reason(tmp_path: Path, kind: str) -> None:
    write, words = REFUSED[kind]
    path = write(tmp_path)
    message = refusal(path)
    assert message.startswith(f"notes: {path}")
    assert words in message, message


def test_an_object_of_json_lines_may_lack_columns(tmp_path: Path) -> None:
    lines = ['{"SUBJECT_ID": 1, "TEXT": "a"}', '{"TEXT": "b", "SUBJECT_ID": 1, "ISERROR": true}', '{"TEXT": "c"}']
    (tmp_path / "n.jsonl").write_text("\n".join(lines))
    assert pairs(tmp_path / "n.jsonl", chunk_rows=1) == [("1", "a"), ("note-2", "c")]


def test_excel_is_read_where_openpyxl_is_installed(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["SUBJECT_ID", "ISERROR", "TEXT"])
    for row in ([7, None, "a"], [7.0, False, "b"], [None, None, None], ["7", True, "c"], [10000, 0, 5]):
        book.active.append(row)
    book.create_sheet("empty")
    book.save(tmp_path / "n.xlsx")
    assert pairs(tmp_path / "n.xlsx", chunk_rows=2) == [("7", "a"), ("7", "b"), ("10000", "5")]
    book.create_sheet("more").append(["x"])
    book.save(tmp_path / "n.xlsx")
    assert "has 2 sheets with rows" in refusal(tmp_path / "n.xlsx")


def test_all_rows_of_excel_are_read_whatever_range_it_says(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["SUBJECT_ID", "TEXT"], *([n, f"text {n}"] for n in range(6))):
        book.active.append(row)
    book.save(tmp_path / "whole.xlsx")
    with zipfile.ZipFile(tmp_path / "whole.xlsx") as whole, zipfile.ZipFile(tmp_path / "n.xlsx", "w") as cut:
        for name in whole.namelist():
            cut.writestr(name, re.sub(rb'<dimension ref="[^"]*"', b'<dimension ref="A1:B3"', whole.read(name)))
    assert len(pairs(tmp_path / "n.xlsx")) == 6


@pytest.mark.parametrize("mark", ["\\N", "#N/A", "none", "Null", "n/a", "Unknown", ".", "<NA>"])
def test_marks_of_a_missing_patient_make_no_patient(tmp_path: Path, mark: str) -> None:
    (tmp_path / "n.csv").write_text(f"SUBJECT_ID,TEXT\n{mark},a\n{mark},b\n7,c\n")
    assert list(read(tmp_path / "n.csv")["patient"]) == ["note-0", "note-1", "7"]


def test_an_identifier_like_the_name_of_a_note_is_a_patient_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("SUBJECT_ID,TEXT\nnote-1,a\n,b\n")
    assert read(tmp_path / "n.csv")["patient"].nunique() == 2


def test_a_first_row_without_a_usual_name_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("Smith,Fever\nJones,Cough\n")
    message = refusal(tmp_path / "n.csv")
    assert "Smith" not in message
    assert "Fever" not in message


def test_excel_is_refused_by_its_name_where_openpyxl_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with zipfile.ZipFile(tmp_path / "n.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    message = refusal(tmp_path / "n.xlsx")
    assert "is an Excel file, and openpyxl, which reads it, is not installed; install symptune[excel]" in message


# Several tables, and folders


def test_several_tables_are_one(tmp_path: Path) -> None:
    """As MIMIC-IV's discharge and radiology, each with its own columns."""
    discharge, radiology = tmp_path / "discharge.csv.gz", tmp_path / "radiology.csv"
    discharge.write_bytes(gzip.compress(b"note_id,subject_id,note_type,text\nd1,7,DS,first\nd2,8,DS,second\n"))
    radiology.write_text("subject_id,text\n7.0,third\n")
    notes = read([discharge, radiology])
    assert list(notes["note"]) == [0, 1, 2]
    assert list(notes["patient"]) == ["7", "8", "7"]
    assert list(notes["category"]) == ["DS", "DS", ""]
    check_notes([discharge, radiology])
    radiology.write_text("subject_id,remark\n7,third\n")
    with pytest.raises(InputError, match=r"radiology\.csv has no column TEXT"):
        check_notes([discharge, radiology])
    assert "is given twice" in refusal([discharge, discharge])


def test_a_header_that_comes_again_is_dropped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "n.csv"
    path.write_text("SUBJECT_ID,TEXT\n1,a\n\ufeffSUBJECT_ID,TEXT\n2,b\nsubject_id,Text\n3,c\n", encoding="utf-8-sig")
    tally = Tally()
    notes = read(path, tally=tally, chunk_rows=2)
    assert list(notes["patient"]) == ["1", "2", "3"]
    assert list(notes["note"]) == [0, 1, 2]
    assert "2 headers between the rows" in "\n".join(tally.lines())
    path.write_text("SUBJECT_ID,TEXT\n1,text\n2,b\n")
    assert pairs(path) == [("1", "text"), ("2", "b")]


HEADER_AGAIN = [("1", "a"), ("SUBJECT_ID", "TEXT"), ("2", "b"), ("subject_id ", "\ufeffText"), ("3", "TEXT")]


def _excel(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(list(row))
    book.save(path)


AGAIN: dict[str, Callable[[Path, list[tuple[str, str]]], object]] = {
    "Excel": lambda path, rows: _excel(path, [("SUBJECT_ID", "TEXT"), *rows]),
    "Excel with numbers": lambda path, rows: _excel(
        path, [("SUBJECT_ID", "TEXT"), *((int(p) if p.isdecimal() else p, text) for p, text in rows)]
    ),
    "JSON lines": lambda path, rows: path.write_text(_json_lines(rows)),
    "Parquet": lambda path, rows: parquet(path, SUBJECT_ID=[p for p, _ in rows], TEXT=[text for _, text in rows]),
    "Parquet of categories": lambda path, rows: parquet(
        path, SUBJECT_ID=pa.array([p for p, _ in rows]).dictionary_encode(), TEXT=[text for _, text in rows]
    ),
    "Parquet of bytes": lambda path, rows: parquet(
        path, SUBJECT_ID=[p for p, _ in rows], TEXT=[text.encode() for _, text in rows]
    ),
}


@pytest.mark.parametrize("kind", AGAIN)
@pytest.mark.parametrize("chunk_rows", [1, 2, 10])
def test_a_header_that_comes_again_is_dropped_in_any_format(tmp_path: Path, kind: str, chunk_rows: int) -> None:
    AGAIN[kind](tmp_path / "n", HEADER_AGAIN)
    tally = Tally()
    notes = read(tmp_path / "n", tally=tally, chunk_rows=chunk_rows)
    assert list(notes[["note", "patient", "text"]].itertuples(index=False, name=None)) == [
        (0, "1", "a"), (1, "2", "b"), (2, "3", "TEXT"),
    ]  # fmt: skip
    assert "2 headers between the rows" in "\n".join(tally.lines())
    AGAIN[kind](tmp_path / "m", [("1", "a"), ("TEXT", "SUBJECT_ID")])
    assert "data row 2 is a header with the columns in another order" in refusal(tmp_path / "m", chunk_rows=chunk_rows)


def test_a_text_like_the_columns_name_is_kept_where_other_columns_have_values(tmp_path: Path) -> None:
    """Also where the texts alone are read."""
    path = parquet(tmp_path / "n.parquet", SUBJECT_ID=["1", "2"], TEXT=["text", "b"])
    assert [text for _, text in pairs(path, columns=NoteColumns(patient=None))] == ["text", "b"]


def test_a_folder_of_parquet_parts_is_one_table(tmp_path: Path) -> None:
    for number, kind in enumerate(["Nursing", "Discharge%20summary", "__HIVE_DEFAULT_PARTITION__"]):
        folder = tmp_path / "table" / f"CATEGORY={kind}"
        folder.mkdir(parents=True)
        parquet(folder / "part-0.snappy.parquet", SUBJECT_ID=[number], TEXT=[f"note {number}"])
    (tmp_path / "table" / "_SUCCESS").touch()
    (tmp_path / "table" / ".part-0.crc").write_bytes(b"x")
    notes = read(tmp_path / "table")
    assert dict(zip(notes["patient"], notes["category"], strict=True)) == {
        "0": "Nursing", "1": "Discharge summary", "2": "",
    }  # fmt: skip


def _texts(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


BY_FOLDER = NoteColumns(patient="folder")


def test_a_folder_of_texts_is_a_note_each(tmp_path: Path) -> None:
    folder = _texts(tmp_path / "i2b2", {"7/b.txt": "second", "7/a.txt": "first\n", "12/A.TXT": "third", "7/a.con": "c"})
    tally = Tally()
    assert pairs(folder, columns=BY_FOLDER, tally=tally) == [("12", "third"), ("7", "first\n"), ("7", "second")]
    assert "1 other file of the folder" in "\n".join(tally.lines())
    assert [patient for patient, _ in pairs(folder, columns=NoteColumns(patient=None))] == [
        "note-0",
        "note-1",
        "note-2",
    ]
    assert "has no column of patients (it has folder, file, text)" in refusal(folder)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"1/a.txt": "x", "01/b.txt": "y"}, "may be that of"),
        ({"1/a.txt": "x", "b.txt": "y"}, "has 1 .txt files that are in none of its folders"),
        ({"1/a.txt": "x", "1/b.txt": LATIN1}, f"n/1/b.txt: byte 0xe8 is not UTF-8; {UNKNOWN}"),
        ({"1/a.txt": "fever".encode("cp037")}, f"n/1/a.txt: byte 0x86 is not UTF-8; {UNKNOWN}"),
        ({"1/a.txt": "発熱".encode("shift_jis")}, f"n/1/a.txt: byte 0x94 is not UTF-8; {UNKNOWN}"),
        ({"1/a.txt": "x", "notes.csv": CSV}, "n holds files of several formats (1 .csv, 1 .txt), perhaps of the same"),
        (
            {"a.csv": CSV, "b.CSV": CSV, "c.parquet": b"PAR1"},
            "(2 .csv, 1 .parquet), perhaps of the same notes; give a folder",
        ),
        ({"a.csv": CSV, "a.csv.gz": b"", "x.tsv": ""}, "(1 .csv, 1 .csv.gz, 1 .tsv)"),
        ({"x.txt": "x", "c.parquet": b"PAR1"}, "(1 .parquet, 1 .txt)"),
        (
            {"a.doc": "x", "b.doc": "x", "README": ""},
            "without tables or .txt files (it has 2 .doc, 1 other); give CSV, JSON",
        ),
        ({".hidden.csv": CSV}, "is a folder without tables or .txt files (it is empty)"),
        ({"1/a/x.txt": "x", "2/a/x.txt": "y"}, "2 .txt files in folders of its folders"),
        ({"1/a.doc": "x"}, "is a folder without tables or .txt files"),
        ({"1/a.txt": " "}, "no note of"),
    ],
)
def test_a_wrong_folder_is_refused(tmp_path: Path, files: dict[str, str | bytes], words: str) -> None:
    message = refusal(_texts(tmp_path / "n", files), columns=BY_FOLDER)
    assert words in message, message


def test_links_in_a_folder_are_followed_to_files_alone(tmp_path: Path) -> None:
    """A file that two names lead to is not read twice."""
    folder, other = tmp_path / "n", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    (other / "a.csv").write_text(CSV)
    (folder / "a.csv").symlink_to(other / "a.csv")
    assert len(pairs(folder)) == 3
    (folder / "b.csv").symlink_to(other / "a.csv")
    assert f"{folder / 'b.csv'} is given twice; give each table once" in refusal(folder)
    (folder / "b.csv").unlink()
    (folder / "b.csv").symlink_to("gone.csv")
    message = refusal(folder)
    assert f"notes: {folder} holds a link that leads nowhere, or what is no plain file (b.csv); restore" in message
    (folder / "b.csv").unlink()
    (folder / "more").symlink_to(other)
    assert f"notes: {folder} holds a link to another folder (more); put that folder's files here" in refusal(folder)
    (folder / "more").rename(folder / ".more")
    assert len(pairs(folder)) == 3


def test_a_table_that_two_paths_name_is_given_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text(CSV)
    for second in ("./a.csv", tmp_path / "a.csv", tmp_path, "b.csv"):
        if second == "b.csv":
            Path("b.csv").symlink_to("a.csv")
        assert "is given twice; give each table once" in refusal(["a.csv", second])
        if second != tmp_path:
            with pytest.raises(InputError, match="is given twice"):
                check_notes(["a.csv", second])


# What is said


def test_what_was_read_and_left_out_is_counted(tmp_path: Path) -> None:
    rows = ["1,a,", "1,b,", "1,a,", "2,a,", "2,c,1", "2, ,", "3,d,", ",e,", "4,d\r\n,"]
    path = tmp_path / "n.csv"
    path.write_text("SUBJECT_ID,TEXT,ISERROR\n" + "\n".join(row.replace("d\r\n", '"d\r\n"') for row in rows) + "\n")
    tally = Tally()
    read(path, tally=tally, chunk_rows=2)
    assert list(tally.lines()) == [
        "Columns: text from TEXT, patient from SUBJECT_ID, error from ISERROR",
        "Notes: 6 of 5 patients, 1.2 each on average, 2 at most",
        "Left out: 1 marked as errors, 1 empty, 1 given twice",
        "Without a patient: 1 note, each counted as one patient",
        "Under more than one patient: 2 texts; where few share one, they stay on one side",
    ]


@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.date32(), pa.timestamp("us", "Nowhere/X")])
def test_dates_that_python_does_not_know_are_told_with_their_row(tmp_path: Path, kind: pa.DataType) -> None:
    dates = pa.array([0, 2**30 if kind == pa.date32() else 2**60], pa.int32() if kind == pa.date32() else pa.int64())
    if pa.types.is_timestamp(kind) and kind.tz:
        dates = pa.array([None, 0], pa.int64())
    columns = {"SUBJECT_ID": ["1", "2"], "TEXT": ["fever", "cough"], "CATEGORY": dates.cast(kind)}
    pq.write_table(pa.table(columns), tmp_path / "n.parquet")
    with pytest.raises(InputError, match=r"data row 2: a value of type .* cannot be read; write such values as texts"):
        list(read_notes(tmp_path / "n.parquet"))


@pytest.mark.parametrize("again", ["patient_id,TEXT", "subject_id,note_text", "MRN,Report"])
def test_a_header_with_other_usual_names_between_the_rows_is_dropped(tmp_path: Path, again: str) -> None:
    (tmp_path / "n.csv").write_text(f"SUBJECT_ID,TEXT\n1,has fever\n{again}\n2,has a cough\n")
    tally = Tally()
    frame = pd.concat(list(read_notes(tmp_path / "n.csv", tally=tally)))
    assert frame["text"].tolist() == ["has fever", "has a cough"]
    assert "1 header" in "\n".join(tally.lines())
