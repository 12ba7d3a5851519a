"""The rules' labels against people's, and the sheet that people fill."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from analysis.labels.audit import MACRO, MICRO, audit, read_gold
from analysis.labels.label_sheet import sample_sentences
from clinical_notes.lexicon import load_lexicon
from clinical_notes.mentions import MentionFinder
from clinical_notes.notes import read_notes
from run_folder.errors import InputError
from run_folder.settings import STATUSES
from tune_jobs.cli import main

GOLD = Path(__file__).parents[1] / "clinical_notes"
FIVE = ("edema", "pain", "cough", "fever", "bleeding")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def gold_file(text: str, name: str = "gold.tsv") -> str:
    Path(name).write_text(text)
    return name


@pytest.mark.parametrize(
    ("name", "affirmed", "negated"), [("gold.tsv", 0.98, 0.975), ("gold_held_out.tsv", 0.93, 0.93)]
)
def test_the_rules_read_hand_labelled_sentences_as_well_as_they_did(name: str, affirmed: float, negated: float) -> None:
    lexicon = load_lexicon()
    result = audit(read_gold(GOLD / name, lexicon), lexicon, FIVE, MentionFinder(lexicon))
    scores = result.scores.set_index(["status", "concept"])["f1"]
    for average in (MICRO, MACRO):
        assert scores["affirmed", average] >= affirmed
        assert scores["negated", average] >= negated


def test_an_audit_waits_for_no_library_that_it_does_not_need(
    start_python: Callable[..., "subprocess.Popen[str]"],
) -> None:
    code = """
