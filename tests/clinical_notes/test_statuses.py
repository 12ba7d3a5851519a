"""Statuses of mentions on lines in the manner of ward notes, of many kinds; a person labelled them before the rules."""

import csv
from pathlib import Path

import pytest

from clinical_notes.lexicon import Lexicon, load_lexicon
from clinical_notes.mentions import MentionFinder
from clinical_notes.squeezed import squeeze
from clinical_notes.units import AFFIRMED, HISTORICAL, HYPOTHETICAL, NEGATED, OTHER, RESOLVED, UNCERTAIN
from run_folder.settings import STATUSES

LINES, MORE_LINES, REVIEWED_LINES, UNSEEN_LINES = (
    Path(__file__).with_name(f"{name}.tsv")
    for name in ("ward_lines", "ward_lines_2", "ward_lines_3", "ward_lines_unseen")
)
NONE = "none"
"""Label of a word that is no mention, or of an empty box."""
KNOWN_TO_FAIL = {"Work-up for syncope was negative."}

MORE_KNOWN_TO_FAIL = {
    "Nausea/Vomiting: nausea only",
    "Endorses HAs, abd pn and loose BMs.",  # in lower case, HAs is "has"
}


@pytest.fixture(scope="module")
def finder() -> MentionFinder:
    return MentionFinder(load_lexicon())


def lines(path: Path = LINES) -> list[tuple[str, str, dict[str, str]]]:
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [
        (
            row["kind"],
            row["text"].replace("\\n", "\n").replace("\\t", "\t"),
            dict(label.split("=") for label in row["labels"].split(";")),
        )
        for row in rows
    ]


def statuses(finder: MentionFinder, text: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for mention in finder.find(text):
        found.setdefault(mention.concept, set()).add(mention.assertion)
    return found


def is_right(found: set[str], label: str) -> bool:
    if label == NONE:
        return found <= {HYPOTHETICAL}
    if label == AFFIRMED:  # a second mention may be less sure: "confusion, likely delirium"
        return AFFIRMED in found and found <= {AFFIRMED, UNCERTAIN}
    return found == {label}


def wrongly_read(finder: MentionFinder, path: Path) -> set[str]:
    wrong = set()
    for _, text, labels in lines(path):
        found = statuses(finder, text)
        if not all(is_right(found.get(concept, set()), label) for concept, label in labels.items()):
            wrong.add(text)
    return wrong


def test_lines_of_ward_notes_are_read_as_a_person_reads_them(finder: MentionFinder) -> None:
    assert len(lines()) >= 150
    assert wrongly_read(finder, LINES) <= KNOWN_TO_FAIL


def test_lines_of_a_second_set_are_read_as_a_person_reads_them(finder: MentionFinder) -> None:
    assert wrongly_read(finder, MORE_LINES) <= MORE_KNOWN_TO_FAIL


def test_lines_of_kinds_that_a_reviewer_saw_misread_are_read_as_a_person_reads_them(finder: MentionFinder) -> None:
    assert wrongly_read(finder, REVIEWED_LINES) == set()


def test_lines_that_the_rules_were_not_fixed_on_are_read_no_worse(finder: MentionFinder) -> None:
    assert len(lines(UNSEEN_LINES)) - len(wrongly_read(finder, UNSEEN_LINES)) >= 36


def test_every_status_is_among_the_lines() -> None:
    assert {label for _, _, labels in lines() for label in labels.values()} == {*STATUSES, NONE}


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("PAST MEDICAL HISTORY", HISTORICAL),
        ("PMH", HISTORICAL),
        ("Past Medical/Surgical History", HISTORICAL),
        ("ALLERGIES", HYPOTHETICAL),
        ("Adverse reactions", HYPOTHETICAL),
        ("Family History", OTHER),
        ("History of Present Illness", AFFIRMED),
        ("Chief Complaint", AFFIRMED),
        ("Review of Systems", AFFIRMED),
    ],
)
@pytest.mark.parametrize("between", [" ", "\n", "\n\n", "\n1. Asthma\n2. ", "\n- "])
def test_a_section_gives_its_mentions_a_status(finder: MentionFinder, header: str, status: str, between: str) -> None:
    text = f"{header}:{between}Headache.\n\nEXAM: Rash."
    assert statuses(finder, text) == {"headache": {status}, "rash": {AFFIRMED}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FAMILY HISTORY\n  Sister - tremor\n  \n  SOCIAL HISTORY\n  Has a rash", {"tremor": OTHER, "rash": AFFIRMED}),
        ("Seen at home\nALLERGIES\nSulfa - rash\nPLAN\nTreat the cough", {"rash": HYPOTHETICAL, "cough": AFFIRMED}),
        ("PMH\n1. Tremor\n2. Rash\nMEDICATIONS ON ADMISSION\nNone. Cough.",
         {"tremor": HISTORICAL, "rash": HISTORICAL, "cough": AFFIRMED}),
        ("PLAN OF ALLERGIES\n", {}),
        ("NO KNOWN ALLERGIES\nRash", {"rash": AFFIRMED}),
        ("She has a family history\nof asthma. Rash", {"rash": AFFIRMED}),
        ("THE PAST MEDICAL HISTORY WAS TAKEN\nRash", {"rash": AFFIRMED}),
        ("Family History: Mother: tremor\nFather (60): rash\nPaternal grandmother: cough\nSkin: itching",
         {"tremor": OTHER, "rash": OTHER, "cough": OTHER, "itching": AFFIRMED}),
        ("Mom with tremor. Dad has noticed a rash.", {"tremor": OTHER, "rash": AFFIRMED}),
        ("Father: says that she has a rash", {"rash": AFFIRMED}),
    ],
)  # fmt: skip
def test_headers_in_capitals_need_no_colon_and_relatives_stay_in_their_section(
    finder: MentionFinder, text: str, expected: dict[str, str]
) -> None:
    assert statuses(finder, text) == {concept: {status} for concept, status in expected.items()}


