"""What several tests look for in a ledger."""

from collections import Counter
from collections.abc import Iterable

from run_folder.events import EpochEnded, Event


def most_often(events: Iterable[Event]) -> int:
    """How often the most frequent event was recorded, counting each epoch of a trial as a separate event."""
    seen = Counter(
        (type(event), getattr(event, "trial", None), event.result.epoch if isinstance(event, EpochEnded) else None)
        for event in events
    )
    return max(seen.values())
