"""Nothing that the project reads can run code."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("analysis", "benchmarks", "clinical_notes", "search_spaces", "trainables", "tune_jobs")


def test_nothing_unpickles() -> None:
    sources = {path: path.read_text() for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert len(sources) > 40
    unsafe = re.compile(
        r"^\s*(?:import|from) (?:pickle|cloudpickle|dill|joblib|marshal|shelve)\b"
        r"|torch\.load\(|yaml\.load\(|allow_pickle|(?<![.\w])(?:eval|exec)\(",
        re.MULTILINE,
    )
    found = [f"{path}: {match[0]}" for path, text in sources.items() for match in unsafe.finditer(text)]
    assert found == []
