"""Baseline: all weights fine-tuned with cross-entropy."""

from trainables.base import StrategyTrainable


class BaselineTrainable(StrategyTrainable):
    """The encoder with a classification head, nothing compressed."""
