"""A search by Ray Tune's own OptunaSearch and ASHA, for the traps' tests."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

EPOCHS = 4
NAME = "plain"


def train(config: dict[str, Any]) -> None:
    """Curves of a quick and of a slow learner; ``broken`` gives no number. Each epoch leaves a line in the log."""
    for epoch in range(1, EPOCHS + 1):
        with Path(config["log"]).open("a") as log:
            log.write(f"{config['kind']} {config['x']:.9f} {epoch}\n")
        share = 1.0 if config["kind"] == "quick" else epoch / EPOCHS * 0.6
        if config["x"] < config["fails_below"] and not Path(config["repaired"]).exists():
            raise RuntimeError("broken")
        time.sleep(config["seconds"])
        tune.report({"f1": math.nan if config["x"] < config["nan_below"] else share * config["x"], "epoch": epoch})


@dataclass(frozen=True)
class Space:
    """Quick and slow learners in turn; what they are told besides ``x`` is fixed."""

    fixed: dict[str, Any]

    def __call__(self, trial: optuna.Trial) -> dict[str, Any]:
        trial.suggest_float("x", 0.0, 1.0)
        return {"kind": ("quick", "slow")[trial.number % 2], **self.fixed}


def tuner(home: Path, trials: int, seconds: float = 0.0, nan_below: float = -1, fails_below: float = -1) -> tune.Tuner:
    fixed = {"log": str(home / "log"), "repaired": str(home / "repaired"), "seconds": seconds}
    space = Space({**fixed, "nan_below": nan_below, "fails_below": fails_below})
    storage = optuna.storages.RDBStorage(f"sqlite:///{home}/studies.db")
    sampler = optuna.samplers.RandomSampler(seed=3)
    return tune.Tuner(
        train,
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(space, "f1", "max", storage=storage, study_name=NAME, sampler=sampler),
            scheduler=ASHAScheduler("epoch", "f1", "max", max_t=EPOCHS + 1, grace_period=1, reduction_factor=2),
            num_samples=trials,
            max_concurrent_trials=1,
        ),
        run_config=tune.RunConfig(name=NAME, storage_path=str(home), verbose=0),
    )


def main(home: Path) -> None:
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    tuner(home, trials=6, seconds=0.3).fit()
