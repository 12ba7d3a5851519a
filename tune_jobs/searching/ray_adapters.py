"""Ray Tune's side of the search: thin adapters that ask and tell ``Search``."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from run_folder.trials import TrialRecord
from tune_jobs.searching.search import Search, Suggestion
from tune_jobs.signals import was_interrupted

REPORT = "report"
"""Key in Ray's results of the ``Report`` that a trial makes."""
SUGGESTION = "suggestion"
"""Key in Ray's configuration of a trial of the ``Suggestion`` that it runs."""
_OUT_OF_MEMORY = re.compile(r"OutOfMemoryError|low on memory")
"""Part of Ray's message about a process that its memory monitor killed."""


def record_of(config: Mapping[str, Any]) -> TrialRecord:
    """The trial that a configuration of Ray's is about."""
    suggestion: Suggestion = config[SUGGESTION]
    return suggestion.record


class RaySearcher(Searcher):
    """Hands Ray the trials that ``Search`` deals.

    Args:
        resources: "cpus" and "gpus" of one trial, added to each configuration.
        room: how many trials may be under way at the moment.
    """

    def __init__(self, search: Search, resources: dict[str, float], room: Callable[[], int]) -> None:
        super().__init__(metric="f1", mode="max")
        self._search, self._resources, self._room = search, resources, room
        self._names: dict[str, str] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        if len(self._names) >= self._room():
            return None
        with self._search.halting_on_storage_errors():
            suggestion = self._search.suggest()
        if self._search.halted:
            return Searcher.FINISHED
        if suggestion is None:
            return Searcher.FINISHED if self._search.done else None
        self._names[trial_id] = suggestion.record.name
        return {SUGGESTION: suggestion, **self._resources}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Reached after the trial's last result; whatever is still open was stopped by the scheduler."""
        name = self._names.pop(trial_id)
        if not error:
            with self._search.halting_on_storage_errors():
                self._search.stop(name)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles its tuner; the ledger is our state, and nothing reads the pickle back

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the searcher's state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the searcher's state."""


class LedgerCallback(Callback):
    """Tells ``Search`` of every result, and of trials whose process Ray lost."""

    def __init__(self, search: Search) -> None:
        self._search = search

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as in RaySearcher

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        with self._search.halting_on_storage_errors():
            self._search.report(record_of(trial.config).name, result[REPORT])

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        with self._search.halting_on_storage_errors():
            out_of_memory = bool(_OUT_OF_MEMORY.search(str(trial.get_error())))
            self._search.lost(record_of(trial.config).name, out_of_memory=out_of_memory)


class HaltStopper(Stopper):
    """Ends the experiment once ``Search`` is halted or the user stops it; the ledger keeps trials running."""

    def __init__(self, search: Search) -> None:
        self._search = search

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as in RaySearcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._search.halted is not None or was_interrupted()
