"""The part of a space that every fine-tuned strategy shares."""

import optuna

PAPER_TRAINING = {
    "batch_size": 16,
    "lr_schedule": "cosine",
    "warmup_ratio": 0.0,
    "weight_decay": 0.01,
    "dropout": 0.1,
}
"""AdamW, cosine schedule without warm-up, batches of 16; weight decay and dropout are the libraries' defaults."""


def training_space(
    trial: optuna.Trial, lowest_rate: float = 1e-5, highest_rate: float = 1e-3, rate: str = "learning_rate"
) -> dict[str, str | int | float | bool]:
    """Optimisation and regularisation of one training.

    The highest rates suit small encoders (384 wide and less); BERT-base wants 1e-5 to 1e-4.

    Args:
        rate: name of the learning rate, for a space whose branches need different ranges (Optuna: one range per name).
    """
    return {
        rate: trial.suggest_float(rate, lowest_rate, highest_rate, log=True),
        "batch_size": trial.suggest_categorical("batch_size", [8, 16, 32]),
        "lr_schedule": trial.suggest_categorical("lr_schedule", ["linear", "cosine"]),
        "warmup_ratio": trial.suggest_float("warmup_ratio", 0.0, 0.2),
        "weight_decay": trial.suggest_float("weight_decay", 0.0, 0.1),
        "dropout": trial.suggest_float("dropout", 0.0, 0.2),
    }
