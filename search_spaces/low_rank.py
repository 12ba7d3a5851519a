"""Low rank: LoRA's rank, scale and where it is applied."""

import optuna

from search_spaces.training import PAPER_TRAINING, training_space

PAPER = {
    **PAPER_TRAINING,
    "learning_rate": 5e-5,
    "rank": 32,
    "lora_alpha_ratio": 2.0,
    "lora_dropout": 0.0,
    "targets": "attention",
}


def space(trial: optuna.Trial) -> dict[str, str | int | float | bool]:
    # Few trained weights bear, and need, far larger steps than the whole encoder does.
    return {
        **training_space(trial, lowest_rate=5e-5, highest_rate=5e-3),
        "rank": trial.suggest_categorical("rank", [8, 16, 32, 64]),
        "lora_alpha_ratio": trial.suggest_float("lora_alpha_ratio", 0.5, 4.0, log=True),
        "lora_dropout": trial.suggest_float("lora_dropout", 0.0, 0.2),
        "targets": trial.suggest_categorical("targets", ["query_value", "query_key_value", "attention", "all"]),
    }