def test_a_cue_is_stronger_than_its_section(finder: MentionFinder) -> None:
    text = "Past Medical History: no seizures; chronic cough."
    assert statuses(finder, text) == {"seizure": {NEGATED}, "cough": {AFFIRMED}}


@pytest.mark.parametrize(
    "text",
    ["no\n\t fever  and   No\n\n Cough", "a’b – c  d", "Ext-no edema\n-no rash", "İ  x\r\n y", "   \n fever  ", ""],
)
def test_offsets_of_the_squeezed_text_lead_back_to_the_note(text: str) -> None:
    squeezed = squeeze(text)
    assert len(squeezed.text) == len(squeezed.lowered)
    for place, character in enumerate(squeezed.text):
        origin = text[squeezed.place_in_note(place)]
        assert character == origin or character in " \n'-•"
        if not character.isspace():
            assert squeezed.place_of(squeezed.place_in_note(place)) == place


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No fever\nCough since Monday", {"fever": {NEGATED}, "cough": {AFFIRMED}}),
        ("He has had no complaints such as fever in the last weeks, and no chills or\nCough.",
         {"fever": {NEGATED}, "chills": {NEGATED}, "cough": {NEGATED}}),
        ("There was no report of any trouble in breathing, no pain, no nausea, or vomiting,\n"
         "Headache or fever; she was sent home after one more day of rest in the ward, well.",
         {"pain": {NEGATED}, "nausea": {NEGATED}, "vomiting": {NEGATED}, "headache": {NEGATED}, "fever": {NEGATED}}),
    ],
)  # fmt: skip
def test_a_line_break_ends_a_statement_only_where_the_line_was_not_wrapped(
    finder: MentionFinder, text: str, expected: dict[str, set[str]]
) -> None:
    assert statuses(finder, text) == expected


@pytest.mark.parametrize(
    ("text", "concept", "status"),
    [
        ("In the past three weeks she has had a cough.", "cough", AFFIRMED),
        ("Had a cough in the past.", "cough", HISTORICAL),
        ("He has had headaches since May of last year.", "headache", AFFIRMED),
        ("Lap band in 2009 and since then has had nausea.", "nausea", AFFIRMED),
        ("A woman with a history of knee pain for 6 years.", "pain", AFFIRMED),
        ("A woman with a history of knee pain.", "pain", HISTORICAL),
        ("Presents with chest pain, had a stent placed in 2011.", "chest pain", AFFIRMED),
        ("Had chest pain in 2011.", "chest pain", HISTORICAL),
        ("Evaluated five years ago, she now has dizziness.", "dizziness", AFFIRMED),
        ("PAST MEDICAL HISTORY: Gout. He complains of back pain.", "back pain", AFFIRMED),
        ("PAST MEDICAL HISTORY: Gout. He has had back pain.", "back pain", HISTORICAL),
        ("She was seen a week prior to admission for a rash.", "rash", AFFIRMED),
        ("Prior rash.", "rash", HISTORICAL),
        ("Complaints are heat intolerance, fatigue and tremor.", "fatigue", AFFIRMED),
        ("Denies cold intolerance, fatigue.", "fatigue", NEGATED),
        ("Intolerances: codeine (nausea).", "nausea", HYPOTHETICAL),
        ("Hold heparin until resolution of the hematuria.", "hematuria", AFFIRMED),
        ("Admitted for control of pain.", "pain", AFFIRMED),
        ("Resolution of the hematuria overnight.", "hematuria", RESOLVED),
        ("I do not think that this would explain the syncope.", "syncope", AFFIRMED),
        ("I do not think that he has a rash.", "rash", NEGATED),
        ("Prior hx of rash.", "rash", HISTORICAL),
        ("Intol: codeine (nausea).", "nausea", HYPOTHETICAL),
        ("Reactions to latex: rash", "rash", HYPOTHETICAL),
        ("Return precautions were reviewed for fever or confusion.", "confusion", HYPOTHETICAL),
        ("Cough reported: no", "cough", NEGATED),
        ("Rash noted: yes", "rash", AFFIRMED),
        ("[x] without rash [ ] itching", "rash", NEGATED),
        ("[ ] no rash", "rash", HYPOTHETICAL),
        ("HEENT: ST; GI: -diarrhea", "diarrhea", NEGATED),
        ("Fever all gone.", "fever", RESOLVED),
        ("Rash: resolved", "rash", RESOLVED),
    ],
)
def test_what_is_there_now_is_told_from_what_was(finder: MentionFinder, text: str, concept: str, status: str) -> None:
    assert statuses(finder, text)[concept] == {status}


def test_a_concept_counts_for_its_parents_and_a_shared_form_for_all_that_list_it(finder: MentionFinder) -> None:
    assert statuses(finder, "Denies N/V. Gross hematuria.") == {
        "nausea": {NEGATED}, "vomiting": {NEGATED}, "hematuria": {AFFIRMED}, "bleeding": {AFFIRMED},
    }  # fmt: skip


def test_parents_follow_what_absorbs_them() -> None:
    lexicon: Lexicon = load_lexicon().absorb({"bruising": ["bleeding"]})
    assert statuses(MentionFinder(lexicon), "Gross hematuria.") == {"hematuria": {AFFIRMED}, "bruising": {AFFIRMED}}
