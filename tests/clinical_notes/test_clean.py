"""Sentences and cleaning, as the paper describes them."""

import pytest

from clinical_notes.clean import clean, sentences


def cleaned(text: str) -> list[str]:
    return [clean(text, (part.body, part.end))[0] for part in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Fever. No cough.", ["fever", "no cough"]),
        ("Seen by Dr. Smith. Pt. has 38.5 fever.", ["seen by dr smith", "pt has 38.5 fever"]),
        ("Long line that\nwraps here. End", ["long line that wraps here", "end"]),
        ("First para\n\nSecond para", ["first para", "second para"]),
        ("1. Fever\n2. Cough", ["fever", "cough"]),
        ("HISTORY OF PRESENT ILLNESS: Edema.\nPLAN: Rest.", ["edema", "rest"]),
        ("Seen today\nPAST MEDICAL HISTORY\nEdema.\n PLAN \nRest.", ["seen today", "edema", "rest"]),
        ("OF ALL ALLERGIES\nNO ALLERGIES\nHAS A HISTORY", ["no allergies has a history"]),
        ("On [**2151-7-16**] at 10:30 pm by [**First Name (un) 123**] fever", ["on at by fever"]),
        ("Seen 7/16/2151, swelling of Mr. [**Known\nlastname 12**]'s leg", ["seen swelling of mr s leg"]),
        ("Pt's low-grade fever!", ["pt's low grade fever"]),
    ],
)
def test_sentences_and_what_is_stripped(text: str, expected: list[str]) -> None:
    assert cleaned(text) == expected


def test_marks_are_carried_into_the_cleaned_text() -> None:
    text = "On [**2151-7-16**]: Low-Grade  Fever, (edema) noted"
    marks = [(text.index("Low"), text.index("Fever") + 5), (text.index("edema"), text.index("edema") + 5), (4, 16)]
    result, places = clean(text, (0, len(text)), marks)
    assert [result[place[0] : place[1]] if place else None for place in places] == ["low grade fever", "edema", None]


def test_sentences_cover_every_word() -> None:
    text = "A b. C d?\n\n- e f\nHEADER: g h. 10 a.m. visit 2.5 mg"
    words = " ".join(text[part.start : part.end] for part in sentences(text)).split()
    assert words == text.split()
