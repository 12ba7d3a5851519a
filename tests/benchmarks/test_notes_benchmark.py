"""Invented notes in MIMIC-III's shape, and the benchmark that labels them, in its tiniest form."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import notes
from benchmarks.many_notes import CATEGORIES, MIMIC_NOTES, many_notes, write_many_notes


def test_the_same_number_and_seed_write_the_same_notes(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.csv.gz" for number in range(3)]
    for path, seed in zip(paths, (0, 0, 1), strict=True):
        write_many_notes(path, 20, seed)
    first, again, other = (path.read_bytes() for path in paths)
    assert first == again != other


def test_notes_are_as_many_and_as_long_by_category_as_mimics() -> None:
    assert sum(count for count, _, _ in CATEGORIES.values()) == MIMIC_NOTES
    frame = pd.DataFrame(many_notes(20_000, seed=0), columns=["patient", "category", "text"])
    lengths = frame["text"].str.len()
    for category, (count, mean, deviation) in CATEGORIES.items():
        of = lengths[frame["category"] == category]
        assert len(of) / 20_000 == pytest.approx(count / MIMIC_NOTES, abs=0.01)
        if len(of) > 1_000:
            assert of.mean() == pytest.approx(mean, rel=0.1)
            assert np.log(of).std() == pytest.approx(deviation, rel=0.1)
    assert lengths.sum() / 20_000 * MIMIC_NOTES == pytest.approx(3.9e9, rel=0.05)


def test_both_sides_label_the_same_file_and_say_what_memory_they_took(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tmp_path / "found.json"
    notes.main(["--notes", "600", "--other-notes", "20", "--json", str(found)])
    printed, record = capsys.readouterr().out, json.loads(found.read_text())
    assert all(side in printed for side in (notes.OURS, notes.OTHER))
    assert record["rounds"][notes.OTHER][0]["read"] == record["notes"] == 600
    assert record["rounds"][notes.OURS][0]["examples"] > 100
    assert all(0.05 < gigabytes < 2 for gigabytes in record["peak_gb"].values())
