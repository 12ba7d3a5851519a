"""Reading NOTEEVENTS tables: MIMIC's quoting, sampling, and what bad files say."""

import csv
import gzip
from pathlib import Path

import pandas as pd
import pytest

from clinical_notes.notes import read_notes
from clinical_notes.synthetic import write_synthetic_notes
from clinical_notes.tables.columns import NoteColumns
from run_folder.errors import InputError

NO_PATIENTS = NoteColumns(patient=None)
TRICKY = (
    'He said "no pain", twice.\nNext line, with commas.\r\n',
    "[**2151-7-16**] 10:30\n\n\nEdema; 'noted'",
    '""',
    "plain",
)


def write_mimic(path: Path, texts: tuple[str, ...], errors: tuple[str, ...] = ()) -> Path:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(["ROW_ID", "SUBJECT_ID", "CATEGORY", "ISERROR", "TEXT"])
        for row, text in enumerate(texts):
            writer.writerow([row, 100 + row // 2, "Nursing ", errors[row] if errors else "", text])
    return path


def read_all(path: Path, **options: object) -> pd.DataFrame:
    return pd.concat(list(read_notes(path, **options)), ignore_index=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["n.csv", "n.csv.gz"])
def test_quotes_commas_and_line_breaks_survive_the_round_trip(tmp_path: Path, name: str) -> None:
    notes = read_all(write_mimic(tmp_path / name, TRICKY), chunk_rows=3)
    assert tuple(notes["text"]) == TRICKY
    assert list(notes["patient"]) == ["100", "100", "101", "101"]
    assert list(notes["note"]) == [0, 1, 2, 3]


def test_a_parquet_table_reads_the_same(tmp_path: Path) -> None:
    from_csv = read_all(write_mimic(tmp_path / "n.csv", TRICKY))
    frame = pd.DataFrame({"SUBJECT_ID": [100, 100, 101, 101], "CATEGORY": "Nursing ", "TEXT": TRICKY})
    frame.to_parquet(tmp_path / "n.parquet")
    pd.testing.assert_frame_equal(read_all(tmp_path / "n.parquet"), from_csv)


def test_rows_marked_as_errors_are_skipped(tmp_path: Path) -> None:
    path = write_mimic(tmp_path / "n.csv", ("a", "b", "c", "d"), errors=("", "1", "0", "1.0"))
    assert list(read_all(path)["text"]) == ["a", "c"]


def test_a_text_column_is_enough_and_every_note_is_a_patient_where_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("TEXT\nfirst\nsecond\n")
    notes = read_all(tmp_path / "n.csv", columns=NO_PATIENTS)
    assert notes["patient"].nunique() == 2


def test_columns_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("who,what\n7,first\n7,second\n")
    notes = read_all(tmp_path / "n.csv", columns=NoteColumns(text="what", patient="who"))
    assert list(notes["patient"]) == ["7", "7"]


@pytest.mark.parametrize("name", ["n.csv", "n.parquet"])
def test_columns_to_group_by_come_along(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame({"TEXT": ["a", " ", "c", "d"], "Sex": ["F ", "M", None, "M"], "AGE": [40, 50, 60, 40]})
    frame.to_csv(tmp_path / name, index=False) if name == "n.csv" else frame.to_parquet(tmp_path / name)
    notes = read_all(tmp_path / name, columns=NoteColumns(patient=None, groups=("SEX", "AGE")), chunk_rows=2)
    assert list(notes["group_SEX"]) == ["F", "", "M"]
    assert list(notes["group_AGE"]) == ["40", "60", "40"]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("SHOE", ["no column SHOE", "SUBJECT_ID", "REMARK"]),
        ("text", ["holds the notes' texts"]),
        ("SUBJECT_ID", ["tells patients apart"]),
        ("CATEGORY", ["is always grouped by"]),
        ("REMARK", ["values of more than 60 characters"]),
        ("ROW_ID", ["more than 50 different values"]),
    ],
)
def test_a_column_that_may_hold_texts_or_tell_people_apart_is_not_grouped_by(
    tmp_path: Path, column: str, words: list[str]
) -> None:
    rows = [(i, i, "Nursing", "secret " * 9 if i == 60 else "short", "a note") for i in range(70)]
    table = pd.DataFrame(rows, columns=["ROW_ID", "SUBJECT_ID", "CATEGORY", "REMARK", "TEXT"])
    table.to_csv(tmp_path / "n.csv", index=False)
    with pytest.raises(InputError, match=r"^group_by: ") as caught:
        read_all(tmp_path / "n.csv", columns=NoteColumns(groups=(column,)), chunk_rows=30)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "secret" not in str(caught.value)


def test_a_sample_depends_on_the_seed_and_not_on_the_chunks(tmp_path: Path) -> None:
    path = write_mimic(tmp_path / "n.csv", tuple(f"note {i}" for i in range(400)))
    small = read_all(path, sample=0.25, seed=1, chunk_rows=7)
    assert list(small["note"]) == list(read_all(path, sample=0.25, seed=1, chunk_rows=100)["note"])
    assert list(small["note"]) != list(read_all(path, sample=0.25, seed=2)["note"])
    assert 70 <= len(small) <= 130


def test_categories_limit_without_regard_to_case_and_blanks(tmp_path: Path) -> None:
    path = write_mimic(tmp_path / "n.csv", ("a", "b"))
    assert len(read_all(path, categories=("nursing",))) == 2
    with pytest.raises(InputError, match=r"^category: .*Nursing"):
        read_all(path, categories=("Radiology",))


def _broken_quotes(path: Path) -> Path:
    path.write_text('ROW_ID,TEXT\n1,"closed"\n2,"never closed\n3,more\n')
    return path


def _latin1(path: Path) -> Path:
    path.write_bytes(b"TEXT\n" + "fièvre\n".encode("latin-1"))
    return path


def _cut_gzip(path: Path) -> Path:
    path = path.with_suffix(".csv.gz")
    write_synthetic_notes(path, patients=5, seed=0)
    path.write_bytes(path.read_bytes()[:-400])
    return path


def _write(content: bytes, suffix: str = ".csv"):  # type: ignore[no-untyped-def]
    def write(path: Path) -> Path:
        path = path.with_suffix(suffix)
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path, ["is not a file"]),
        (_write(b""), ["is empty"]),
        (_write(b"ROW_ID,SUBJECT_ID,TEXT\n"), ["a header and no rows"]),
        (_write(b"ROW_ID,TEXT,TEXT\n1,x,y\n"), ["the column TEXT twice"]),
        (_write(b"ROW_ID,REMARK\n1,x\n"), ["no column TEXT", "none of the 2 names in its first row", "text_column"]),
        (_broken_quotes, ["quote", "never closed"]),
        (_latin1, ["0xe8", "UTF-8", "iconv"]),
        (_cut_gzip, ["damaged gzip"]),
        (_write(b"\x00\x01\x02 not gzip", ".csv.gz"), ["gzip"]),
        (_write(b"PAR1 nonsense", ".parquet"), ["Parquet"]),
    ],
)
def test_a_bad_file_is_one_line_that_names_it_and_the_mend(tmp_path: Path, make: object, words: list[str]) -> None:
    path = make(tmp_path / "notes.csv")  # type: ignore[operator]
    with pytest.raises(InputError) as caught:
        read_all(path, columns=NO_PATIENTS)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5])
