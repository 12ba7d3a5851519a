"""The command that ``remote`` starts on the cluster's head node; it stops when the actor that started it is gone."""

import os
import signal
import sys
import threading

from tune_jobs.cli import main


def _stop_with_parent() -> None:
    """A clean stop once standard input ends: the actor that holds its other end is gone."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)  # nobody reads the pipes any more
        os.dup2(nowhere, 2)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    _stop_with_parent()
    sys.exit(main())
