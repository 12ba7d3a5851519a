"""Files of ``--space`` and ``--lexicon`` that are no such files."""

import os
from pathlib import Path

import pytest

from tests.inputs.said import Content, Row, check, table
from tune_jobs.preparing import create_run

DEEP = "[" * 5000 + "]" * 5000
LONG = "9" * 5000
LAUGHS = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
)
"""A few lines that would be 9¹² words where each alias was written out."""


def both(content: Content, *words: str) -> tuple[Row, Row]:
    """The same file as a space and as a lexicon."""
    return tuple(Row(f"launch --{name} f.yaml", (f"--{name}: f.yaml", *words), {"f.yaml": content}) for name in NAMES)  # type: ignore[return-value]


NAMES = ("space", "lexicon")


def space(content: str, *words: str) -> Row:
    return Row("launch --space f.yaml", ("--space: f.yaml", *words), {"f.yaml": content})


def lexicon(content: str, *words: str) -> Row:
    return Row("launch --lexicon f.yaml", ("--lexicon: f.yaml", *words), {"f.yaml": content})


FILES = (
    *both(DEEP, "nested too deep"),
    *both("{a: " * 3000 + "1" + "}" * 3000, "nested too deep"),
    *both(f"a: {LONG}", "a value in it cannot be read"),
    *both("a: !!int ''", "a value in it cannot be read"),
    *both("a: !!float ''", "a value in it cannot be read"),
    *both("a: !!bool maybe", "a value in it cannot be read"),
    *both("a: !!timestamp 99999-01-01", "a value in it cannot be read"),
    *both("a: 2026-13-45", "a value in it cannot be read"),
    *both("a: !!binary '\u00e9'", "is not valid YAML"),
    *both("a: !!python/object/apply:os.system [ls]", "not valid YAML at line 1"),
    *both("a: {b: 1\nc: 2", "not valid YAML at line"),
    *both("a:\n\t- b", "not valid YAML at line 2"),
    *both("a: *nobody", "not valid YAML at line 1"),
    *both("a: {b: 1}\na: {b: 2}", "not valid YAML at line 2 ('a' is given twice)"),
    *both("a: {b: 1, b: 2}", "not valid YAML at line 1 ('b' is given twice)"),
    *both("? [a, b]\n: c", "not valid YAML at line 1"),
    *both("a: 1\n---\nb: 2", "not valid YAML at line"),
    *both("a: 'open", "not valid YAML at line"),
    *both(b"a: \x00", "not valid YAML"),
    *both("a: b".encode("utf-16"), "is not UTF-8"),
    *both("größe: {b: 1}".encode("latin-1"), "is not UTF-8"),
    *both(os.urandom(64) + b"\xff", "is not UTF-8"),
    *both(b"\x89PNG\r\n\x1a\n", "is not UTF-8"),
    *both(b"#" * 10_000_001, "more than 10 MB"),
    *both(Path.mkdir, "is not a file"),
    *both(lambda path: path.symlink_to("gone"), "cannot be read (No such file or directory)"),
    *both(lambda path: path.symlink_to(path), "cannot be read (Too many levels of symbolic links)"),
    *both(lambda path: path.symlink_to("/dev/zero"), "is not a file"),
    *(Row(("launch", f"--{name}", "x" * 300), (f"--{name}", "cannot be read (File name too long)")) for name in NAMES),
    *(Row(("launch", f"--{name}", ""), (f"--{name}: give a value",)) for name in NAMES),
    *(Row(f"launch --{name} none.yaml", (f"--{name}: none.yaml", "No such file")) for name in NAMES),
)

