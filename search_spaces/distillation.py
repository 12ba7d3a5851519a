"""Distillation: the student's depth and layers, and how it listens to its teacher."""

import optuna

from search_spaces.training import PAPER_TRAINING, training_space

PAPER = {
    **PAPER_TRAINING,
    "learning_rate": 5e-5,
    "alpha": 0.5,
    "temperature": 4.0,
    "depth_ratio": 0.5,
    "layers": "spread",
}


def space(trial: optuna.Trial) -> dict[str, str | int | float | bool]:
    return {
        **training_space(trial),
        "alpha": trial.suggest_float("alpha", 0.0, 1.0),
        "temperature": trial.suggest_float("temperature", 1.0, 8.0, log=True),
        "depth_ratio": trial.suggest_categorical("depth_ratio", [0.25, 0.5, 0.75]),
        "layers": trial.suggest_categorical("layers", ["spread", "first", "last"]),
    }
