"""The command line, stopped at one instant of its run: ``python -m tests.held EVENTS ARGUMENT …``.

Once the ledger has EVENTS events the process leaves the file ``waiting`` and waits, before the next one is written, for
the signal or the kill that the test has for it. With ``--stubborn`` among the arguments it outlives the first signal,
and leaves the file ``interrupted`` then, as a process that hangs while it stops.
"""

import sys
import time
from pathlib import Path
from typing import Any

from run_folder.ledger import Ledger
from tune_jobs.cli import main

WAITING, INTERRUPTED = Path("waiting"), Path("interrupted")


def hold(events: int, *, stubborn: bool) -> None:
    """Make the ledger's writer wait, once."""
    append, waited = Ledger.append, False

    def held(ledger: Ledger, kind: str, **fields: Any) -> None:
        nonlocal waited
        if len(ledger.events) >= events and not waited:
            waited = True
            _wait(stubborn=stubborn)
        append(ledger, kind, **fields)

    Ledger.append = held  # type: ignore[method-assign]


def _wait(*, stubborn: bool) -> None:
    while True:
        try:
            WAITING.touch()
            time.sleep(3600)
        except KeyboardInterrupt:
            if not stubborn:
                raise
            INTERRUPTED.touch()


if __name__ == "__main__":
    count, *line = sys.argv[1:]
    hold(int(count), stubborn="--stubborn" in line)
    sys.exit(main([word for word in line if word != "--stubborn"]))
