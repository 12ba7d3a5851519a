"""How firm the choice of the classes is, where they are the most frequent symptoms of the training patients."""

from collections.abc import Mapping
from dataclasses import dataclass

_FIRM = 0.95
"""Share of the resamples from which on a symptom's place among the classes is not left to chance."""


@dataclass(frozen=True)
class SymptomChoice:
    """What the same choice gives where the training patients are drawn again, with replacement.

    Attributes:
        shares: by class, the share of the resamples in which it is among the most frequent, as many as there are
            classes.
        runner_up: the symptom with the largest share of those that are no class; None: there are no others.
    """

    resamples: int
    shares: Mapping[str, float]
    runner_up: str | None = None
    runner_up_share: float = 0.0

    @property
    def is_firm(self) -> bool:
        return min(self.shares.values()) >= _FIRM

    def in_words(self) -> str:
        """The symptoms whose place is not firm, or how firm all are, and the runner-up."""
        weak = [f"{name} {_percent(share)}" for name, share in self.shares.items() if share < _FIRM]
        least = min(self.shares.values())
        each = ", ".join(weak) or f"each {'' if least == 1 else 'at least '}{_percent(least)}"
        following = f"; next: {self.runner_up} {_percent(self.runner_up_share)}" if self.runner_up else ""
        among = f"among the {len(self.shares)} most frequent in {self.resamples:,} resamples of the training patients"
        return f"{among}: {each}{following}"


def _percent(share: float) -> str:
    """In whole per cent, and only what never or always happens is 0 or 100."""
    return f"{round(100 * share) if share in (0, 1) else min(max(round(100 * share), 1), 99)} %"
