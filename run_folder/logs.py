"""Log files of a run: one of the driver and one of each trial; no line holds a note's text."""

import contextlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from run_folder.folder import Folder
from run_folder.names import LOGS

Level = Literal["debug", "info", "warning", "error"]

_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class FolderHandler(logging.Handler):
    """Appends to a file in a run's folder; behind a URI, where no file can grow, it is written on ``close``.

    A storage that fails costs the log alone: what else is written there reports the failure.
    """

    def __init__(self, folder: Folder, name: str) -> None:
        super().__init__()
        self._folder, self._path = folder, f"{LOGS}/{name}.log"
        self._lines: list[str] = []
        self.setFormatter(logging.Formatter(_FORMAT))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + "\n"
        except Exception:
            self.handleError(record)
            return
        if not self._folder.is_local:
            self._lines.append(line)
            return
        path = Path(self._folder.uri) / self._path
        with contextlib.suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            with path.open("a", encoding="utf-8") as stream:
                stream.write(line)

    def close(self) -> None:
        if self._lines:
            with contextlib.suppress(OSError):
                before = self._folder.read(self._path) if self._folder.exists(self._path) else b""
                self._folder.write(self._path, before + "".join(self._lines).encode())
            self._lines.clear()
        super().close()


@contextmanager
def driver_log(folder: Folder, level: Level, packages: tuple[str, ...]) -> Iterator[None]:
    """Write what these packages log in the block to ``logs/driver.log``."""
    handler = FolderHandler(folder, "driver")
    loggers = [logging.getLogger(package) for package in packages]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(level.upper())
    try:
        yield
    finally:
        for logger, old in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(old)
        handler.close()


def trial_log(folder: Folder, trial: str, level: Level) -> logging.Logger:
    """The log of one trial, ``logs/<trial>.log``; it hands its lines to no other logger. End it with ``close_log``."""
    logger = logging.Logger(trial, level.upper())
    logger.addHandler(FolderHandler(folder, trial))
    return logger


def close_log(logger: logging.Logger) -> None:
    """Write what a log still holds."""
    for handler in logger.handlers:
        handler.close()
