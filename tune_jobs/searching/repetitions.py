"""Each strategy's best configuration trained again with other seeds."""

from collections.abc import Collection, Iterable

from run_folder.events import Suggested
from run_folder.ledger import Ledger
from run_folder.names import TRIALS
from run_folder.trials import TrialRecord, best_of_strategy, training_chain
from search_spaces import objectives_of
from trainables.references import BASELINE, reference_of
from tune_jobs.searching.study import seed_of


def repetition_name(trial: str, seed_number: int) -> str:
    """Name (or folder) of the repetition of a trial (or its folder) with another seed."""
    return f"{trial}-seed{seed_number}"


def missing_repetitions(
    ledger: Ledger, strategies: Iterable[str], seeds: int, again: Collection[str] = ()
) -> list[tuple[TrialRecord, int]]:
    """The trials still to be trained with other seeds, each with the seed's number, in the order to run them.

    They are the best of each strategy and what it is compared with, and before each the trials that its model was made
    from. Where one of those fails with a seed, what starts from it is not trained with that seed.

    Args:
        seeds: of each strategy in all, the searched trial's own counted.
        again: failed repetitions that are to run once more.
    """
    found = {s: best_of_strategy(ledger.trials, s, 1, objectives_of(s), ledger.teacher)[:1] for s in strategies}
    best = {strategy: trials[0] for strategy, trials in found.items() if trials}
    asked: list[tuple[TrialRecord, int]] = []
    for seed_number in range(1, seeds):
        for trial in best.values():
            reference = reference_of(trial, ledger.trials, best.get(BASELINE))
            for original in (reference, trial) if reference is not None else (trial,):
                asked += [(step, seed_number) for step in _trainable_with(ledger, original, seed_number, again)]
    waiting = {(original.name, seed_number): (original, seed_number) for original, seed_number in asked}
    done = ledger.trials.keys() - set(again)
    return [pair for (name, n), pair in waiting.items() if repetition_name(name, n) not in done]


def _trainable_with(
    ledger: Ledger, trial: TrialRecord, seed_number: int, again: Collection[str]
) -> Iterable[TrialRecord]:
    """A trial and those that its model was made from, up to the first that cannot be trained with a seed."""
    for step in training_chain(ledger.trials, trial):
        yield step
        started = ledger.trials.get(repetition_name(step.name, seed_number))
        if started is not None and started.state == "failed" and started.name not in again:
            return


class Repetitions:
    """Deals the repetitions of a run.

    Args:
        run_seed: the run's seed, from which those of the repetitions are drawn.
        retry_failed: run failed repetitions again, under the same name.
    """

    def __init__(
        self, ledger: Ledger, strategies: Collection[str], run_seed: int, seeds: int, *, retry_failed: bool
    ) -> None:
        self._ledger, self._strategies, self._run_seed, self._seeds = ledger, strategies, run_seed, seeds
        failed = [trial.name for trial in ledger.trials.values() if trial.repeats and trial.state == "failed"]
        self.to_retry = set(failed) if retry_failed else set()
        """Names of failed repetitions that are to run again."""

    def missing(self) -> list[tuple[TrialRecord, int]]:
        """See ``missing_repetitions``."""
        return missing_repetitions(self._ledger, self._strategies, self._seeds, self.to_retry)

    def next(self) -> TrialRecord | None:
        """The next best trial with another seed, once the model that it starts from has been trained with it."""
        for record, seed_number in self.missing():
            teacher = record.teacher and repetition_name(record.teacher, seed_number)
            if teacher and not self._is_finished(teacher.removeprefix(f"{TRIALS}/")):
                continue
            name = repetition_name(record.name, seed_number)
            cycle = (record.name,) if record.trains_on else ()  # cycles share a number
            self.to_retry.discard(name)
            self._ledger.append(
                Suggested(
                    trial=name,
                    strategy=record.strategy,
                    number=record.number,
                    seed=seed_of(self._run_seed, record.strategy, record.number, "repetition", seed_number, *cycle),
                    hyperparameters=dict(record.hyperparameters),
                    distributions=dict(record.distributions),
                    teacher=teacher,
                    repeats=record.name,
                    until=record.until or None,
                    patience=record.patience or None,
                )
            )
            return self._ledger.trials[name]
        return None

    def _is_finished(self, name: str) -> bool:
        """Whether a repetition has a model; one that is to run again has not."""
        trial = self._ledger.trials.get(name)
        return trial is not None and trial.state == "finished" and name not in self.to_retry