SPACES = (
    space("", "expected strategies"),
    space("[]", "expected strategies"),
    space("- baseline", "expected strategies"),
    space("7", "expected strategies"),
    space("baseline", "expected strategies"),
    space("baseline:", "expected strategies"),
    space("baseline: [1]", "expected strategies"),
    space("baseline: 3", "expected strategies"),
    space("&a baseline: *a", "expected strategies"),
    space("1: {a: 2}", "unknown strategy 1"),
    space("true: {a: 2}", "unknown strategy True"),
    space("null: {a: 2}", "unknown strategy None"),
    space("basline: {dropout: 0.1}", "did you mean 'baseline'?"),
    space(f"{'x' * 1000}: {{a: 2}}", "unknown strategy 'xxx", "..."),
    space("baseline: {1: 2}", "baseline has no parameter 1"),
    space("baseline: {null: 2}", "baseline has no parameter None"),
    space("baseline: {drpout: 0.1}", "did you mean 'dropout'?"),
    space("baseline: {dropout: 0.9}", "is not inside"),
    space("baseline: {dropout: .nan}", "nan is not a number"),
    space("baseline: {dropout: .inf}", "inf is not a number"),
    space("baseline: {dropout: true}", "True is not a number"),
    space("baseline: {dropout: null}", "None is not a number"),
    space("baseline: {dropout: []}", "[] is not a number"),
    space("baseline: {dropout: {}}", "give a value, or low and high"),
    space("baseline: {dropout: {low: 0.1, step: 2}}", "give a value, or low and high"),
    space("baseline: {dropout: {low: 0.2, high: 0.1}}", "is not inside"),
    space("baseline: {dropout: 2026-01-01}", "is not a number"),
    space(f"baseline: {{dropout: 0x{'f' * 5000}}}", "is not a number"),
    space("baseline: {batch_size: 17}", "17 is not among its choices"),
    space("baseline: {batch_size: true}", "True is not among its choices"),
    space("baseline: {batch_size: {choices: 16}}", "is not among its choices"),
    space("baseline: {batch_size: {choices: []}}", "is not among its choices"),
    space("baseline: {batch_size: {choices: [[16]]}}", "is not among its choices"),
    space("baseline: {batch_size: {choices: [16], low: 8}}", "is not among its choices"),
    space("baseline: {batch_size: &a [*a]}", "is not among its choices"),
    space("baseline: {batch_size: &a {choices: [*a]}}", "is not among its choices"),
    space(f"{LAUGHS}\nbaseline: *a11", "expected strategies"),
    space("all: {nothing: 1}", "all has no parameter 'nothing'"),
)

LEXICONS = (
    lexicon("", "must map concepts to their forms"),
    lexicon("'a;b': {forms: [a]}", "'a;b'", "stand apart by ';'"),
    lexicon("{a: {forms: [a], parents: [a]}}", "a concept cannot be its own parent"),
    lexicon("{a: {forms: [a], parents: [b]}, b: {forms: [b], parents: [a]}}", "a concept cannot be its own parent"),
    lexicon("{}", "must map concepts to their forms"),
    lexicon("[fever]", "must map concepts to their forms"),
    lexicon("fever", "must map concepts to their forms"),
    lexicon("? \n: {forms: [fever]}", "None is not a name of a concept"),
    lexicon("'': {forms: [fever]}", "'' cannot be the name of a concept"),
    lexicon("' ': {forms: [fever]}", "' ' cannot be the name of a concept"),
    lexicon('"a\\nb": {forms: [fever]}', "cannot be the name of a concept"),
    lexicon('"a\\0b": {forms: [fever]}', "cannot be the name of a concept"),
    lexicon(f"{'x' * 300}: {{forms: [fever]}}", "cannot be the name of a concept"),
    lexicon("1: {forms: [fever]}", "1 is not a name of a concept", "quote it"),
    lexicon("no: {forms: [fever]}", "False is not a name of a concept", "quote it"),
    lexicon("1.5: {forms: [fever]}", "1.5 is not a name of a concept"),
    lexicon("fever:", "expected the keys forms, negative, exclude"),
    lexicon("fever: [fever]", "expected the keys"),
    lexicon("fever: fever", "expected the keys"),
    lexicon("fever: {form: [fever]}", "expected the keys"),
    lexicon("fever: {forms: [fever], 1: [x]}", "expected the keys"),
    lexicon("fever: {}", "needs at least one form"),
    lexicon("fever: {forms: []}", "needs at least one form"),
    lexicon("fever: {forms: fever}", "must be a list"),
    lexicon("fever: {forms: {a: b}}", "must be a list"),
    lexicon("fever: {forms: [1]}", "1, which is not a phrase", "quote it"),
    lexicon("fever: {forms: [no]}", "False, which is not a phrase", "quote it"),
    lexicon("fever: {forms: ['']}", "'', which is not a phrase"),
    lexicon("fever: {forms: [null]}", "None, which is not a phrase"),
    lexicon("fever: {forms: &a [*a]}", "which is not a phrase"),
    lexicon("fever: {forms: ['...']}", "'...', which is not a phrase"),
    lexicon("fever: {forms: [fever], exclude: 7}", "exclude must be a list"),
    lexicon("fever: {forms: [hot]}\npain: {forms: [hot]}", "'hot' belongs to both fever and pain"),
    lexicon(f"{LAUGHS}", "expected the keys"),
)


@pytest.fixture(autouse=True)
def _notes_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(create_run, "notes_are_small", lambda notes: False)


@table(*FILES, *SPACES, *LEXICONS)
def test_a_file_of_settings_that_cannot_be_is_told_in_one_line(row: Row, capfd: pytest.CaptureFixture[str]) -> None:
    check(row, capfd)


@table(*(Row(("audit-labels", "g.tsv", "--lexicon", "f.yaml"), row.words, row.files) for row in LEXICONS[:4]))
def test_an_audit_refuses_the_same_lexicons(row: Row, capfd: pytest.CaptureFixture[str]) -> None:
    check(row, capfd)
