"""Low rank: updates of low rank (LoRA), or layers of low rank (SVD), where, and how low."""

import optuna

from search_spaces.training import PAPER_TRAINING, training_space

PAPER = {
    **PAPER_TRAINING,
    "learning_rate": 5e-5,
    "scheme": "lora",
    "rank": 32,
    "rank_pattern": "uniform",
    "lora_alpha_ratio": 2.0,
    "lora_dropout": 0.0,
    "targets": "attention",
}


def space(trial: optuna.Trial) -> dict[str, str | int | float | bool]:
    scheme = trial.suggest_categorical("scheme", ["lora", "svd"])
    if scheme == "svd":
        return {  # all weights are trained, at the rates of full fine-tuning
            "scheme": scheme,
            **training_space(trial, rate="svd_learning_rate"),
            "svd_targets": trial.suggest_categorical("svd_targets", ["attention", "feed_forward", "all"]),
            "svd_init": trial.suggest_categorical("svd_init", ["activations", "weights"]),
            "kept_parameters": trial.suggest_float("kept_parameters", 0.2, 0.8),
        }
    return {  # few trained weights bear, and need, far larger steps than the whole encoder does
        "scheme": scheme,
        **training_space(trial, lowest_rate=5e-5, highest_rate=5e-3),
        "rank": trial.suggest_categorical("rank", [8, 16, 32, 64]),
        "rank_pattern": trial.suggest_categorical("rank_pattern", ["uniform", "upper", "lower"]),
        "lora_alpha_ratio": trial.suggest_float("lora_alpha_ratio", 0.5, 4.0, log=True),
        "lora_dropout": trial.suggest_float("lora_dropout", 0.0, 0.2),
        "targets": trial.suggest_categorical("targets", ["query_value", "query_key_value", "attention", "all"]),
    }
