"""A finished run that is damaged: no traceback, and no wrong answer without a word. ``damage.py`` has them all."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.damage import Bench, Damage, _write, damages, quick
from tests.tiny_runs import FinishedRun

EACH = 6
"""Every sixth damage is tried here; ``python -m tests.damage`` tries all, in minutes."""


@pytest.fixture
def bench(finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.chdir(tmp_path)
    with quick():
        yield Bench(Path(finished.run.folder.uri), tmp_path)


def tried(bench: Bench, damage: Damage) -> dict[str, str]:
    """By command, what it came to and what was said last."""
    said = bench.try_one(damage)
    return {name: how for name, (how, _) in said.items()}


def test_no_command_gives_a_traceback_or_a_wrong_answer(bench: Bench) -> None:
    found = {damage.name: tried(bench, damage) for damage in damages()[::EACH]}
    assert len(found) > 20
    bad = {name: of for name, of in found.items() if {"traceback", "wrong"} & set(of.values())}
    assert not bad


def test_the_checks_themselves_notice_a_wrong_answer(bench: Bench) -> None:
    """A figure that is changed where nothing guards it: in a table that no command reads."""
    found = tried(bench, Damage("cut", lambda home: _write(home / "results" / "paper.csv", b"x")))
    assert found["status"] == "same"
    assert found["evaluate"] == "wrong"
