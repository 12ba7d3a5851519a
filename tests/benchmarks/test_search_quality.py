"""Searches replayed on curves that were recorded, or made up."""

import gzip
import json
import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks import record_curves, search_quality
from benchmarks.record_curves import (
    MODELS,
    TRIALS_FILE,
    Recording,
    configuration,
    pack,
    parse,
    prepare,
    read_lines,
    record_trial,
)
from benchmarks.search_quality import EachOnce, read_recording
from run_folder.errors import InputError
from search_spaces import STRATEGIES


def invented_line(strategy: str, number: int, epochs: int, noise: float) -> dict[str, Any]:
    """A trial whose figure depends on its learning rate most, on other parameters a little, and on chance."""
    hyperparameters, distributions = configuration(strategy, number, 0, {})
    chance = random.Random(f"{strategy}-{number}")
    rate = next((v for name, v in hyperparameters.items() if name.endswith("learning_rate")), None)
    off = 0.3 if rate is None else abs(math.log10(rate / 4e-4))
    score = 0.9 / (1 + 0.35 * off**2) - 0.2 * hyperparameters.get("dropout", 0.1)
    score -= 0.05 * hyperparameters.get("ratio", hyperparameters.get("sparsity", 0.3)) ** 2
    score -= 0.02 * (hyperparameters.get("layers") == "last") + 0.01 * (hyperparameters.get("batch_size") == 32)
    score += chance.gauss(0, noise)
    slow = 0.5 + 0.8 * max(0.0, -math.log10((rate or 1e-3) / 4e-4))
    trained = range(1, epochs + 1) if rate is not None else ()
    steps = [score * (1 - math.exp(-epoch / slow)) / (1 - math.exp(-epochs / slow)) for epoch in trained]
    return {
        "name": f"{strategy}-{number:04d}", "strategy": strategy, "number": number, "seed": number,
        "hyperparameters": hyperparameters, "distributions": distributions, "state": "finished",
        "epochs": [{"f1": f1 + chance.gauss(0, noise), "selectable": True, "seconds": 3.0} for f1 in steps],
        "final": {"validation": {"f1": score}, "bytes": chance.randrange(10**6)},
        "seconds": {"set_up": 0.2, "deployment": 1.0},
    }  # fmt: skip


def invented_recording(
    path: Path, strategies: tuple[str, ...] = STRATEGIES, trials: int = 200, noise: float = 0.004
) -> Path:
    lines = [invented_line(strategy, number, 5, noise) for strategy in strategies for number in range(trials)]
    path.write_bytes(gzip.compress(json.dumps({"epochs": 5, "space": {}, "trials": lines}).encode(), mtime=0))
    return path


def test_a_killed_recording_goes_on_and_records_no_trial_twice(model_folder: Path, tmp_path: Path) -> None:
    folder, packed = tmp_path / "recording", tmp_path / "packed.json.gz"
    options = ["--folder", str(folder), "--output", str(packed), "--model", str(model_folder), "--layers", "1"]
    options += ["--patients", "40", "--max-length", "16", "--epochs", "1", "--workers", "1"]
    options += ["--strategies", "quantization"]
    shared, header = prepare(parse(options))
    Recording(folder, header).add(record_trial(shared, "baseline", 0, None))
    before = (folder / TRIALS_FILE).read_text()
    (folder / TRIALS_FILE).write_text(before + before[:100])  # as a kill leaves it
    record_curves.main([*options, "--trials", "2"])
    assert (folder / TRIALS_FILE).read_text().startswith(before)
    lines = read_lines(folder)
    names = [f"{strategy}-000{number}" for strategy in ("baseline", "quantization") for number in (0, 1)]
    assert sorted(line["name"] for line in lines) == names
    assert {line["state"] for line in lines} == {"finished"}
    assert {line["teacher"] for line in lines if line["strategy"] == "quantization"} == {"baseline-0000"}
    assert [path.name for path in (folder / MODELS).iterdir()] == ["baseline-0000"]
    data = packed.read_bytes()
    pack(folder, packed)
    assert packed.read_bytes() == data
    recorded = read_recording(packed)
    assert {strategy: len(trials) for strategy, trials in recorded.trials.items()} == {"baseline": 2, "quantization": 2}
    for line in lines:
        curve = recorded.curves.nearest(line["strategy"], line["hyperparameters"])
        assert (curve.name, curve.score) == (line["name"], line["final"]["validation"]["f1"])
    with pytest.raises(InputError, match="of another seed"):
        Recording(folder, {**header, "seed": 1})


