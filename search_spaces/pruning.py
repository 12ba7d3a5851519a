"""Pruning: what is removed, how much of it, how fast, from which weights, and what they recover by."""

import optuna

from search_spaces.training import PAPER_TRAINING, training_space

PAPER = {
    **PAPER_TRAINING,
    "learning_rate": 2e-5,
    "scheme": "unstructured",
    "sparsity": 0.3,
    "scope": "layer",
    "schedule_end": 0.0,
    "start": "pretrained",
    "recovery": "labels",
}
"""First configuration: the paper's author masked 30 % of each matrix before training."""


def space(trial: optuna.Trial) -> dict[str, str | int | float | bool]:
    configuration = {
        **training_space(trial),
        "scheme": trial.suggest_categorical("scheme", ["structured", "unstructured"]),
        "schedule_end": trial.suggest_float("schedule_end", 0.0, 0.7),
        "start": trial.suggest_categorical("start", ["baseline", "pretrained"]),
        "recovery": trial.suggest_categorical("recovery", ["labels", "distillation"]),
    }
    if configuration["scheme"] == "structured":
        configuration |= {
            "ratio": trial.suggest_float("ratio", 0.2, 0.7),
            "importance": trial.suggest_categorical("importance", ["magnitude", "taylor"]),
        }
    else:
        # Names of their own: single weights bear far higher ratios than heads and neurons do.
        configuration |= {
            "sparsity": trial.suggest_float("sparsity", 0.2, 0.9),
            "scope": trial.suggest_categorical("scope", ["global", "layer"]),
        }
    if configuration["recovery"] == "distillation":
        configuration |= {
            "alpha": trial.suggest_float("alpha", 0.0, 1.0),
            "temperature": trial.suggest_float("temperature", 1.0, 8.0, log=True),
        }
    return configuration
