"""medspaCy in the place of the rules."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

from clinical_notes.annotate import Annotator
from clinical_notes.labellers import labeller_of
from clinical_notes.lexicon import Concept, Lexicon, load_lexicon
from clinical_notes.units import AFFIRMED, HISTORICAL, HYPOTHETICAL, NEGATED, OTHER, UNCERTAIN
from tune_jobs.cli import main

NOTE = """HISTORY OF PRESENT ILLNESS: Denies fever, but has cough
and shortness of
breath. Possible edema. Mother had chest pain. He is afebrile.
Return if bleeding occurs.

PAST MEDICAL HISTORY: headache.

ALLERGIES: rash with penicillin.
"""
STATUSES = [
    ("fever", NEGATED),
    ("cough", AFFIRMED),
    ("dyspnea", AFFIRMED),
    ("edema", UNCERTAIN),
    ("chest pain", OTHER),
    ("fever", NEGATED),
    ("bleeding", HYPOTHETICAL),
    ("headache", HISTORICAL),
    ("rash", HYPOTHETICAL),
]
installed = pytest.mark.skipif(importlib.util.find_spec("medspacy") is None, reason="medspaCy is not installed")


@installed
def test_the_lexicon_finds_the_symptoms_and_medspacy_tells_their_status(capfd: pytest.CaptureFixture[str]) -> None:
    found = labeller_of("medspacy", load_lexicon()).find(NOTE)
    assert [(mention.concept, mention.assertion) for mention in found] == STATUSES
    assert NOTE[found[2].start : found[2].end] == "shortness of\nbreath"
    assert labeller_of("medspacy", load_lexicon()).find("The weather is nice today.") == []
    assert "fever" not in "".join(capfd.readouterr())  # its sentence splitter logs what it reads


@installed
def test_units_are_made_with_it_as_with_the_rules() -> None:
    notes = pd.DataFrame({"note": [7], "patient": "a", "category": "x", "text": NOTE})
    rows = Annotator(load_lexicon(), "sentence", labeller="medspacy")(notes).to_pylist()
    found = [(mention["concept"], mention["assertion"]) for row in rows for mention in row["mentions"]]
    assert found == STATUSES
    assert rows[0]["text"] == "denies fever but has cough and shortness of breath"


@installed
def test_shared_forms_parents_and_denying_forms_count_as_with_the_rules() -> None:
    lexicon = Lexicon(
        {
            "nausea": Concept("nausea", ("nausea",), shared=("n/v",)),
            "vomiting": Concept("vomiting", ("vomiting",), ("non-vomiting",), shared=("n/v",)),
            "hematuria": Concept("hematuria", ("hematuria",), parents=("bleeding",)),
            "bleeding": Concept("bleeding", ("bleeding",)),
        }
    )
    found = labeller_of("medspacy", lexicon).find("No n/v. She has hematuria. Non-vomiting.")
    assert [(mention.concept, mention.assertion) for mention in found] == [
        ("nausea", NEGATED),
        ("vomiting", NEGATED),
        ("hematuria", AFFIRMED),
        ("bleeding", AFFIRMED),
        ("vomiting", NEGATED),
    ]


@installed
def test_an_audit_scores_it(capsys: pytest.CaptureFixture[str]) -> None:
    gold = Path(__file__).with_name("gold_held_out.tsv")
    assert main(["audit-labels", str(gold), "--labeller", "medspacy"]) == 0
    assert "120 labelled texts" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [("audit-labels", "{gold}"), ("launch", "--name", "r", "--storage", "{storage}")])
def test_without_it_one_line_says_how_to_install_it(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "medspacy" else known(name, *more)
    )
    places = {"gold": Path(__file__).with_name("gold.tsv"), "storage": tmp_path}
    assert main([*(part.format(**places) for part in arguments), "--labeller", "medspacy"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--labeller: medspaCy is not installed" in line
    assert "pip install 'symptune[medspacy]'" in line
