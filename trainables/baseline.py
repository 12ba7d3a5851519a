"""Baseline: all weights fine-tuned with cross-entropy."""

from trainables.base import Trial


class BaselineTrial(Trial):
    """The encoder with a classification head, nothing compressed."""
