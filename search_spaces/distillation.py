"""Distillation: the student's depth and width, and how it listens to its teacher."""

import optuna

from search_spaces.training import PAPER_TRAINING, training_space

PAPER = {
    **PAPER_TRAINING,
    "learning_rate": 5e-5,
    "alpha": 0.5,
    "temperature": 4.0,
    "smaller_in": "depth",
    "depth_ratio": 0.5,
    "layers": "spread",
    "matching": "none",
}


def space(trial: optuna.Trial) -> dict[str, str | int | float | bool]:
    configuration = {
        **training_space(trial),
        "alpha": trial.suggest_float("alpha", 0.0, 1.0),
        "temperature": trial.suggest_float("temperature", 1.0, 8.0, log=True),
        "smaller_in": trial.suggest_categorical("smaller_in", ["depth", "width", "both"]),
        "matching": trial.suggest_categorical("matching", ["none", "relations"]),
    }
    if configuration["smaller_in"] != "width":
        configuration["depth_ratio"] = trial.suggest_categorical("depth_ratio", [0.25, 0.5, 0.75])
        configuration["layers"] = trial.suggest_categorical("layers", ["spread", "first", "last"])
    if configuration["smaller_in"] != "depth":
        configuration["width_ratio"] = trial.suggest_categorical("width_ratio", [0.5, 0.75])
    if configuration["matching"] == "relations":
        configuration["matching_weight"] = trial.suggest_float("matching_weight", 0.1, 10.0, log=True)
    return configuration
