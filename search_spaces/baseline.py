"""Baseline: how the whole encoder is fine-tuned."""

import optuna

from search_spaces.training import PAPER_TRAINING, training_space

PAPER = {**PAPER_TRAINING, "learning_rate": 3e-5, "label_smoothing": 0.0}


def space(trial: optuna.Trial) -> dict[str, str | int | float | bool]:
    return {
        **training_space(trial),
        "label_smoothing": trial.suggest_float("label_smoothing", 0.0, 0.1),
    }
