"""What a recommended model must fulfil besides being proven: its size, and how fast it is."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """Limits of a model; None: none.

    Attributes:
        at_most: bytes on disk.
        faster: least latency of the baseline divided by the model's.
        latency: seconds of one text on one thread.
    """

    at_most: int | None = None
    faster: float | None = None
    latency: float | None = None

    def __bool__(self) -> bool:
        return any(wish is not None for wish in (self.at_most, self.faster, self.latency))

    def missed(self, size: int, latency: float | None, baseline_latency: float | None) -> Mapping[str, float | None]:
        """By wish that a model does not fulfil, the factor by which it misses it; None where it was not measured.

        Args:
            size: in bytes.
            latency, baseline_latency: in seconds; None where they were not measured.
        """
        speed_up = baseline_latency / latency if latency and baseline_latency else None
        factors: dict[str, float | None] = {}
        if self.at_most is not None:
            factors["at_most"] = size / self.at_most
        if self.faster is not None:
            factors["faster"] = self.faster / speed_up if speed_up else None
        if self.latency is not None:
            factors["latency"] = latency / self.latency if latency else None
        return {name: factor for name, factor in factors.items() if factor is None or factor > 1}

    def in_words(self) -> str:
        """All of them, as a user would say them."""
        words = []
        if self.at_most is not None:
            words.append(f"at most {self.at_most / 1e6:.3g} MB")
        if self.faster is not None:
            words.append(f"at least {self.faster:g} × as fast")
        if self.latency is not None:
            words.append(f"at most {self.latency * 1e3:.3g} ms a text")
        return ", ".join(words)


NO_WISHES = Wishes()