def test_a_fraction_outside_its_range_is_refused(tmp_path: Path, fraction: float) -> None:
    with pytest.raises(InputError, match=r"^sample: "):
        read_all(write_mimic(tmp_path / "n.csv", ("a",)), sample=fraction)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("1,2,has fever, and chills\n", "data row 1 has 4 fields, the header 3"),
        ("1,2,fine\n2,3,has pain, and fever\n", "data row 2 has 4 fields"),
        ("1,2,fine\n2,3\n", "data row 2 has 2 fields"),
        ('1,2,fine\n2,3,"one" and more\n', "data row 2: broken quoting"),
        ('1,2,fine\n2,3,"never closed\n3,4,"another"\n', "data row 2: broken quoting"),
        ('1,2,fine\n2,3,fine\n3,4,"never closed\n', "data row 3: a quote that opens there is never closed"),
    ],
)
def test_a_malformed_table_is_never_read_as_other_data(tmp_path: Path, rows: str, words: str) -> None:
    path = tmp_path / "notes.csv"
    path.write_text("ROW_ID,SUBJECT_ID,TEXT\n" + rows)
    with pytest.raises(InputError, match=words):
        list(read_notes(path))


def test_an_undecodable_byte_is_told_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "notes.csv"
    path.write_bytes(b"ROW_ID,TEXT\n" + b"1,fine\n" * 1499 + b"2,caf\xe9\n" + b"3,fine\n" * 10)
    with pytest.raises(InputError, match="data row 1500: byte 0xe9 is not UTF-8"):
        list(read_notes(path, columns=NO_PATIENTS))


def test_a_table_without_a_header_does_not_show_its_notes(tmp_path: Path) -> None:
    path = tmp_path / "notes.csv"
    for row in ("1,10001,Patient John Smith denies fever", "1,Smith,fever"):
        path.write_text(f"{row}\n")
        with pytest.raises(InputError, match="no column TEXT") as raised:
            list(read_notes(path))
        assert "Smith" not in str(raised.value)


def test_texts_taken_for_types_of_notes_are_not_shown(tmp_path: Path) -> None:
    path = write_mimic(
        tmp_path / "n.csv", ("Patient John Smith denies fever and chills, and has had a cough since May.",)
    )
    table = pd.read_csv(path)
    table.assign(OTHER=table["TEXT"]).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"^category: ") as raised:
        read_all(path, columns=NoteColumns(category="OTHER"), categories=("Nursing",))
    assert "Smith" not in str(raised.value)
    for role in ("patient", "category"):
        with pytest.raises(InputError, match=rf"^{role}_column: .*one column TEXT for {role} and text"):
            read_all(path, columns=NoteColumns(**{role: "TEXT"}))
