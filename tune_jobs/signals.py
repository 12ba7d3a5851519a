"""Ctrl-C and a scheduler's SIGTERM: the first ends a command cleanly, the second at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""Exit code of a command that was stopped."""

_received = 0
_blocks = 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _received
    _received += 1
    if _received > 1:
        os._exit(INTERRUPTED)  # what was being written stays a temporary file; resume needs only the ledger
    raise KeyboardInterrupt


def was_interrupted() -> bool:
    """Whether a signal has come; the KeyboardInterrupt itself is lost where it falls into a destructor."""
    return _received > 0


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt at the first SIGINT or SIGTERM while the block runs; exit at the second, wherever.

    Signals are counted from the outermost block on. In any thread but the main one, which alone gets signals, the block
    changes nothing.
    """
    global _received, _blocks
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if not _blocks:  # in a notebook a command may follow one that was interrupted
        _received = 0
    previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    _blocks += 1
    try:
        yield
    finally:
        _blocks -= 1
        for number, handler in previous.items():
            signal.signal(number, handler)
