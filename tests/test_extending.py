"""A strategy that is added as docs/extending.md says works from launch to prediction."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import CHILD

ROOT = Path(__file__).parents[1]
PACKAGES = ("run_folder", "clinical_notes", "search_spaces", "trainables", "analysis", "tune_jobs")
NAME = "rounded"


def copy_with_the_strategy(home: Path) -> None:
    """The packages, the documentation's two files, and one more line in ``STRATEGIES``."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, home / package, ignore=shutil.ignore_patterns("__pycache__"))
    documented = re.findall(r"```python\n# (\S+)\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.DOTALL)
    assert [path for path, _ in documented] == [f"search_spaces/{NAME}.py", f"trainables/{NAME}.py"]
    for path, code in documented:
        assert not (home / path).exists()
        (home / path).write_text(code)
    registry = home / "search_spaces" / "__init__.py"
    registered = re.sub(r'("combined",\n)', rf'\1    "{NAME}",\n', registry.read_text(), count=1)
    assert registered != registry.read_text()
    registry.write_text(registered)


def symptune(home: Path, *arguments: str | Path) -> str:
    """What a command of the copy prints."""
    done = subprocess.run(
        [sys.executable, "-m", "tune_jobs", *map(str, arguments)],
        cwd=home,
        env={**os.environ, "PYTHONPATH": f"{home}:{CHILD}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(0)
def test_a_strategy_added_by_the_documentation_is_searched_reported_exported_and_predicts(
    tmp_path: Path, model_folder: Path, notes: Path
) -> None:
    copy_with_the_strategy(tmp_path)
    settings = [
        "--strategies",
        f"baseline,{NAME}",
        "--cycles",
        "0",
        "--trials",
        "1",
        "--epochs",
        "1",
        "--max-length",
        "40",
    ]
    place = ["--storage", "runs", "--name", "extended", "--seeds", "1"]
    symptune(tmp_path, "launch", "--notes", notes, "--model", model_folder, *settings, *place)
    run = tmp_path / "runs" / "extended"
    card = json.loads((run / "trials" / f"{NAME}-0000" / "deployed" / "deployed.json").read_text())
    bits = 7 if json.loads((run / "run.json").read_text())["settings"]["reduce_range"] else 8
    assert card["int8"] == {"weight_bits": bits, "per_channel": True, "embeddings": False, "static": False}

    symptune(tmp_path, "report", "extended", "--storage", "runs")
    (page,) = (run / "results").glob("*.html")
    assert NAME in page.read_text()

    symptune(tmp_path, "export", "extended", "--storage", "runs", "--strategy", NAME, "--to", "exported")
    said = (tmp_path / "exported" / "README.md").read_text()
    assert f"INT8 by `ptq_dynamic`, one scale per output channel, weights of {bits} bits, embeddings FP32" in said

    texts = tmp_path / "texts.csv"
    pd.DataFrame({"TEXT": ["pt reports fever", "patient has cough"]}).to_csv(texts, index=False)
    symptune(tmp_path, "predict", "exported", texts, "--out", "labels.csv")
    labels = pd.read_csv(tmp_path / "labels.csv")
    symptoms = json.loads((run / "run.json").read_text())["symptoms"]
    assert len(labels) == 2
    assert labels[list(symptoms)].isin(["yes", "no"]).all(axis=None)
