"""The command line, stopped at one instant of its run: ``python -m tests.held EVENTS ARGUMENT …``.

Once the ledger has EVENTS events (or several counts, ``3,6``: at each) the process leaves the file ``waiting`` and
waits, before the next one is written, for the signal or the kill that the test has for it, or until that file is gone.
With ``--stubborn`` among the arguments it outlives the first signal, and leaves the file ``interrupted`` then, as a
process that hangs while it stops.
"""

import sys
from pathlib import Path
from typing import Any

from run_folder.ledger import Ledger
from tests.waiting import until
from tune_jobs.cli import main

WAITING, INTERRUPTED = Path("waiting"), Path("interrupted")


def hold(events: list[int], *, stubborn: bool) -> None:
    """Make the ledger's writer wait, once for each count."""
    append = Ledger.append

    def held(ledger: Ledger, kind: str, **fields: Any) -> None:
        if events and len(ledger.events) >= events[0]:
            del events[0]
            _wait(stubborn=stubborn)
        append(ledger, kind, **fields)

    Ledger.append = held  # type: ignore[method-assign]


def _wait(*, stubborn: bool) -> None:
    WAITING.touch()
    while True:
        try:
            until(lambda: not WAITING.exists())
            return
        except KeyboardInterrupt:
            if not stubborn:
                raise
            INTERRUPTED.touch()


if __name__ == "__main__":
    counts, *line = sys.argv[1:]
    hold([int(count) for count in counts.split(",")], stubborn="--stubborn" in line)
    sys.exit(main([word for word in line if word != "--stubborn"]))
