"""A ledger's trials as TensorBoard logs, one folder each, updated while a search runs."""

from pathlib import Path

from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from run_folder.events import (
    EpochEnded,
    Event,
    Failed,
    Finished,
    Stopped,
    Suggested,
    apply_event,
    read_events,
)
from run_folder.folder import Folder
from run_folder.results import EpochResult
from run_folder.trials import TrialRecord

_SCALARS = ("f1", "accuracy", "precision", "recall", "auroc", "train_loss")
"""Figures of an epoch."""
_DEPLOYED = ("f1", "bytes")
"""Figures of the deployed model: the objectives of searches."""


class TensorBoardLogs:
    """Writes what is new in the ledger at each call of :meth:`update`."""

    def __init__(self, run: Folder, logs: Path) -> None:
        self._run, self._logs = run, logs
        self._events = 0
        self._trials: dict[str, TrialRecord] = {}
        self._writers: dict[str, SummaryWriter] = {}

    def update(self) -> None:
        """Raises: InputError: an event of the ledger is damaged. OSError: the storage failed."""
        for event in read_events(self._run, self._events):
            apply_event(self._trials, event)
            self._events += 1
            self._write(event)
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _write(self, event: Event) -> None:
        match event:
            case Suggested():
                self._begin(self._trials[event.trial])
            case EpochEnded():
                _add_epoch(self._writers[event.trial], event.result)
            case Finished():
                trial = self._trials[event.trial]
                for name in _DEPLOYED:
                    self._writers[event.trial].add_scalar(f"deployed/{name}", trial.figure(name), len(trial.epochs))
                self._end(event.trial, well=True)
            case Stopped():
                self._end(event.trial, well=True)
            case Failed():
                self._end(event.trial, well=False)

    def _begin(self, trial: TrialRecord) -> None:
        self._writers[trial.name] = writer = SummaryWriter(str(self._logs / trial.name))
        # without a description of the experiment TensorBoard gathers all trials' hyperparameters, which differ
        writer.file_writer.add_summary(hparams({"strategy": trial.strategy, **trial.hyperparameters}, {})[1])
        for result in trial.epochs:  # of the trial that it continues
            _add_epoch(writer, result)

    def _end(self, trial: str, *, well: bool) -> None:
        writer = self._writers.pop(trial)
        if well:
            writer.file_writer.add_summary(hparams({}, {})[2])
        writer.close()


def _add_epoch(writer: SummaryWriter, result: EpochResult) -> None:
    for name in _SCALARS:
        value = getattr(result, name)
        if value is not None:
            kind = "training" if name == "train_loss" else "validation"
            writer.add_scalar(f"{kind}/{name}", value, result.epoch)
