"""A user's lexicon file, and what a wrong one says."""

from pathlib import Path

import pytest

from clinical_notes.lexicon import load_lexicon
from clinical_notes.mentions import MentionFinder
from run_folder.errors import InputError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "lexicon.yaml"
    path.write_text(text)
    return path


def test_a_users_lexicon_replaces_the_built_in_one(tmp_path: Path) -> None:
    path = write(tmp_path, "itch: {forms: [Itching, pruritus], negative: [non-itchy], exclude: [swimmer itching]}\n")
    finder = MentionFinder(load_lexicon(path))
    assert [(m.concept, m.assertion) for m in finder.find("Itching; non-itchy; swimmer itching; fever")] == [
        ("itch", "affirmed"),
        ("itch", "negated"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("itch: {forms: [a, b]}\nscratch: {forms: [b]}\n", ["'b'", "itch", "scratch"]),
        ("itch: {froms: [a]}\n", ["itch", "forms"]),
        ("itch: {forms: []}\n", ["itch", "at least one form"]),
        ("itch: {forms: [no]}\n", ["itch", "quote it"]),
        ("itch: {forms: [", ["not valid YAML", "line"]),
        ("- a\n", ["must map concepts"]),
        ('itch: {forms: ["/itch(?:y|\n  ing)/"]}\n', ["line 1", "in one line", "a line's end becomes a blank"]),
        ("itch:\n  forms: [/itch\n    ing/]\n", ["line 2", "in one line"]),
        ("itch: {forms: [a], parents: [scratch]}\n", ["itch", "no parent 'scratch'"]),
        ("itch: {forms: [a], parents: [itch]}\n", ["own parent", "itch > itch"]),
        ("b: {forms: [x], parents: [c]}\nc: {forms: [z], parents: [b]}\n", ["own parent", "b > c > b"]),
        (
            "a: {forms: [w], parents: [b]}\nb: {forms: [x], parents: [c]}\nc: {forms: [z], parents: [d]}\n"
            "d: {forms: [v], parents: [b]}\n",
            ["own parent", "b > c > d > b"],
        ),
    ],
)
def test_a_wrong_lexicon_is_one_line_with_its_mend(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        load_lexicon(write(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in [*words, "lexicon.yaml"])


def test_a_mention_counts_for_the_parents_of_its_parents_too(tmp_path: Path) -> None:
    text = "a: {forms: [ay], parents: [b]}\nb: {forms: [bee], parents: [c]}\nc: {forms: [cee]}\n"
    lexicon = load_lexicon(write(tmp_path, text))
    assert [m.concept for m in MentionFinder(lexicon).find("ay, bee")] == ["a", "b", "c", "b", "c"]
    merged = lexicon.absorb({"a": ["c"]})  # a is then the parent of its own parent
    assert [m.concept for m in MentionFinder(merged).find("ay, bee")] == ["a", "b", "b", "a"]


def test_absorbing_an_unknown_concept_suggests_the_near_one() -> None:
    with pytest.raises(InputError, match="did you mean 'edema'"):
        load_lexicon().absorb({"pain": ["edemma"]})


def test_an_absorbed_concept_is_said_to_be_in_the_one_that_has_it() -> None:
    lexicon = load_lexicon().absorb({"pain": ["chest pain"], "fever": ["pain", "chills"]})
    said = "symptoms: 'chest pain' was absorbed into 'fever'; name 'fever', or do not absorb 'chest pain'"
    assert str(lexicon.missing("symptoms", "chest pain")) == said
    assert lexicon.concept_of("Chest_pain") == "fever"
    with pytest.raises(InputError, match=r"^absorb: 'chills' was absorbed into 'fever'; name 'fever', or do"):
        load_lexicon().absorb({"fever": ["chills"], "cough": ["chills"]})
    with pytest.raises(InputError, match=r"^absorb: 'chills' was absorbed into 'fever'"):
        lexicon.absorb({"chills": ["cough"]})
