"""What each strategy's search may vary: one Optuna define-by-run function per strategy."""

import importlib
from collections.abc import Mapping
from typing import Any, Protocol

import optuna

STRATEGIES = (
    "baseline",
    "distillation",
    "low_rank",
    "pruning",
    "quantization",
)
"""The registration line of each strategy; its space and its trainable are found by this name."""

Value = str | int | float | bool


class Space(Protocol):
    """Suggest one configuration: hyperparameter names to values."""

    def __call__(self, trial: optuna.Trial) -> dict[str, Value]: ...


def space_of(strategy: str) -> Space:
    """The strategy's search space."""
    space: Space = importlib.import_module(f"search_spaces.{strategy}").space
    return space


def paper_configuration(strategy: str) -> Mapping[str, Any]:
    """The configuration of the paper's author, tried first in every search."""
    configuration: Mapping[str, Any] = importlib.import_module(f"search_spaces.{strategy}").PAPER
    return configuration
