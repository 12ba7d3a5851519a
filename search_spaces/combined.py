"""Combined: a student of the best baseline, pruned while it learns, then quantized; quality against bytes."""

import optuna

from search_spaces.training import PAPER_TRAINING, training_space

OBJECTIVES = (("f1", "maximize"), ("bytes", "minimize"))

PAPER = {
    **PAPER_TRAINING,
    "learning_rate": 5e-5,
    "alpha": 0.5,
    "temperature": 4.0,
    "depth_ratio": 0.5,
    "layers": "spread",
    "vocabulary": "whole",
    "ratio": 0.3,
    "importance": "magnitude",
    "schedule_end": 0.3,
    "scheme": "ptq_dynamic",
    "per_channel": True,
    "quantize_embeddings": False,
    "fp32_layers": 0.0,
}
"""First configuration: the paper combines nothing, so these are its settings of each part."""


def space(trial: optuna.Trial) -> dict[str, str | int | float | bool]:
    configuration = {
        **training_space(trial),
        "alpha": trial.suggest_float("alpha", 0.0, 1.0),
        "temperature": trial.suggest_float("temperature", 1.0, 8.0, log=True),
        "depth_ratio": trial.suggest_categorical("depth_ratio", [0.25, 0.5, 0.75, 1.0]),
        "layers": trial.suggest_categorical("layers", ["spread", "first", "last"]),
        "vocabulary": trial.suggest_categorical("vocabulary", ["whole", "corpus"]),
        "ratio": trial.suggest_float("ratio", 0.0, 0.7),
        "importance": trial.suggest_categorical("importance", ["magnitude", "taylor"]),
        "schedule_end": trial.suggest_float("schedule_end", 0.3, 0.7),
        "scheme": trial.suggest_categorical("scheme", ["ptq_dynamic", "ptq_static"]),
        "per_channel": trial.suggest_categorical("per_channel", [True, False]),
        "quantize_embeddings": trial.suggest_categorical("quantize_embeddings", [True, False]),
        "fp32_layers": trial.suggest_categorical("fp32_layers", [0.0, 0.1, 0.25]),
    }
    if configuration["scheme"] == "ptq_static":
        configuration["calibration"] = trial.suggest_categorical("calibration", ["minmax", "entropy", "percentile"])
    return configuration
