"""The search of a whole run, without Ray: which trial comes next, and what its results mean."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from run_folder.folder import Folder, storage_reason
from run_folder.ledger import Ledger
from run_folder.names import TRIALS, checkpoints_of
from run_folder.trials import TrialRecord, best_trials, repetitions_of
from search_spaces import objectives_of
from trainables import trainable_class
from trainables.parts.training.teaching import LOGITS_FILE
from tune_jobs.searching.study import StrategyStudy, seed_of
from tune_jobs.searching.study_storage import DATABASE_ERRORS, database_reason

TEACHER_STRATEGY = "baseline"

HALF_BATCHES = "out of memory; goes on in half batches, whose gradients are added up"
OUT_OF_MEMORY = "out of memory, with half batches too"

MOST_LOSSES = 3
"""Times that a trial's process may die between two results, in one search."""

RESULT_KEYS = ("epoch", "f1", "accuracy", "precision", "recall", "auroc", "train_loss", "selectable", "seconds")
"""What the ledger keeps of an epoch's result."""


@dataclass(frozen=True)
class Suggestion:
    """A trial to run: a new one, or one that goes on."""

    record: TrialRecord
    parts: int = 1
    """In so many parts each batch is computed, where a whole one took too much memory."""

    def config(self) -> dict[str, Any]:
        """What the trial's actor is told."""
        return {
            "trial": self.record.name,
            "strategy": self.record.strategy,
            "hyperparameters": dict(self.record.hyperparameters),
            "seed": self.record.seed,
            "teacher": self.record.teacher,
            "known_epochs": len(self.record.epochs),
            "continues": self.record.continues,
            "until": self.record.until,
            "repeats": self.record.repeats,
            "parts": self.parts,
        }


