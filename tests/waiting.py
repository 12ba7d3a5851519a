"""Waiting for a state: what a test finds never depends on how busy the machine is."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

GUARD_SECONDS = 20 * 60
"""Time limit of a wait: it ends what hangs, by a ``TimeoutError``, and decides nothing else."""


def until(
    happened: Callable[[], object], told: Callable[[], str] = lambda: "", process: "subprocess.Popen[str] | None" = None
) -> None:
    """Return once something is true.

    Args:
        told: what an error says further.
        process: that makes it true; once it has ended, waiting is of no use.

    Raises:
        RuntimeError: the process has ended.
        TimeoutError: the guard's time is over.
    """
    end = time.monotonic() + GUARD_SECONDS
    while not happened():
        if process is not None and process.poll() is not None and not happened():
            raise RuntimeError(f"the process has ended with code {process.returncode}; {told()}")
        if time.monotonic() > end:
            raise TimeoutError(f"nothing happened for {GUARD_SECONDS} s; {told()}")
        time.sleep(0.02)


@contextmanager
def guarded() -> Iterator[None]:
    """Raise TimeoutError in a block that takes longer than the guard: pytest's own limit is on tests, not on fixtures.

    For the main thread alone.
    """

    def give_up(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"a fixture took more than {GUARD_SECONDS} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(GUARD_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
