"""How each strategy trains, and what it deploys: one module and one Ray Tune trainable per strategy."""

import importlib

from trainables.base import StrategyTrainable


def trainable_class(strategy: str) -> type[StrategyTrainable]:
    """The trainable of a strategy, found by name: ``low_rank`` is ``trainables.low_rank.LowRankTrainable``."""
    name = "".join(word.capitalize() for word in strategy.split("_")) + "Trainable"
    cls: type[StrategyTrainable] = getattr(importlib.import_module(f"trainables.{strategy}"), name)
    return cls
