"""A search stops when its storage takes nothing more."""

from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import OutOfMemoryError, RayError

from run_folder.errors import first_line
from run_folder.folder import storage_reason
from tune_jobs.searching.study_storage import DATABASE_ERRORS, database_reason


class Halt:
    """Whether a search has to stop, and why.

    Attributes:
        reason: None as long as the storage and the studies' database can be written.
    """

    def __init__(self) -> None:
        self.reason: str | None = None

    def because(self, reason: str) -> None:
        """Stop for this reason, unless there was one before."""
        self.reason = self.reason or reason

    @contextmanager
    def on_storage_errors(self) -> Iterator[None]:
        """What the storage refuses in the block stops the search; the ledger stays as it is, and can be resumed."""
        try:
            yield
        except (RayError, ConnectionError, TimeoutError) as error:  # some of Ray's are of Python's kinds as well
            self.because(f"Ray failed ({first_line(error)})")
        except OSError as error:
            self.because(storage_reason(error))
        except RuntimeError as error:  # in which Ray Tune wraps what it does not expect of a trial
            if not isinstance(error.__cause__, OutOfMemoryError):
                raise
            self.because("the memory was full, so that Ray ended trials; run fewer at once")
        except DATABASE_ERRORS as error:
            self.because(database_reason(error))
