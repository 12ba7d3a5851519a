"""Pruning: what is removed, how much of it, how fast, and from which weights."""

import optuna

from search_spaces.training import PAPER_TRAINING, training_space

PAPER = {
    **PAPER_TRAINING,
    "learning_rate": 2e-5,
    "scheme": "unstructured",
    "ratio": 0.3,
    "schedule_end": 0.3,
    "start": "pretrained",
}


def space(trial: optuna.Trial) -> dict[str, str | int | float | bool]:
    return {
        **training_space(trial),
        "scheme": trial.suggest_categorical("scheme", ["structured", "unstructured"]),
        "ratio": trial.suggest_float("ratio", 0.2, 0.7),
        "schedule_end": trial.suggest_float("schedule_end", 0.3, 0.7),
        "start": trial.suggest_categorical("start", ["baseline", "pretrained"]),
    }
