"""Labels that people or another model have given, in the place of the rules."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clinical_notes.annotate import annotate_notes
from clinical_notes.examples import LabelledExamples, make_examples
from clinical_notes.lexicon import load_lexicon
from clinical_notes.notes import read_notes
from clinical_notes.own_labels import RowAnnotator
from clinical_notes.tables.columns import NoteColumns
from run_folder.errors import InputError
from run_folder.names import LABEL
from run_folder.settings import LabelSettings


def examples_of(frame: pd.DataFrame, folder: Path, **settings: object) -> LabelledExamples:
    """Examples of a table with these labels."""
    import pyarrow as pa

    labels = LabelSettings(unit="row", **settings)  # type: ignore[arg-type]
    path = folder / "rows.csv"
    frame.to_csv(path, index=False)
    annotator = RowAnnotator(load_lexicon(), labels.columns, one_each=labels.task == "multiclass")
    notes = read_notes(path, columns=NoteColumns(text="text", patient="patient", labels=labels.columns))
    return make_examples(pa.concat_tables(annotate_notes(notes, annotator)), labels)


@pytest.fixture
def table() -> pd.DataFrame:
    """120 rows of 40 patients whose labels contradict what the rules would say."""
    names = ["itch", "rash;itch", "", "rash"]
    return pd.DataFrame(
        {
            "text": [f"No itch, no rash in place {i}." for i in range(120)],
            "patient": [i // 3 for i in range(120)],
            "labels": [names[i % 4] for i in range(120)],
        }
    )


def whole(found: LabelledExamples) -> pd.DataFrame:
    return pd.concat(found.splits.values()).set_index("id")


def test_names_in_a_column_are_the_labels_of_their_rows(table: pd.DataFrame, tmp_path: Path) -> None:
    found = examples_of(table, tmp_path, task="multilabel", columns=("labels",), symptoms=2)
    assert set(found.symptoms) == {"itch", "rash"}
    rows = whole(found)
    assert len(rows) == 120  # none is left out or drawn
    for row, labels in table["labels"].items():
        reported = {name for name in found.symptoms if rows.loc[str(row), f"{LABEL}{name}"] == 1}
        assert reported == set(filter(None, labels.split(";")))
    assert rows.loc["7", "text"] == "no itch no rash in place 7"


def test_columns_of_numbers_are_labels_as_sure_as_they_are(table: pd.DataFrame, tmp_path: Path) -> None:
    sure = np.round(np.random.default_rng(0).random((120, 2)), 3)
    table[["hives", "weal"]] = sure
    found = examples_of(table, tmp_path, task="multilabel", columns=("hives", "weal"))
    assert set(found.symptoms) == {"hives", "weal"}
    rows = whole(found)
    for place, name in enumerate(("hives", "weal")):
        labels = [rows.loc[str(row), f"{LABEL}{name}"] for row in range(120)]
        np.testing.assert_allclose(labels, sure[:, place], atol=1e-6)


def test_words_for_yes_and_no_are_read(table: pd.DataFrame, tmp_path: Path) -> None:
    table["hives"], table["weal"] = ["Yes", "no", "TRUE", ""] * 30, ["0", "1", "1.0", "false"] * 30
    rows = whole(examples_of(table, tmp_path, task="multilabel", columns=("hives", "weal")))
    assert [rows.loc[str(i), f"{LABEL}hives"] for i in range(4)] == [1, 0, 1, 0]
    assert [rows.loc[str(i), f"{LABEL}weal"] for i in range(4)] == [0, 1, 1, 0]


def test_a_multiclass_task_has_the_rows_with_one_label(table: pd.DataFrame, tmp_path: Path) -> None:
    table["labels"] = [("itch", "rash", "")[i % 3] for i in range(120)]
    found = examples_of(table, tmp_path, task="multiclass", columns=("labels",), symptoms=2)
    rows = whole(found)
    assert len(rows) == 80
    assert all(rows.loc[str(i), "symptom"] == ("itch", "rash")[i % 3] for i in range(120) if i % 3 < 2)


@pytest.mark.parametrize(
    ("value", "settings", "words"),
    [
        ("x" * 61, {"task": "multilabel", "columns": ("labels",)}, r"data row 6: labels has a name of more than 60"),
        (
            "itch; rash",
            {"task": "multiclass", "columns": ("labels",)},
            r"data row 6 has 2 labels, .*; set the task",
        ),
        ("maybe", {"task": "multilabel", "columns": ("labels", "patient2")}, r"data row 6: the value of labels is nei"),
        ("2", {"task": "multilabel", "columns": ("labels", "patient2")}, r"data row 6: the value of labels is neither"),
        ("itch", {"columns": ("gone",)}, r"^labels: .* has no column gone"),
        ("itch", {"columns": ("text",)}, r"^labels: .*: text holds the notes' texts"),
    ],
)
def test_what_is_no_label_is_told_with_its_row_and_not_shown(
    value: str, settings: dict[str, object], words: str, table: pd.DataFrame, tmp_path: Path
) -> None:
    table["labels"] = "1" if len(settings["columns"]) > 1 else "itch"  # type: ignore[arg-type]
    table.loc[5, "labels"] = value
    table["patient2"] = 1
    with pytest.raises(InputError, match=words) as error:
        examples_of(table, tmp_path, **settings)
    assert "maybe" not in str(error.value)
    assert "xxx" not in str(error.value)