class Search:
    """Deals the next trial to the strategy furthest behind its budget, and keeps ledger and studies in step.

    Attributes:
        halted: why the storage takes nothing more, once it doesn't; no event is recorded from then on.

    Args:
        trials: budget of trials, per strategy.
        retry_failed: run failed trials again, each as a new trial of the same configuration and seed.
        epochs: train the best finished trial of each strategy on, to so many epochs, as a trial of its own.
        seeds: train the best configuration of each strategy with so many seeds, once the search is over; a compressed
            model's start from the baseline's of the same seed. The trial that was found counts as one of them.
        only_seeds: do that alone, with the search as it stands.
        keep: finished trials per strategy whose models stay on the storage, best first.
        stopped: trials that the scheduler stopped; where the process died before that was recorded, it is now.
        discarding: drops, one after the other, the files that nothing needs any more, while the search goes on; without
            it that is done at once.
        on_change: called after every event, with the trial it is about.
        on_warning: called with every warning of a trial.
    """

    def __init__(
        self,
        folder: Folder,
        ledger: Ledger,
        studies: Mapping[str, StrategyStudy],
        trials: int,
        seed: int,
        keep: int = 3,
        retry_failed: bool = False,
        epochs: int | None = None,
        seeds: int = 1,
        only_seeds: bool = False,
        stopped: Iterable[str] = (),
        discarding: Executor | None = None,
        on_change: Callable[[TrialRecord], None] = lambda record: None,
        on_warning: Callable[[TrialRecord, str], None] = lambda record, message: None,
    ) -> None:
        self._folder, self.ledger, self._studies = folder, ledger, studies
        self._budget, self._seed, self._keep, self._on_change = trials, seed, keep, on_change
        self._on_warning, self._discarding = on_warning, discarding
        for strategy, study in studies.items():
            for record in ledger.of(strategy):
                study.restore(record)
        self._models = {
            strategy: [trial.name for trial in ledger.of(strategy) if trial.state == "finished"] for strategy in studies
        }
        """Finished trials of each strategy that may have a model on the storage: none that is surpassed comes back."""
        self._without_checkpoints: set[str] = set()
        self._again = ledger.to_retry() if retry_failed else []
        failed = [trial.name for trial in ledger.trials.values() if trial.repeats and trial.state == "failed"]
        self._failed_repetitions = set(failed) if retry_failed else set()
        self._further = to_continue(ledger, studies, epochs) if epochs else []
        self._epochs, self._seeds, self._only_seeds = epochs, seeds, only_seeds
        self._active: set[str] = set()
        self.halted: str | None = None
        self._losses: Counter[tuple[str, int]] = Counter()
        self._starved: set[str] = set()
        self._logits_seen = False
        if TEACHER_STRATEGY in studies:
            if not self._baselines_ended():
                for strategy in list(ledger.skipped):
                    ledger.append("unskipped", strategy=strategy)
            self._choose_teacher()
        for name in stopped:
            self.stop(name)
        self._discard_leftovers()
        running = [record for record in ledger.trials.values() if record.state == "running"]
        self._unfinished = [record for record in running if record.repeats or not only_seeds]

    @property
    def done(self) -> bool:
        """Whether no trial is running and none is left to suggest."""
        return not self._active and not self._searches_on() and not self._repetitions()

    def _searches_on(self) -> bool:
        return bool(self._unfinished or self._again or self._further or self._open_strategies())

    def _repetitions(self) -> list[tuple[TrialRecord, int]]:
        return missing_repetitions(self.ledger, self._studies, self._seeds, self._failed_repetitions)

    def suggest(self) -> Suggestion | None:
        """The next trial, or None while there is nothing to start."""
        record = self._next_record()
        if record is None:
            return None
        self._active.add(record.name)
        self._on_change(record)
        return Suggestion(record, parts=2 if record.name in self._starved else 1)

    def _next_record(self) -> TrialRecord | None:
        if self._unfinished:
            return self._unfinished.pop(0)
        for record in self._again:
            if self._ready(record.strategy):
                self._again.remove(record)
                return self._variant_of(record, retry_of=record.name)
        if self._further:
            record = self._further.pop(0)
            return self._variant_of(record, continues=record.name, until=self._epochs)
        ready = [strategy for strategy in self._open_strategies() if self._ready(strategy)]
        if ready:
            return self._new_trial(min(ready, key=self.ledger.asked))
        return None if self._searches_on() or self._is_searching() else self._next_repetition()

    def _is_searching(self) -> bool:
        return any(self.ledger.trials[name].repeats is None for name in self._active)

    def _next_repetition(self) -> TrialRecord | None:
        """The next best trial with another seed, once the model that it starts from has been trained with it."""
        for record, seed_number in self._repetitions():
            teacher = record.teacher and repetition_name(record.teacher, seed_number)
            if teacher and self.ledger.trials[teacher.removeprefix(f"{TRIALS}/")].state == "running":
                continue
            name = repetition_name(record.name, seed_number)
            self._failed_repetitions.discard(name)
            self.ledger.append(
                "suggested",
                trial=name,
                strategy=record.strategy,
                number=record.number,
                seed=seed_of(self._seed, record.strategy, record.number, "repetition", seed_number),
                hyperparameters=dict(record.hyperparameters),
                distributions=dict(record.distributions),
                teacher=teacher,
                repeats=record.name,
                **({"until": record.until} if record.until else {}),
            )
            return self.ledger.trials[name]
        return None

    def _open_strategies(self) -> Sequence[str]:
        if self._only_seeds:
            return []
        return [
            strategy
            for strategy in self._studies
            if strategy not in self.ledger.skipped and self.ledger.asked(strategy) < self._budget
        ]

    def _ready(self, strategy: str) -> bool:
        cls = trainable_class(strategy)
        if cls.needs_teacher and self.ledger.teacher is None:
            return False
        return not cls.reads_teacher_logits or self._teacher_logits_exist() or not self._is_preparing_logits()

    def _teacher_logits_exist(self) -> bool:
        if not self._logits_seen:
            self._logits_seen = self._folder.exists(f"{TRIALS}/{self.ledger.teacher}/{LOGITS_FILE}")
        return self._logits_seen

    def _is_preparing_logits(self) -> bool:
        """Whether a trial runs whose start computes the teacher's logits, so that no other need do it again."""
        active = [self.ledger.trials[name] for name in self._active]
        return any(trainable_class(trial.strategy).reads_teacher_logits for trial in active)

    def _new_trial(self, strategy: str) -> TrialRecord:
        number, hyperparameters, distributions = self._studies[strategy].ask()
        return self._suggested(
            strategy,
            number,
            seed=seed_of(self._seed, strategy, number, "training"),
            hyperparameters=hyperparameters,
            distributions=distributions,
            teacher=f"{TRIALS}/{self.ledger.teacher}" if trainable_class(strategy).needs_teacher else None,
        )

    def _variant_of(self, record: TrialRecord, **more: Any) -> TrialRecord:
        """A new trial of a known configuration and seed."""
        study = self._studies[record.strategy]
        known = {name: getattr(record, name) for name in ("seed", "hyperparameters", "distributions", "teacher")}
        known["hyperparameters"], known["distributions"] = dict(record.hyperparameters), dict(record.distributions)
        variant = self._suggested(record.strategy, study.next_number, **known, **more)
        study.restore(variant)
        return variant

    def _suggested(self, strategy: str, number: int, **fields: Any) -> TrialRecord:
        name = f"{strategy}-{number:04d}"
        self.ledger.append("suggested", trial=name, strategy=strategy, number=number, **fields)
        return self.ledger.trials[name]

    @contextmanager
    def halting_on_storage_errors(self) -> Iterator[None]:
        """What the storage refuses halts the search; the ledger stays as it is, and can be resumed."""
        try:
            yield
        except OSError as error:
            self.halted = self.halted or storage_reason(error)
        except DATABASE_ERRORS as error:
            self.halted = self.halted or database_reason(error)

    def report(self, name: str, result: Mapping[str, Any]) -> None:
        """Record a result: a finished epoch, a deployed model, or a failure."""
        record = self.ledger.trials[name]
        if result.get("halted"):
            self.halted = self.halted or str(result["halted"])
        if record.state != "running" or self.halted is not None:
            return
        if result.get("warning"):
            self.ledger.append("warning", trial=name, message=result["warning"])
            self._on_warning(record, result["warning"])
        if result.get("failed"):
            self._fail(record, str(result["failed"]))
        elif "final" in result:
            self.ledger.append("finished", trial=name, final=result["final"])
            if study := self._study_of(record):
                study.finished(record.number, result["final"])
            self._ended(name)
        elif result["epoch"] == len(record.epochs) + 1:  # a restarted worker repeats what is known
            kept = {key: result[key] for key in RESULT_KEYS}
            self.ledger.append("epoch", trial=name, result=kept)
            if study := self._study_of(record):
                study.report(record.number, result["epoch"], float(result["f1"]))
        self._on_change(self.ledger.trials[name])

    def stop(self, name: str) -> None:
        """Record that the scheduler stopped a trial."""
        record = self.ledger.trials[name]
        if record.state != "running" or self.halted is not None:
            return
        self.ledger.append("stopped", trial=name)
        if study := self._study_of(record):
            study.stopped(record.number)
        self._ended(name)
        self._on_change(self.ledger.trials[name])

    def lost(self, name: str, *, starved: bool = False) -> None:
        """Record that a trial lost its process: it is dealt again, and fails only where that does not help.

        Args:
            starved: the process was killed since memory ran low; the trial goes on in half batches, once.
        """
        record = self.ledger.trials[name]
        if record.state != "running" or self.halted is not None:
            return
        if starved and name in self._starved:
            self._fail(record, OUT_OF_MEMORY)
            self._on_change(self.ledger.trials[name])
            return
        if starved:
            self._starved.add(name)
            self.ledger.append("warning", trial=name, message=HALF_BATCHES)
            self._on_warning(record, HALF_BATCHES)
        self._losses[name, len(record.epochs)] += 1
        if self._losses[name, len(record.epochs)] < MOST_LOSSES:
            self._active.discard(name)
            self._unfinished.append(record)
        else:
            self._fail(
                record,
                f"its process died {MOST_LOSSES} times before it got to a result (a crash, or the memory ran out)",
            )
            self._on_change(self.ledger.trials[name])

    def _fail(self, record: TrialRecord, reason: str) -> None:
        self.ledger.append("failed", trial=record.name, reason=reason)
        if study := self._study_of(record):
            study.failed(record.number, reason)
        self._ended(record.name)

    def _study_of(self, record: TrialRecord) -> StrategyStudy | None:
        """The study that hears of a trial; of a repetition none does."""
        return None if record.repeats else self._studies[record.strategy]

    def _ended(self, name: str) -> None:
        self._active.discard(name)
        strategy = self.ledger.trials[name].strategy
        if strategy == TEACHER_STRATEGY:
            self._choose_teacher()
        self._discard_files(name)

    def _choose_teacher(self) -> None:
        """Once all baselines have ended, the best is the teacher; without one, who needs it is skipped."""
        if self.ledger.teacher is not None or not self._baselines_ended():
            return
        finished = [trial for trial in self.ledger.of(TEACHER_STRATEGY) if trial.state == "finished"]
        if finished:
            best = max(finished, key=lambda trial: (trial.score, -trial.number))
            self.ledger.append("teacher", trial=best.name)
            return
        for strategy in self._studies:
            if trainable_class(strategy).needs_teacher and strategy not in self.ledger.skipped:
                self.ledger.append("skipped", strategy=strategy, reason="no teacher: every baseline trial failed")

    def _baselines_ended(self) -> bool:
        waiting = any(record.strategy == TEACHER_STRATEGY for record in self._again)
        asked = self.ledger.asked(TEACHER_STRATEGY) >= self._budget
        return asked and not waiting and all(trial.state != "running" for trial in self.ledger.of(TEACHER_STRATEGY))

    def _discard_files(self, name: str) -> None:
        """Drop what will not be used again: trials that ended early, checkpoints, and models that others surpass."""
        record = self.ledger.trials[name]
        if record.state != "finished":
            self._discard(self._folder.delete_folder, f"{TRIALS}/{name}")
            return
        if record.repeats:
            self._discard(self._delete_checkpoints, name, keep_last=False)
            return
        rivals = [self.ledger.trials[rival] for rival in (*self._models[record.strategy], name)]
        best = best_trials(rivals, self._keep, objectives_of(record.strategy))
        continued = self._continued()
        kept = {trial.name for trial in best} | continued
        for trial in rivals:
            if trial.name in kept or trial.name == self.ledger.teacher:
                self._discard_checkpoints(trial.name, keep_last=trial is best[0] or trial.name in continued)
                continue
            for of in (trial, *repetitions_of(self.ledger.trials, trial.name)):
                self._discard(self._folder.delete_folder, f"{TRIALS}/{of.name}")
        self._models[record.strategy] = [trial.name for trial in rivals if trial.name in kept]

    def _discard_checkpoints(self, name: str, *, keep_last: bool) -> None:
        """The last one of a strategy's best trial stays, so that it can be trained for longer."""
        if name in self._without_checkpoints:
            return
        self._discard(self._delete_checkpoints, name, keep_last=keep_last)
        if not keep_last:
            self._without_checkpoints.add(name)

    def _continued(self) -> set[str]:
        """Trials whose last checkpoint another may still go on from."""
        running = (trial.continues for trial in self.ledger.trials.values() if trial.state == "running")
        return {trial.name for trial in self._further}.union(name for name in running if name)

    def _delete_checkpoints(self, name: str, *, keep_last: bool) -> None:
        for path in checkpoints_of(self._folder, name)[: -1 if keep_last else None]:
            self._folder.delete_folder(path)

    def _discard(self, delete: Callable[..., None], *what: str, **how: bool) -> None:
        """Gigabytes take a while to go, and the next trial need not wait for it."""

        def halting_delete() -> None:
            if self.halted is None:
                with self.halting_on_storage_errors():
                    delete(*what, **how)

        if self._discarding is None:
            halting_delete()
        else:
            self._discarding.submit(halting_delete)

    def _discard_leftovers(self) -> None:
        """A process that was killed may have recorded a trial's end, and left its files."""
        best = [best_trials(self.ledger.of(name), 1, objectives_of(name))[:1] for name in self._studies]
        kept = {trial.name for trials in best for trial in trials} | self._continued()
        for name in self._folder.names(TRIALS):
            state = self.ledger.trials[name].state if name in self.ledger.trials else "running"
            if name in self._failed_repetitions:  # it runs again under the same name, maybe at once
                self._folder.delete_folder(f"{TRIALS}/{name}")
            elif state in ("stopped", "failed"):
                self._discard(self._folder.delete_folder, f"{TRIALS}/{name}")
            elif state == "finished":
                self._discard_checkpoints(name, keep_last=name in kept)


