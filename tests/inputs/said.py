"""Rows of the tables of inputs × what is said, and the check that each row gets.

A row is a command line with the files that it reads. Whatever they are, the command must end with its exit code and
one line that holds the given words; there is no traceback, and nothing is left behind.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tune_jobs.cli import main

Content = str | bytes | Callable[[Path], object]
"""A file's content, or what makes it at a path."""


@dataclass(frozen=True)
class Row:
    """An input, and what is said of it.

    Attributes:
        line: the command line; a text is split at blanks.
        words: all of them are in the one line that is said.
        files: by path, what is there before the command starts.
        problems: how many lines are said, where there are several problems.
        code: the exit code.
    """

    line: str | tuple[str, ...]
    words: tuple[str, ...]
    files: Mapping[str, Content] = field(default_factory=dict)
    problems: int = 1
    code: int = 2

    @property
    def arguments(self) -> list[str]:
        return self.line.split(" ") if isinstance(self.line, str) else list(self.line)

    def __str__(self) -> str:
        text = " ".join(self.arguments)
        return (text if len(text) <= 80 else f"{text[:76]} …").encode("unicode_escape").decode()


def table(*rows: Row) -> pytest.MarkDecorator:
    """The decorator of a test that gets one row after another."""
    return pytest.mark.parametrize("row", [pytest.param(row, id=f"{n}: {row}") for n, row in enumerate(rows, start=1)])


def check(row: Row, capfd: pytest.CaptureFixture[str]) -> None:
    """Run the row's command in the current folder, which is empty."""
    for name, content in row.files.items():
        _make(Path(name), content)
    before = _state()
    code = main(row.arguments)
    said = capfd.readouterr()
    assert "Traceback" not in said.err + said.out
    lines = said.err.splitlines()
    assert (code, len(lines)) == (row.code, row.problems), said.err
    for line in lines:
        assert line.startswith("symptune: error: ")
        assert len(line) <= 1000
    assert all(word in said.err for word in row.words), said.err
    assert _state() == before


def _make(path: Path, content: Content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)


def _state() -> dict[str, bytes | None]:
    """All that is in the current folder."""
    return {
        str(path): path.read_bytes() if path.is_file() and os.access(path, os.R_OK) else None
        for path in Path().rglob("*")
    }
