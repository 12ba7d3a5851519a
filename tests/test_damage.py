"""A finished run that is damaged: no traceback, and no wrong answer without a word. ``damage.py`` has them all."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.damage import Bench, Damage, Said, damages, multilabel_damages, quick, verdict
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


def test_a_damaged_multilabel_run_is_told_too(
    finished_multilabel: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only such a run has: thresholds and temperatures in its ledger, a column of labels for each symptom."""
    monkeypatch.chdir(tmp_path)
    with quick():
        bench = Bench(Path(finished_multilabel.run.folder.uri), tmp_path)
        found = {damage.name: tried(bench, damage) for damage in multilabel_damages()}
    assert len(found) > 4
    bad = {name: of for name, of in found.items() if {"traceback", "wrong"} & set(of.values())}
    assert not bad
    assert all("refused" in of.values() for name, of in found.items() if name.startswith("ledger"))


def test_a_wrong_answer_is_noticed() -> None:
    expected = Said(0, "F1 0.5", "", {"out/a": "1"}, frozenset({"out/a"}))
    assert verdict(expected, expected, whole=True) == "same"
    assert verdict(replace(expected, out="F1 0.6"), expected, whole=False) == "wrong"
    assert verdict(replace(expected, files={"out/a": "2"}), expected, whole=False) == "wrong"
    assert verdict(replace(expected, out="F1 not evaluated"), expected, whole=False) == "told"
    assert verdict(replace(expected, out="", err="symptune: warning: x is damaged"), expected, whole=True) == "warned"
    assert verdict(replace(expected, code=2), expected, whole=False) == "wrong"
    assert verdict(replace(expected, code=2, err="symptune: error: x"), expected, whole=False) == "refused"
    assert verdict(replace(expected, code=None), expected, whole=False) == "traceback"