import sys
from tune_jobs.cli import main
assert main(["audit-labels", sys.argv[1]]) == 0
heavy = {"torch", "transformers", "ray", "onnxruntime", "optuna", "scipy", "sklearn", "matplotlib"}
print("imported:", sorted(heavy & set(sys.modules)))
"""
    process = start_python("-c", code, GOLD / "gold.tsv", stdout=subprocess.PIPE)
    assert process.communicate()[0].splitlines()[-1] == "imported: []"


def test_figures_and_limits_are_those_of_the_counts() -> None:
    lines = ["fever\tfever\t"] * 6 + ["no fever\tfever\t"] * 2 + ["fever\t\t"] + ["no cough\t\tcough"]
    lexicon = load_lexicon()
    gold = read_gold(gold_file("\n".join(["text\taffirmed\tnegated", *lines])), lexicon)
    result = audit(gold, lexicon, ("fever", "cough"), MentionFinder(lexicon))

    rows = result.scores.set_index(["status", "concept"])
    fever = rows.loc["affirmed", "fever"]
    assert tuple(fever[["tp", "fp", "fn"]]) == (6, 1, 2)
    assert tuple(fever[["precision", "recall", "f1"]]) == pytest.approx((6 / 7, 6 / 8, 12 / 15))
    assert fever["recall_low"] == pytest.approx(0.409, abs=1e-3)  # Wilson
    assert fever["f1_low"] < fever["f1"] < fever["f1_high"]
    assert rows.loc["affirmed", MICRO]["f1_low"] < 0.8 < rows.loc["affirmed", MICRO]["f1_high"]
    assert rows.loc["affirmed", MACRO]["f1"] == pytest.approx(0.8)  # cough is affirmed nowhere
    assert rows.loc["negated", "fever"]["f1"] == 0
    assert rows.loc["negated", MICRO]["recall_low"] == pytest.approx(0.207, abs=1e-3)  # of one text, without a mistake
    assert pd.isna(rows.loc["affirmed", "cough"]["f1"])
    assert [(m.row, m.labelled, m.found) for m in result.mistakes] == [
        (7, ("affirmed",), ("negated",)),
        (8, ("affirmed",), ("negated",)),
        (9, (), ("affirmed",)),
    ]


@pytest.mark.parametrize("kind", ["semicolons", "UTF-16", "gzip", "Parquet", "JSON lines", "Excel"])
def test_labelled_texts_are_read_from_any_table(kind: str) -> None:
    table = pd.DataFrame({"text": ["no fever; cough", "well"], "affirmed": ["cough", None], "negated": ["fever", None]})
    name = "gold.csv"
    if kind == "Parquet":
        table.astype({"negated": "category"}).to_parquet(name)
    elif kind == "JSON lines":
        table.to_json(name, orient="records", lines=True)
    elif kind == "Excel":
        pytest.importorskip("openpyxl")
        table.to_excel("gold.xlsx", index=False)
        Path("gold.xlsx").rename(name)
    else:
        separator = ";" if kind == "semicolons" else ","
        encoding, packing = ("utf-16" if kind == "UTF-16" else "utf-8"), ("gzip" if kind == "gzip" else None)
        table.to_csv(name, index=False, sep=separator, encoding=encoding, compression=packing)
    first, second = read_gold(name, load_lexicon())
    assert (first.text, first.labels) == ("no fever; cough", {"affirmed": {"cough"}, "negated": {"fever"}})
    assert second.labels == {"affirmed": set(), "negated": set()}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"%PDF", "gold.tsv is a PDF; export"),
        (b"text\taffirmed\tnegated\nok\t\t\nfi\xe8vre\t\t\n", "gold.tsv: line 3: byte 0xe8 is not UTF-8"),
        (b"\x1f\x8b\x08\0", "gold.tsv: damaged gzip"),
        ("text\taffirmed\tnegated\n".encode("utf-16")[:-1], "gold.tsv is damaged UTF-16"),
        (b'{"text": "a"}\n{', "gold.tsv: data row 2 is not a JSON object"),
    ],
)
def test_a_file_that_is_no_table_of_labels_is_refused(content: bytes, words: str) -> None:
    Path("gold.tsv").write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_gold("gold.tsv", load_lexicon())
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_headers_quotes_forms_and_separators_may_vary() -> None:
    lexicon = load_lexicon()
    table = '﻿Text,Negated concepts,AFFIRMED\n"He said ""no, fever""",Oedema,"haemorrhage; chest_pain"\n\n'
    (text,) = read_gold(gold_file(table, "gold.csv"), lexicon)
    assert (text.text, text.labels["affirmed"], text.labels["negated"]) == (
        'He said "no, fever"',
        {"bleeding", "chest pain"},
        {"edema"},
    )
    plain_quotes = 'text\taffirmed\tnegated\n"my leg hurts\tpain\tnone\n"sore" foot\tpain\t-\n'
    assert [gold.text for gold in read_gold(gold_file(plain_quotes), lexicon)] == ['"my leg hurts', '"sore" foot']


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("text\taffirmed\tnegated\nx\tcough\t\ny\tedemma\t\n", ["row 2, affirmed", "'edemma'", "did you mean 'edema'"]),
        ("text\taffirmed\nx\tcough\n", ["no column negated"]),
        ("text\taffirmed\tnegated\nx\tcough\n", ["row 1 has 2 fields"]),
        ("text\taffirmed\tnegated\nx\t\t\n", ["no row names a concept"]),
        ("text\taffirmed\tnegated\n", ["no rows"]),
        ("text\taffirmed\tnegated\n \tcough\t\n", ["row 1 has no text"]),
        (
            "text\taffirmed\tnegated\nx\t" + "a secret of hers " * 4 + "\t\n",
            ["row 1", "a cell of 67 characters"],
        ),
    ],
)
def test_a_wrong_gold_file_is_one_line_with_its_row(
    capsys: pytest.CaptureFixture[str], table: str, words: list[str]
) -> None:
    assert main(["audit-labels", gold_file(table)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(word in line for word in ["gold.tsv", *words])
    assert "secret" not in line


def test_a_sheet_says_which_of_two_columns_of_texts_it_is_from(capsys: pytest.CaptureFixture[str]) -> None:
    Path("n.csv").write_text("text,note\nhas fever,x\n")
    assert main(["audit-labels", "--export-sample", "1", "--notes", "n.csv", "--out", "s.tsv"]) == 0
    assert "Columns: text from text (not note)" in capsys.readouterr().out


def test_sentences_of_a_note_are_one_patients_where_a_table_has_no_patients(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("n.csv").write_text('text,unit\n"Has fever.\n\nNo cough.",3\nhas pain,4\n')
    line = ["audit-labels", "--export-sample", "3", "--notes", "n.csv", "--overwrite", "--out", "s.csv"]
    for more, patients in (
        ([], {"Has fever.": 1, "No cough.": 1, "has pain": 2}),
        (["--patient-column", "unit"], {"Has fever.": 1, "No cough.": 1, "has pain": 2}),
    ):
        assert main([*line, *more]) == 0
        assert ("2 notes have no patient (--patient-column)" in capsys.readouterr().out) == (not more)
        sheet = pd.read_csv("s.csv")
        assert dict(zip(sheet["text"], sheet["patient"], strict=True)) == patients
    assert main([*line, "--patient-column", "nobody"]) == 2
    assert "--patient-column: n.csv has no column nobody" in capsys.readouterr().err


def test_what_has_resolved_counts_as_negated_unless_it_has_a_column() -> None:
    lexicon = load_lexicon()
    finder = MentionFinder(lexicon)

    def negated(table: str) -> tuple[int, int, int]:
        scores = audit(read_gold(gold_file(table), lexicon), lexicon, ("fever",), finder).scores
        (row,) = scores[(scores["status"] == "negated") & (scores["concept"] == "fever")].to_dict("records")
        return row["tp"], row["fp"], row["fn"]

    assert negated("text\taffirmed\tnegated\nfever resolved\t\tfever\n") == (1, 0, 0)
    assert negated("text\taffirmed\tnegated\tresolved\nfever resolved\t\t\tfever\nno fever\t\tfever\t\n") == (1, 0, 0)
    assert negated("text\taffirmed\tnegated\tresolved\nfever resolved\t\tfever\t\n") == (0, 0, 1)


def test_help_names_the_columns_and_every_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["audit-labels", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert all(word in words for word in ("text (or sentence)", *STATUSES))


def test_text_is_printed_only_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    name = gold_file("text\taffirmed\tnegated\nzyx denies chest pain\tpain\t\n")
    assert main(["audit-labels", name, "--out", "scores.json"]) == 0
    printed = capsys.readouterr().out
    assert "rows 1." in printed
    assert "zyx" not in printed + Path("scores.json").read_text()
    assert main(["audit-labels", name, "--show-errors"]) == 0
    assert "labelled affirmed, found negated: zyx denies chest pain" in capsys.readouterr().out


def test_who_names_pain_alone_means_chest_pain_too_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    name = gold_file("text\taffirmed\tnegated\nhas chest pain\tpain\t\n")
    assert main(["audit-labels", name]) == 0
    assert "agree on every text" in capsys.readouterr().out
    assert main(["audit-labels", name, "--keep-apart"]) == 0
    assert '--absorb "pain=chest pain"' in capsys.readouterr().out


def test_a_concept_that_people_count_as_another_too_is_told_as_its_parent(capsys: pytest.CaptureFixture[str]) -> None:
    Path("lexicon.yaml").write_text(
        "".join(f"{name}: {{forms: [{name}]}}\n" for name in ("bleeding", "hematuria", "rash", "fever"))
    )
    rows = [
        *["gross hematuria\tbleeding\t"] * 3,
        "no hematuria\t\tbleeding",
        "hematuria\t\t",
        *["rash, fever\tfever\t"] * 4,  # found, so that rash explains nothing
        *["rash\tbleeding\t"] * 3,  # as often without
        *["rash\t\t"] * 3,
    ]
    name = gold_file("\n".join(["text\taffirmed\tnegated", *rows]))
    assert main(["audit-labels", name, "--lexicon", "lexicon.yaml"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "parents" in line]
    assert line.startswith("Of 5 texts with hematuria and without bleeding, people label 4 bleeding; ")
    Path("lexicon.yaml").write_text(
        Path("lexicon.yaml").read_text().replace("[hematuria]", "[hematuria], parents: [bleeding]")
    )
    assert main(["audit-labels", name, "--lexicon", "lexicon.yaml"]) == 0
    assert "parents" not in capsys.readouterr().out


def test_a_sheet_to_label_is_stratified_blind_and_can_be_scored_when_filled(
    notes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["audit-labels", "--export-sample", "100", "--notes", str(notes), "--out", "sheet.tsv", "--key", "key.tsv"]
    assert main(line) == 0
    assert "holds note text" in capsys.readouterr().out
    sheet, key = (pd.read_csv(name, sep="\t", keep_default_na=False) for name in ("sheet.tsv", "key.tsv"))
    assert list(sheet) == ["text", *STATUSES, "patient", "instructions"]
    table = pd.read_csv(notes)
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(table["SUBJECT_ID"]), 1)}
    of_patient = {
        numbers[patient]: " ".join(" ".join(texts).split()) for patient, texts in table.groupby("SUBJECT_ID")["TEXT"]
    }
    assert all(text in of_patient[number] for text, number in zip(sheet["text"], sheet["patient"], strict=True))
    assert 10 < sheet["patient"].nunique() <= len(numbers)
    assert not set(sheet["patient"].astype(str)) & set(table["SUBJECT_ID"].astype(str))
    assert (sheet[list(STATUSES)] == "").all(axis=None)
    assert all(sheet["instructions"].str.startswith(f"{status}: ").any() for status in STATUSES)
    assert sheet["text"].is_unique
    for status in ("affirmed", "negated"):
        for symptom in FIVE:
            assert key[status].str.contains(symptom).sum() >= 3
    for status in STATUSES:
        sheet[status] = key[status]
    sheet.to_csv("filled.tsv", sep="\t", index=False)
    assert main(["audit-labels", "filled.tsv"]) == 0
    assert "agree on every text" in capsys.readouterr().out
    assert [text.patient for text in read_gold("filled.tsv", load_lexicon())] == list(sheet["patient"].astype(str))
    again, _ = sample_sentences(read_notes(notes), MentionFinder(load_lexicon()), (), 100, seed=0)
    assert list(again["text"]) == list(sheet["text"])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ([], "GOLD: give either this file, or --export-sample"),
        (["--export-sample", "5"], "--notes: needed"),
        (["--export-sample", "5", "--notes", "n.csv", "--notes", "m.csv", "--out", "a.tsv"], "n.csv is not a file"),
        (["--export-sample", "0", "--notes", "n.csv", "--out", "a.tsv"], "at least 1"),
        (["--export-sample", "5", "--notes", "n.csv", "--out", "a.xlsx"], ".tsv or .csv"),
        (["gold.tsv"], "gold.tsv cannot be read"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    capsys: pytest.CaptureFixture[str], line: list[str], words: str
) -> None:
    assert main(["audit-labels", *line]) == 2
    assert words in capsys.readouterr().err


def test_cells_that_a_spreadsheet_would_run_are_made_plain_and_read_back() -> None:
    frame = pd.DataFrame({"text": ["=cough\n\nNo fever."], "patient": ["a"]})
    sample, _ = sample_sentences([frame], MentionFinder(load_lexicon()), ("cough",), 5, seed=0)
    assert sorted(sample["text"]) == ["=cough", "No fever."]
    with pytest.raises(InputError):
        read_gold(gold_file("text\taffirmed\tnegated\n'=cough\tcoug\t\n"), load_lexicon())
    (text,) = read_gold(gold_file("text\taffirmed\tnegated\n'=cough\tcough\t\n"), load_lexicon())
    assert text.text == "=cough"
