"""Quantization: after training or in training, on which grid, and which layers."""

import optuna

from search_spaces.training import PAPER_TRAINING, training_space

PAPER = {
    **PAPER_TRAINING,
    "scheme": "qat",
    "per_channel": True,
    "quantize_embeddings": False,
    "fp32_layers": 0.0,
    "learning_rate": 2e-5,
}


def space(trial: optuna.Trial) -> dict[str, str | int | float | bool]:
    configuration: dict[str, str | int | float | bool] = {
        "scheme": trial.suggest_categorical("scheme", ["ptq_dynamic", "ptq_static", "qat"]),
        "per_channel": trial.suggest_categorical("per_channel", [True, False]),
        "quantize_embeddings": trial.suggest_categorical("quantize_embeddings", [True, False]),
        "fp32_layers": trial.suggest_categorical("fp32_layers", [0.0, 0.1, 0.25]),
    }
    if configuration["scheme"] == "ptq_static":
        configuration["calibration"] = trial.suggest_categorical("calibration", ["minmax", "entropy", "percentile"])
    elif configuration["scheme"] == "qat":
        configuration |= training_space(trial, lowest_rate=5e-6, highest_rate=5e-4)
    return configuration
