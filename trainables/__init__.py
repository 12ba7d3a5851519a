"""How each strategy trains, and what it deploys: one module with one class of trials per strategy."""

import importlib
import os

# Both libraries read this once, when they are imported. A hospital's machine tells nobody what it computes.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from trainables.base import Trial


def trainable_class(strategy: str) -> type[Trial]:
    """The class of a strategy's trials, found by name: ``low_rank`` is ``trainables.low_rank.LowRankTrial``."""
    name = "".join(word.capitalize() for word in strategy.split("_")) + "Trial"
    cls: type[Trial] = getattr(importlib.import_module(f"trainables.{strategy}"), name)
    return cls


def scheme_note(strategy: str, scheme: str | None) -> str | None:
    """What a reader must know of a strategy's scheme, in a sentence; None where there is nothing to say."""
    return trainable_class(strategy).scheme_notes.get(scheme) if scheme is not None else None
