"""Nothing that the project reads can run code, or lead it out of the folder that it reads."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from run_folder.errors import InputError
from run_folder.events import read_events
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from trainables.parts.deployed import check_files, sha256
from trainables.parts.model.stored import load_tokenizer

ROOT = Path(__file__).parents[1]
PACKAGES = ("analysis", "benchmarks", "clinical_notes", "run_folder", "search_spaces", "trainables", "tune_jobs")


def test_nothing_unpickles() -> None:
    sources = {path: path.read_text() for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert len(sources) > 40
    unsafe = re.compile(
        r"^\s*(?:import|from) (?:pickle|cloudpickle|dill|joblib|marshal|shelve)\b"
        r"|trust_remote_code=True|weights_only=False|cloudpickle\.loads?\b"
        r"|torch\.load\((?![^)]*weights_only=True)|yaml\.load\(|allow_pickle|(?<![.\w])(?:eval|exec)\(",
        re.MULTILINE,
    )
    found = [f"{path}: {match[0]}" for path, text in sources.items() for match in unsafe.finditer(text)]
    assert found == []


def test_code_that_a_tokenizer_brings_is_not_run(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left to itself transformers asks, and takes a line of the notes on standard input for the answer."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").unlink()
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass")
    with pytest.raises(InputError, match="its tokenizer cannot be loaded"):
        load_tokenizer(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"trial": "../../other"},
        {"trial": "/other"},
        {"trial": "baseline-0001"},
        {"strategy": "../baseline", "trial": "../baseline-0000"},
        {"teacher": "/other"},
        {"teacher": "trials/../../other"},
        {"continues": "../other"},
        {"retry_of": ".."},
    ],
)
def test_a_ledger_cannot_name_what_is_outside_its_run(tmp_path: Path, changes: dict[str, Any]) -> None:
    """A trial's name is a folder's, which goes where the trial is stopped."""
    plain: dict[str, Any] = {"trial": "baseline-0000", "strategy": "baseline", "number": 0, "seed": 0, "teacher": None}
    plain |= {"event": "suggested", "hyperparameters": {}, "distributions": {}}
    folder = Folder(tmp_path)
    folder.write("ledger/00000000-suggested.json", json.dumps(plain).encode())
    assert list(Ledger(folder).trials) == ["baseline-0000"]
    folder.write("ledger/00000000-suggested.json", json.dumps(plain | changes).encode())
    with pytest.raises(InputError, match=r"00000000-suggested\.json is damaged"):
        read_events(folder)


def test_a_record_of_files_cannot_name_what_is_outside_its_folder(tmp_path: Path) -> None:
    """Export copies these files by their names."""
    (tmp_path / "model").mkdir()
    for path in (tmp_path / "model" / "x", tmp_path / "x"):
        path.write_text("x")
    digest = sha256(tmp_path / "x")
    check_files(tmp_path / "model", {"x": digest})
    for name in ("../x", str(tmp_path / "x"), "../model/x"):
        with pytest.raises(InputError, match="no file's name"):
            check_files(tmp_path / "model", {name: digest})