def to_continue(ledger: Ledger, strategies: Iterable[str], epochs: int) -> list[TrialRecord]:
    """The best finished trial of each strategy, where it was trained, and for fewer epochs than asked."""
    continued = {trial.continues for trial in ledger.trials.values() if trial.until == epochs}
    best = [best_trials(ledger.of(strategy), 1, objectives_of(strategy))[:1] for strategy in strategies]
    return [t for trials in best for t in trials if 0 < len(t.epochs) < epochs and t.name not in continued]


def repetition_name(trial: str, seed_number: int) -> str:
    """Of the trial, or its folder, that is trained again with another seed."""
    return f"{trial}-seed{seed_number}"


def missing_repetitions(
    ledger: Ledger, strategies: Iterable[str], seeds: int, again: Collection[str] = ()
) -> list[tuple[TrialRecord, int]]:
    """The trials still to be trained with other seeds, each with the seed's number, in the order to run them.

    They are the best of each strategy and, before it, the trial that its model starts from. Where that fails with a
    seed, those that start from it are not trained with that seed.

    Args:
        again: failed repetitions that are to run once more.
    """
    asked: list[tuple[TrialRecord, int]] = []
    for seed_number in range(1, seeds):
        for strategy in strategies:
            best = best_trials(ledger.of(strategy), 1, objectives_of(strategy))[:1]
            for trial in best:
                teacher = ledger.trials[trial.teacher.removeprefix(f"{TRIALS}/")] if trial.teacher else None
                started = ledger.trials.get(repetition_name(teacher.name, seed_number)) if teacher else None
                if started is not None and started.state == "failed" and started.name not in again:
                    continue
                asked += [(of, seed_number) for of in (teacher, trial) if of is not None]
    waiting = {(of.name, seed_number): (of, seed_number) for of, seed_number in asked}
    done = ledger.trials.keys() - set(again)
    return [pair for (name, n), pair in waiting.items() if repetition_name(name, n) not in done]