def test_each_side_finds_the_best_known_and_says_what_that_took(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = invented_recording(tmp_path / "invented.json.gz", ("baseline", "quantization", "combined"), trials=12)
    options = ["--recording", str(path), "--seeds", "2", "--json", str(tmp_path / "found.json")]
    search_quality.main(options)
    found = json.loads((tmp_path / "found.json").read_text())
    for sides in found["searches"].values():
        assert all(0 < spent["epochs"] <= 12 * 5 for searches in sides.values() for spent in searches)
        assert all(spent["found"] for spent in sides["random"])  # it stops none, and there are twelve
    for figures in (of[side] for of in found["ratios"]["epochs"].values() for side in ("random", "stock")):
        assert figures["low"] <= figures["ratio"] <= figures["high"]
    assert "overall" in capsys.readouterr().out
    grid = ["--grace", "1", "--reduction", "0", "2", "--startup", "1"]
    search_quality.main([*options, "--sweep", *grid, "--strategies", "baseline"])
    rows = {row["reduction_factor"]: row for row in json.loads((tmp_path / "found.json").read_text())["sweep"]}
    assert rows[0]["missed"] == 0
    assert rows.keys() == {0, 2}


def test_a_warm_started_search_tries_the_best_of_the_other_recording_first(tmp_path: Path) -> None:
    path = invented_recording(tmp_path / "invented.json.gz", ("baseline",), trials=30)
    options = ["--recording", str(path), "--seeds", "3", "--json", str(tmp_path / "found.json")]
    search_quality.main([*options, "--warm-start", str(path)])
    ours = json.loads((tmp_path / "found.json").read_text())["searches"]["baseline"]["ours"]
    assert all(spent["found"] and spent["epochs"] <= 10 for spent in ours)  # the paper's is next to the best
    search_quality.main([*options, "--tolerance", "1"])
    any_will_do = json.loads((tmp_path / "found.json").read_text())["searches"]["baseline"]["ours"]
    assert [spent["trials"] for spent in any_will_do] == [1, 1, 1]


def test_a_configuration_gets_the_curve_of_one_that_is_near_in_what_matters(tmp_path: Path) -> None:
    recorded = read_recording(invented_recording(tmp_path / "invented.json.gz", ("baseline",), trials=100))
    by_rate = sorted((trial.hyperparameters for trial in recorded.trials["baseline"]), key=rate_of)
    asked = {**by_rate[0], "learning_rate": rate_of(by_rate[-1])}  # all but its rate is the other's
    given = EachOnce(recorded.curves, recorded.weights).nearest("baseline", asked)
    assert rate_of(given.hyperparameters) > 0.3 * rate_of(asked)
    assert sum(recorded.weights["baseline"].values()) == pytest.approx(1.0)


def test_a_branch_of_the_space_that_was_not_recorded_has_a_nearest_curve_too(tmp_path: Path) -> None:
    path = invented_recording(tmp_path / "invented.json.gz", ("pruning",), trials=30)
    header = json.loads(gzip.decompress(path.read_bytes()))
    unrecorded = [t for t in header["trials"] if t["hyperparameters"]["scheme"] == "unstructured"]
    header["trials"] = [t for t in header["trials"] if t not in unrecorded]
    other = tmp_path / "structured.json.gz"
    other.write_bytes(gzip.compress(json.dumps(header).encode()))
    recorded = read_recording(other)
    given = EachOnce(recorded.curves, recorded.weights).nearest("pruning", unrecorded[0]["hyperparameters"])
    assert given.hyperparameters["scheme"] == "structured"


def rate_of(hyperparameters: Mapping[str, Any]) -> float:
    return float(hyperparameters["learning_rate"])


def test_a_search_gets_each_recorded_curve_once(tmp_path: Path) -> None:
    recorded = read_recording(invented_recording(tmp_path / "invented.json.gz", ("pruning",), trials=4))
    curves, (asked, _) = EachOnce(recorded.curves, recorded.weights), configuration("pruning", 2, 0, {})
    given = [curves.nearest("pruning", asked).number for _ in range(4)]
    assert given[0] == 2
    assert sorted(given) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="empty"):
        curves.nearest("pruning", asked)
