"""A labeller that a user brings."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from clinical_notes.annotate import Annotator
from clinical_notes.labellers import check_labeller, labeller_of
from clinical_notes.lexicon import load_lexicon
from run_folder.errors import InputError
from tune_jobs.cli import main

DOCUMENTED = Path(__file__).parents[2] / "docs" / "notes.md"


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The documented class as ``ward:Keyword``, and one that errs."""
    code = DOCUMENTED.read_text().partition("```python\n")[2].partition("```")[0]
    wrong = "\n\nclass Wrong(Keyword):\n    def find(self, text):\n        return [Mention({}, {}, 0, {})]\n"
    cases = {
        "status": ("'fever'", "'maybe'", 1),
        "concept": ("'itch'", "'affirmed'", 1),
        "place": ("'fever'", "'affirmed'", 99),
    }
    (tmp_path / "ward.py").write_text(code)
    for name, fields in cases.items():
        (tmp_path / f"wrong_{name}.py").write_text(code + wrong.format(*fields))
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("ward", *(f"wrong_{name}" for name in cases)):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_the_documented_class_labels_notes(own_module: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_labeller("ward:Keyword")
    notes = pd.DataFrame({"note": [0], "patient": ["1"], "category": [""], "text": ["No fever. Walks."]})
    (row,) = Annotator(load_lexicon(), "sentence", labeller="ward:Keyword")(notes).to_pylist()
    assert [(m["concept"], m["assertion"]) for m in row["mentions"]] == [("fever", "affirmed")]
    gold = own_module / "gold.tsv"
    gold.write_text("text\taffirmed\tnegated\nNo fever.\t\tfever\nHas fever.\tfever\t\n")
    assert main(["audit-labels", str(gold), "--labeller", "ward:Keyword", "--show-errors"]) == 0
    printed = capsys.readouterr().out
    assert "Labeller ward:Keyword against 2 labelled texts" in printed
    assert "labelled negated, found affirmed" in printed
    assert main(["audit-labels", str(gold)]) == 0
    assert "Labeller rules against 2 labelled texts" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("status", "of the status 'maybe' \\(there are affirmed"),
        ("concept", "of 'itch', which the lexicon does not have"),
        ("place", "outside of its text"),
    ],
)
def test_a_mention_that_cannot_be_is_refused(name: str, words: str, own_module: Path) -> None:
    lexicon = load_lexicon()
    assert "itch" not in lexicon.concepts
    with pytest.raises(InputError, match=rf"^labeller: wrong_{name}:Wrong gives a mention {words}"):
        labeller_of(f"wrong_{name}:Wrong", lexicon).find("Has fever.")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rulez", "there is no 'rulez' (there are rules, medspacy)"),
        ("nowhere:Labeller", "No module named 'nowhere'"),
        ("json:Labeller", "has no attribute 'Labeller'"),
    ],
)
@pytest.mark.parametrize("command", [["launch"], ["audit-labels", str(Path(__file__).with_name("gold.tsv"))]])
def test_what_cannot_be_imported_is_told_in_one_line(
    command: list[str], name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--labeller", name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("symptune: error: --labeller: ")
    assert words in line
