"""The file of cues: how its phrases are read, and what a wrong one says."""

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from clinical_notes.cues import Cues, load_cues
from run_folder.errors import InputError

BUILT_IN = Path(__file__).parents[2] / "clinical_notes" / "cues.yaml"
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def changed(**groups: object) -> Path:
        path = tmp_path / "cues.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(BUILT_IN.read_text()) | groups))
        return path

    return changed


def kinds(cues: Cues, text: str) -> list[tuple[str | None, str]]:
    return [(match.lastgroup, match[0]) for match in cues.in_sentence(text)]


@pytest.mark.parametrize(
    ("phrase", "matched", "unmatched"),
    [
        ("sans [any|new] zeal", ["sans zeal", "sans any zeal"], ["sans anyzeal", "sans any new zeal", "sanszeal"]),
        ("sans [any|new]... zeal", ["sans zeal", "sans any new zeal"], ["sans old zeal"]),
        ("[any|new] zeal[s]", ["zeal", "new zeals"], ["zealous"]),
        ("zeal (for|[any] trace of)", ["zeal for", "zeal trace of", "zeal any trace of"], ["zeal any for"]),
        ("zeal* gone", ["zeal gone", "zealous gone"], ["zeal  gone"]),
        ("zeal+ of", ["zealous of"], ["zeal of"]),
        ("sans <0-2 words> zeal", ["sans zeal", "sans a b zeal"], ["sans a b c zeal"]),
        ("sans [<word>] zeal", ["sans zeal", "sans much zeal"], ["sans so much zeal"]),
        ("zeal of <relative>", ["zeal of mother", "zeal of coworker"], ["zeal of stranger"]),
        ("z.l. (+)", [], ["zzl. (+)"]),
        ("zeal (sans|\n  tout) de\n  suite", ["zeal sans de suite", "zeal tout de suite"], ["zeal sans desuite"]),
        ("# zeal\nzest", ["zest"], ["zeal", "# zeal"]),
        (r"/zeal(?= \w+ing\b)/", [], ["zeal now"]),
    ],
)
def test_a_phrase_matches_what_its_marks_say(
    write: Write, phrase: str, matched: list[str], unmatched: list[str]
) -> None:
    cues = load_cues(write(pre_negation=phrase))
    assert [text for text in matched if kinds(cues, text) != [("pre_negation", text)]] == []
    assert [text for text in unmatched if ("pre_negation", text) in kinds(cues, text)] == []


def test_the_first_of_two_phrases_wins_and_an_expression_sees_what_follows(write: Write) -> None:
    cues = load_cues(write(pre_negation="zeal for\nzeal\n" + r"/zapped(?= \w+ing\b)/"))
    assert kinds(cues, "zeal for pain") == [("pre_negation", "zeal for")]
    assert ("pre_negation", "zapped") in kinds(cues, "zapped coughing")


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"pre_negation": "no\nnot (any"}, ["pre_negation", "'not (any'", "( has no closing bracket"]),
        ({"pre_negation": "not any]"}, ["pre_negation", "] has no opening bracket"]),
        ({"pre_negation": "not (any]"}, ["pre_negation", "] has no opening bracket"]),
        ({"termination": "in <relatives>"}, ["termination", "<relatives>", "relative"]),
        ({"termination": "[but] [yet]"}, ["termination", "matches nothing"]),
        ({"termination": "/but(/"}, ["termination", "/but(/"]),
        ({"termination": "/(but)/"}, ["termination", "(?:...)"]),
        ({"termination": ""}, ["termination", "needs phrases"]),
        ({"termination": ["but"]}, ["termination", "needs phrases"]),
        ({"terminations": "but"}, ["missing or unknown", "terminations"]),
        ({"parts": {"over": "over", "allergen": "milk", "gone": "is <it>", "it": "it"}}, ["parts: gone", "<it>"]),
        ({"parts": {"it": "it"}}, ["parts", "'gone'"]),
    ],
)
def test_a_wrong_file_is_one_line_with_its_fix(write: Write, groups: dict[str, object], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        load_cues(write(**groups))
    assert "\n" not in str(caught.value)
    assert [word for word in [*words, "cues.yaml"] if word not in str(caught.value)] == []


def test_a_file_that_is_no_yaml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "cues.yaml"
    path.write_text("parts:\n  gone: [\n")
    with pytest.raises(InputError, match="not valid YAML at line"):
        load_cues(path)


def test_a_sentence_without_rare_marks_has_the_same_cues_by_the_faster_expression() -> None:
    cues = load_cues()
    here = Path(__file__).parent
    lines = [line for name in ("gold.tsv", "ward_lines.tsv") for line in (here / name).read_text().lower().split("\n")]
    words = sorted({word for line in lines for word in re.findall(r"\S+", line)})
    draw = random.Random(0)
    lines += [draw.choice(["", "-", ":", "0", "?"]).join(draw.choices([*words, " ", "."], k=6)) for _ in range(3_000)]
    plain = [line for line in lines if not cues.rare.search(line)]
    assert 500 < len(plain) < len(lines) - 500
    for line in plain:
        found = [(match.lastgroup, match.span()) for match in cues.frequent.finditer(line)]
        assert found == [(match.lastgroup, match.span()) for match in cues.all_kinds.finditer(line)], line
