"""What each strategy's search may vary: one Optuna define-by-run function per strategy."""

import importlib
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:  # the names alone must not cost its import
    import optuna

STRATEGIES = (
    "baseline",
    "distillation",
    "low_rank",
    "pruning",
    "quantization",
    "combined",
)
"""The registration line of each strategy; its space and its trainable are found by this name."""

Value = str | int | float | bool

Configuration = dict[str, Any]
"""The hyperparameters of one trial: names to values."""

Objective = tuple[str, Literal["maximize", "minimize"]]
"""A figure of the deployed model (``f1``, ``bytes``, ``macs``, …) and its direction, ``maximize`` or ``minimize``."""


class Space(Protocol):
    """Suggest one configuration: hyperparameter names to values."""

    def __call__(self, trial: "optuna.Trial") -> dict[str, Value]: ...


QUALITY: tuple[Objective, ...] = (("f1", "maximize"),)
"""What a search aims at where its space says nothing else: the deployed model's validation macro F1."""


def objectives_of(strategy: str) -> tuple[Objective, ...]:
    """The strategy's objectives, macro F1 first; more than one are searched for their Pareto front."""
    objectives: tuple[Objective, ...] = getattr(
        importlib.import_module(f"search_spaces.{strategy}"), "OBJECTIVES", QUALITY
    )
    return objectives


def space_of(strategy: str) -> Space:
    """The strategy's search space."""
    space: Space = importlib.import_module(f"search_spaces.{strategy}").space
    return space


def paper_configuration(strategy: str) -> Configuration:
    """The configuration of the paper's author, tried first in every search."""
    return dict(importlib.import_module(f"search_spaces.{strategy}").PAPER)
