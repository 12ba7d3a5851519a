"""Which files of trials stay on the storage."""

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Executor

from run_folder.folder import Folder
from run_folder.ledger import Ledger
from run_folder.names import TRIALS, checkpoints_of
from run_folder.trials import best_trials, repetitions_of, training_chain
from search_spaces import objectives_of
from tune_jobs.searching.halt import Halt


class TrialFiles:
    """Drops what will not be used again: trials that ended early, checkpoints, and models that others surpass.

    Args:
        keep: finished trials per strategy whose models stay, best first.
        executor: drops them one after the other while the search continues; None: at once.
    """

    def __init__(
        self,
        folder: Folder,
        ledger: Ledger,
        strategies: Iterable[str],
        keep: int,
        halt: Halt,
        executor: Executor | None = None,
    ) -> None:
        self._folder, self._ledger, self._keep, self._halt, self._executor = folder, ledger, keep, halt, executor
        self._strategies = list(strategies)
        self._models = {
            strategy: [trial.name for trial in ledger.of(strategy) if trial.state == "finished"]
            for strategy in self._strategies
        }
        """Finished trials of each strategy that may have a model on the storage: none that is surpassed comes back."""
        self._without_checkpoints: set[str] = set()

    def trial_ended(self, name: str, continued: Collection[str]) -> None:
        """Drop what is not needed any more now that this trial has ended.

        Args:
            continued: trials whose last checkpoint another trial starts from.
        """
        record = self._ledger.trials[name]
        if record.state != "finished":
            self._discard(self._folder.delete_folder, f"{TRIALS}/{name}")
            return
        if not record.of_search:
            self._discard(self._delete_checkpoints, name, keep_last=False)
            return
        rivals = [self._ledger.trials[rival] for rival in (*self._models[record.strategy], name)]
        best = best_trials(rivals, self._keep, objectives_of(record.strategy))
        kept = {trial.name for trial in best} | set(continued)
        ancestors = self._ancestors()
        for trial in rivals:
            if trial.name in kept or trial.name in ancestors:
                self._discard_checkpoints(trial.name, keep_last=trial is best[0] or trial.name in continued)
                continue
            for surpassed in (trial, *repetitions_of(self._ledger.trials, trial.name)):
                self._discard(self._folder.delete_folder, f"{TRIALS}/{surpassed.name}")
        self._models[record.strategy] = [trial.name for trial in rivals if trial.name in kept]

    def _ancestors(self) -> set[str]:
        """The teacher, and the models that it and the baseline next to it were made from."""
        baselines = [trial for trial in self._ledger.trials.values() if trial.trains_on]
        if self._ledger.teacher in self._ledger.trials:  # a benchmark's teacher is in no ledger
            baselines.append(self._ledger.trials[self._ledger.teacher])
        return {trial.name for last in baselines for trial in training_chain(self._ledger.trials, last)}

    def discard_leftovers(self, continued: Collection[str], to_run_again: Collection[str]) -> None:
        """Drop what a killed process left: it may have recorded a trial's end, and left its files.

        Args:
            continued: as for ``trial_ended``.
            to_run_again: repetitions and cycles that run again under the same name, maybe at once.
        """
        best = [best_trials(self._ledger.of(name), 1, objectives_of(name))[:1] for name in self._strategies]
        kept = {trial.name for trials in best for trial in trials} | set(continued)
        for name in self._folder.names(TRIALS):
            state = self._ledger.trials[name].state if name in self._ledger.trials else "running"
            if name in to_run_again:
                self._folder.delete_folder(f"{TRIALS}/{name}")
            elif state in ("stopped", "failed"):
                self._discard(self._folder.delete_folder, f"{TRIALS}/{name}")
            elif state == "finished":
                self._discard_checkpoints(name, keep_last=name in kept)

    def _discard_checkpoints(self, name: str, *, keep_last: bool) -> None:
        """The last one of a strategy's best trial stays, so that it can be trained for longer."""
        if name in self._without_checkpoints:
            return
        self._discard(self._delete_checkpoints, name, keep_last=keep_last)
        if not keep_last:
            self._without_checkpoints.add(name)

    def _delete_checkpoints(self, name: str, *, keep_last: bool) -> None:
        for path in checkpoints_of(self._folder, name)[: -1 if keep_last else None]:
            self._folder.delete_folder(path)

    def _discard(self, delete: Callable[..., None], *what: str, **how: bool) -> None:
        """Gigabytes take a while to go, and the next trial need not wait for it."""

        def halting_delete() -> None:
            if self._halt.reason is None:
                with self._halt.on_storage_errors():
                    delete(*what, **how)

        if self._executor is None:
            halting_delete()
        else:
            self._executor.submit(halting_delete)
