"""The search of a whole run, without Ray: which trial comes next, and what its results mean."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.run import EPOCH_PREFIX, TRIALS, TrialRecord, best_trials
from clinical_notes.storage import Folder
from search_spaces import objectives_of
from trainables import trainable_class
from trainables.parts.teaching import LOGITS_FILE
from tune_jobs.ledger import Ledger
from tune_jobs.studies import StrategyStudy, seed_of

TEACHER_STRATEGY = "baseline"

RESULT_KEYS = ("epoch", "f1", "accuracy", "precision", "recall", "auroc", "train_loss", "selectable", "seconds")
"""What the ledger keeps of an epoch's result."""


@dataclass(frozen=True)
class Suggestion:
    """A trial to run: a new one, or one that goes on."""

    record: TrialRecord

    def config(self) -> dict[str, Any]:
        """What the trial's actor is told."""
        return {
            "trial": self.record.name,
            "strategy": self.record.strategy,
            "hyperparameters": dict(self.record.hyperparameters),
            "seed": self.record.seed,
            "teacher": self.record.teacher,
            "known_epochs": len(self.record.epochs),
        }


class Search:
    """Deals the next trial to the strategy furthest behind its budget, and keeps ledger and studies in step.

    Args:
        trials: budget of trials, per strategy.
        keep: finished trials per strategy whose models stay on the storage, best first.
        on_change: called after every event, with the trial it is about.
    """

    def __init__(
        self,
        folder: Folder,
        ledger: Ledger,
        studies: Mapping[str, StrategyStudy],
        trials: int,
        seed: int,
        keep: int = 3,
        on_change: Callable[[TrialRecord], None] = lambda record: None,
    ) -> None:
        self._folder, self.ledger, self._studies = folder, ledger, studies
        self._budget, self._seed, self._keep, self._on_change = trials, seed, keep, on_change
        for strategy, study in studies.items():
            for record in ledger.of(strategy):
                study.restore(record)
        self._unfinished = [record for record in ledger.trials.values() if record.state == "running"]
        self._active: set[str] = set()
        self._logits_seen = False
        if TEACHER_STRATEGY in studies:
            self._choose_teacher()

    @property
    def done(self) -> bool:
        """Whether no trial is running and none is left to suggest."""
        return not self._active and not self._unfinished and not self._open_strategies()

    def suggest(self) -> Suggestion | None:
        """The next trial, or None while there is nothing to start."""
        if self._unfinished:
            record = self._unfinished.pop(0)
        else:
            ready = [strategy for strategy in self._open_strategies() if self._ready(strategy)]
            if not ready:
                return None
            record = self._new_trial(min(ready, key=lambda strategy: len(self.ledger.of(strategy))))
        self._active.add(record.name)
        self._on_change(record)
        return Suggestion(record)

    def _open_strategies(self) -> Sequence[str]:
        return [
            strategy
            for strategy in self._studies
            if strategy not in self.ledger.skipped and len(self.ledger.of(strategy)) < self._budget
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
        name = f"{strategy}-{number:04d}"
        self.ledger.append(
            "suggested",
            trial=name,
            strategy=strategy,
            number=number,
            seed=seed_of(self._seed, strategy, number, "training"),
            hyperparameters=hyperparameters,
            distributions=distributions,
            teacher=f"{TRIALS}/{self.ledger.teacher}" if trainable_class(strategy).needs_teacher else None,
        )
        return self.ledger.trials[name]

    def report(self, name: str, result: Mapping[str, Any]) -> None:
        """Record a result: a finished epoch, a deployed model, or a failure."""
        record = self.ledger.trials[name]
        if record.state != "running":
            return
        if result.get("failed"):
            self._fail(record, str(result["failed"]))
        elif "final" in result:
            self.ledger.append("finished", trial=name, final=result["final"])
            self._studies[record.strategy].finished(record.number, result["final"])
            self._ended(name)
        elif result["epoch"] == len(record.epochs) + 1:  # a restarted worker repeats what is known
            kept = {key: result[key] for key in RESULT_KEYS}
            self.ledger.append("epoch", trial=name, result=kept)
            self._studies[record.strategy].report(record.number, result["epoch"], float(result["f1"]))
        self._on_change(self.ledger.trials[name])

    def stop(self, name: str) -> None:
        """Record that the scheduler stopped a trial."""
        record = self.ledger.trials[name]
        if record.state != "running":
            return
        self.ledger.append("stopped", trial=name)
        self._studies[record.strategy].stopped(record.number)
        self._ended(name)
        self._on_change(self.ledger.trials[name])

    def fail(self, name: str, reason: str) -> None:
        """Record that a trial broke."""
        record = self.ledger.trials[name]
        if record.state == "running":
            self._fail(record, reason)
            self._on_change(self.ledger.trials[name])

    def _fail(self, record: TrialRecord, reason: str) -> None:
        self.ledger.append("failed", trial=record.name, reason=reason)
        self._studies[record.strategy].failed(record.number, reason)
        self._ended(record.name)

    def _ended(self, name: str) -> None:
        self._active.discard(name)
        strategy = self.ledger.trials[name].strategy
        if strategy == TEACHER_STRATEGY:
            self._choose_teacher()
        self._discard_files(name)

    def _choose_teacher(self) -> None:
        """Once all baselines have ended, the best is the teacher; without one, who needs it is skipped."""
        baselines = self.ledger.of(TEACHER_STRATEGY)
        ended = len(baselines) >= self._budget and all(trial.state != "running" for trial in baselines)
        if self.ledger.teacher is not None or not ended:
            return
        finished = [trial for trial in baselines if trial.state == "finished"]
        if finished:
            best = max(finished, key=lambda trial: (trial.score, -trial.number))
            self.ledger.append("teacher", trial=best.name)
            return
        for strategy in self._studies:
            if trainable_class(strategy).needs_teacher and strategy not in self.ledger.skipped:
                self.ledger.append("skipped", strategy=strategy, reason="no teacher: every baseline trial failed")

    def _discard_files(self, name: str) -> None:
        """Drop what will not be used again: trials that ended early, checkpoints, and models that others surpass."""
        record = self.ledger.trials[name]
        if record.state != "finished":
            self._folder.delete_folder(f"{TRIALS}/{name}")
            return
        for file in self._folder.names(f"{TRIALS}/{name}"):
            if file.startswith(EPOCH_PREFIX):
                self._folder.delete_folder(f"{TRIALS}/{name}/{file}")
        finished = [trial for trial in self.ledger.of(record.strategy) if trial.state == "finished"]
        kept = {trial.name for trial in best_trials(finished, self._keep, objectives_of(record.strategy))}
        for trial in finished:
            if trial.name not in kept and trial.name != self.ledger.teacher:
                self._folder.delete_folder(f"{TRIALS}/{trial.name}")
