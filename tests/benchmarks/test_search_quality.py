"""Searches replayed on curves that were recorded, or made up."""

import gzip
import json
import math
import random
from pathlib import Path
from typing import Any

from benchmarks.record_curves import configuration
from tune_jobs.settings import RunSettings


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
    path: Path, strategies: tuple[str, ...] = RunSettings.strategies, trials: int = 200, noise: float = 0.004
) -> Path:
    lines = [invented_line(strategy, number, 5, noise) for strategy in strategies for number in range(trials)]
    path.write_bytes(gzip.compress(json.dumps({"epochs": 5, "space": {}, "trials": lines}).encode(), mtime=0))
    return path
