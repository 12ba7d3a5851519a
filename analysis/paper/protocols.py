"""The settings of the paper as it is written, and of the author's own run; which of them a run has."""

from collections.abc import Mapping
from typing import Any, Literal

from run_folder.settings import RunSettings

PaperProtocol = Literal["paper", "author"]

PROTOCOLS: Mapping[PaperProtocol, Mapping[str, Any]] = {
    "paper": {
        "task": "multiclass",
        "unit": "sentence",
        "symptoms": 5,
        "mentions": "keep",
        "negated": "drop",
        "raw_window": False,
        "hold_back": 0,
        "class_weights": "none",
        "balance": False,
        "split": (0.7, 0.1, 0.2),
        "epochs": 5,
        "patience": 0,
    },
    "author": {
        "task": "multiclass",
        "symptoms": 5,
        "epochs": 5,
        "patience": 0,
        "unit": "note",
        "raw_window": True,
        "window_chars": 1000,
        "max_length": 256,
        "balance": True,
        "negated": "keep",
        "split": (0.8, 0.1, 0.1),
    },
}
"""By protocol, what it says, by the names of ``RunSettings.record``.

``paper``: cleaned sentences of one of the five most frequent symptoms, as they are distributed, 80/20, five epochs.
``author``: the first 1,000 characters, 256 tokens, balanced, negation ignored, 90/10.

Neither has a validation set, which a search needs: ours is taken from the 80 % or 90 %.
"""


def protocol_of(settings: RunSettings) -> PaperProtocol | None:
    """The protocol that a run with these settings follows."""
    record = settings.record()
    for protocol, values in PROTOCOLS.items():
        if all(record[name] == value for name, value in values.items()):
            return protocol
    return None
