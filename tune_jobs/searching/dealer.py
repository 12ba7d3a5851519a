"""Which trial comes next."""

from collections.abc import Iterable, Mapping, Sequence

from run_folder.events import Suggested
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from run_folder.names import TRIALS
from run_folder.trials import TrialRecord, best_trials
from search_spaces import objectives_of
from trainables import trainable_class
from trainables.references import BASELINE
from tune_jobs.searching.cycles import Cycles
from tune_jobs.searching.plan import SearchPlan
from tune_jobs.searching.repetitions import Repetitions
from tune_jobs.searching.study import StrategyStudy, seed_of
from tune_jobs.searching.teacher import Readiness, baselines_ended


class Dealer:
    """Deals trials: interrupted ones first, retries, the baseline's cycles, longer training, new ones, repetitions.

    A new trial is of the strategy that is furthest behind its budget. Repetitions with other seeds come once the
    search is over.

    Attributes:
        active: names of the trials that were dealt and have not ended.
        retries: failed trials that are still to run again.
        cycles: of the best baseline; None where the search has none.
        repetitions: of the best trials, with other seeds.
    """

    def __init__(self, folder: Folder, ledger: Ledger, studies: Mapping[str, StrategyStudy], plan: SearchPlan) -> None:
        self._ledger, self._studies, self._plan = ledger, studies, plan
        self._readiness = Readiness(folder, ledger)
        self.active: set[str] = set()
        self.retries = ledger.to_retry() if plan.retry_failed else []
        self.cycles = (
            Cycles(ledger, BASELINE, plan.seed, plan.cycles, retry_failed=plan.retry_failed)
            if BASELINE in studies and plan.cycles
            else None
        )
        self._to_train_longer = to_continue(ledger, studies, plan.train_to) if plan.train_to else []
        self.repetitions = Repetitions(ledger, list(studies), plan.seed, plan.seeds, retry_failed=plan.retry_failed)
        self._interrupted: list[TrialRecord] = []

    def take_up_interrupted(self) -> None:
        """Deal first what an earlier process left running."""
        running = [record for record in self._ledger.trials.values() if record.state == "running"]
        self._interrupted = [record for record in running if record.repeats or not self._plan.only_seeds]

    def take_back(self, record: TrialRecord) -> None:
        """Deal a trial again that lost its process."""
        self.active.discard(record.name)
        self._interrupted.append(record)

    @property
    def done(self) -> bool:
        """Whether no trial is running and none is left to deal."""
        return not self.active and not self._search_remains() and not self.repetitions.missing()

    def next(self) -> TrialRecord | None:
        """The next trial, or None while there is nothing to start."""
        record = self._next()
        if record is not None:
            self.active.add(record.name)
        return record

    def _next(self) -> TrialRecord | None:
        if self._interrupted:
            return self._interrupted.pop(0)
        for record in self.retries:
            if self._readiness.of(record.strategy, self.active):
                self.retries.remove(record)
                return self._variant_of(record, retry_of=record.name, continues=record.continues, until=record.until)
        if self._cycle_is_due() and self.cycles is not None and (cycle := self.cycles.next()) is not None:
            return cycle
        if self._to_train_longer:
            record = self._to_train_longer.pop(0)
            return self._variant_of(record, continues=record.name, until=self._plan.train_to)
        ready = [name for name in self._open_strategies() if self._readiness.of(name, self.active)]
        if ready:
            return self._new_trial(min(ready, key=self._ledger.asked))
        searching = self._search_remains() or any(not self._ledger.trials[name].repeats for name in self.active)
        return None if searching else self.repetitions.next()

    def continued(self) -> set[str]:
        """Names of trials whose last checkpoint another trial starts from, or may still start from."""
        running = (trial.continues for trial in self._ledger.trials.values() if trial.state == "running")
        return {trial.name for trial in self._to_train_longer}.union(name for name in running if name)

    def _search_remains(self) -> bool:
        more = self._interrupted or self.retries or self._to_train_longer or self._open_strategies()
        return bool(more) or self._cycle_is_due()

    def _cycle_is_due(self) -> bool:
        """Whether the best baseline is known, and is to be trained further."""
        if self.cycles is None or self._plan.only_seeds:
            return False
        return baselines_ended(self._ledger, self._plan.trials, self.retries) and self.cycles.missing() is not None

    def _open_strategies(self) -> Sequence[str]:
        if self._plan.only_seeds:
            return []
        return [
            strategy
            for strategy in self._studies
            if strategy not in self._ledger.skipped and self._ledger.asked(strategy) < self._plan.trials
        ]

    def _new_trial(self, strategy: str) -> TrialRecord:
        number, hyperparameters, distributions = self._studies[strategy].ask()
        return self._suggested(
            Suggested(
                trial=_name(strategy, number),
                strategy=strategy,
                number=number,
                seed=seed_of(self._plan.seed, strategy, number, "training"),
                hyperparameters=hyperparameters,
                distributions=distributions,
                teacher=f"{TRIALS}/{self._ledger.teacher}" if trainable_class(strategy).needs_teacher else None,
                patience=self._patience_of(strategy) or None,
            )
        )

    def _patience_of(self, strategy: str) -> int:
        """Without cycles baselines train to their ends: others that did would have no reference."""
        return 0 if strategy == BASELINE and self.cycles is None else self._plan.patience

    def _variant_of(
        self, record: TrialRecord, retry_of: str | None = None, continues: str | None = None, until: int | None = None
    ) -> TrialRecord:
        """A new trial of a known configuration and seed."""
        study = self._studies[record.strategy]
        number = study.next_number
        variant = self._suggested(
            Suggested(
                trial=_name(record.strategy, number),
                strategy=record.strategy,
                number=number,
                seed=record.seed,
                hyperparameters=dict(record.hyperparameters),
                distributions=dict(record.distributions),
                teacher=record.teacher,
                retry_of=retry_of,
                continues=continues,
                until=until,
                patience=None if until else record.patience or None,
            )
        )
        study.restore(variant)
        return variant

    def _suggested(self, event: Suggested) -> TrialRecord:
        self._ledger.append(event)
        return self._ledger.trials[event.trial]


def _name(strategy: str, number: int) -> str:
    return f"{strategy}-{number:04d}"


def to_continue(ledger: Ledger, strategies: Iterable[str], epochs: int) -> list[TrialRecord]:
    """The best finished trial of each strategy, where it was trained, and for fewer epochs than asked."""
    continued = {trial.continues for trial in ledger.trials.values() if trial.until == epochs}
    best = [best_trials(ledger.of(strategy), 1, objectives_of(strategy))[:1] for strategy in strategies]
    return [t for trials in best for t in trials if 0 < len(t.epochs) < epochs and t.name not in continued]
