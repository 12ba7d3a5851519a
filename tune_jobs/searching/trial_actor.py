"""The run's one Ray Tune trainable: it runs the trials of every strategy, and keeps their checkpoints."""

import contextlib
import errno
import gc
import json
import logging
import math
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ray import tune

from clinical_notes.batches import TrialData
from run_folder.folder import Folder, storage_reason
from run_folder.logs import Level, close_log, trial_log
from run_folder.names import DEPLOYED, EPOCH_PREFIX, TRIALS, checkpoints_of
from run_folder.results import DeployedResult, EpochResult, Report, Result, StorageFailed, TrialFailed
from trainables import trainable_class
from trainables.base import TrainSettings, Trial, TrialConfig, TrialError
from trainables.parts.deployed import saturates_here, sha256
from trainables.parts.model.encoder import EncoderWeights
from tune_jobs.searching.ray_adapters import REPORT, SUGGESTION
from tune_jobs.searching.search import HALF_BATCHES, OUT_OF_MEMORY, Suggestion

MANIFEST = "manifest.json"
HUNG = "hung"
"""File in a trial's folder: the seconds after which its process was ended."""
SATURATES = (
    "this worker's CPU has no VNNI, so that sums of the 8-bit model may overflow and its figures be too low; "
    "search with 7-bit weights (reduce_range)"
)
CHECKPOINT_SHARE = 0.05
"""Share of a trial's training time that checkpoints may take; where epochs are short, several share one."""
_EPOCH = EPOCH_PREFIX + "{:04d}"


class RunTrainable(tune.Trainable):
    """Runs one trial after another of any strategy, and keeps their checkpoints in the run's folder.

    Checkpoints are ours, not Ray's: a trial continues from its folder wherever and whenever it is started again.
    Epochs that the ledger has and no checkpoint holds are then trained again, but not reported again.
    """

    _log: logging.Logger | None = None

    def setup(  # type: ignore[override]
        self,
        config: dict[str, Any],
        data: TrialData,
        encoder: EncoderWeights,
        settings: TrainSettings,
        folder: Folder,
        epoch_limit: float | None = None,
        checkpoint_share: float = CHECKPOINT_SHARE,
        log_level: Level = "info",
    ) -> None:
        """Prepare for trials.

        Args:
            epoch_limit: seconds that a step may take; a trial that takes longer ends as failed.
            checkpoint_share: share of the training time that checkpoints may take; the last epoch always gets one.
            log_level: lowest level of the messages in the trials' logs.
        """
        self._data, self._encoder, self._settings, self._folder = data, encoder, settings, folder
        self._epoch_limit, self._checkpoint_share = epoch_limit, checkpoint_share
        self._log_level: Level = log_level
        self._checkpoint_seconds: dict[str, float] = {}
        """Seconds that the last checkpoint of each strategy took to write."""
        self._take(config)
        gc.collect()
        gc.freeze()  # the libraries stay, so that collecting between trials need not search them each time

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._take(new_config)
        gc.collect()
        return True

    def _take(self, config: dict[str, Any]) -> None:
        self.cleanup()
        suggestion: Suggestion = config[SUGGESTION]
        self._record = suggestion.record
        self._log = trial_log(self._folder, self._record.name, self._log_level)
        self._trial: Trial | None = None
        self._warnings: list[str] = []
        self._parts = suggestion.parts
        self._reported = len(self._record.epochs)

    def cleanup(self) -> None:
        """End the trial's log."""
        if self._log is not None:
            close_log(self._log)
            self._log = None

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([{"CPU": config["cpus"], "GPU": config["gpus"]}])

    @property
    def _home(self) -> str:
        return f"{TRIALS}/{self._record.name}"

    def step(self) -> dict[str, Any]:
        """The next report of the trial, as Ray takes it; what goes wrong is its reason, not a traceback."""
        result = self._result()
        warnings, self._warnings = self._warnings, []
        self._log_result(result, warnings)
        return ray_result(Report(result, tuple(warnings)))

    def _log_result(self, result: Result, warnings: Sequence[str]) -> None:
        if self._log is None:
            return
        for warning in warnings:
            self._log.warning("%s", warning)
        match result:
            case EpochResult():
                self._log.info(
                    "epoch %d: macro F1 %.4f, training loss %.4f, %.1f s",
                    result.epoch, result.f1, result.train_loss, result.seconds,
                )  # fmt: skip
            case DeployedResult():
                self._log.info(
                    "deployed the model of epoch %d: macro F1 %.4f, %d bytes, %s",
                    result.epoch, result.validation.f1, result.bytes, result.runtime,
                )  # fmt: skip
                self.cleanup()
            case TrialFailed():
                self._log.error("the trial failed; the ledger has the reason")
                self.cleanup()
            case StorageFailed():
                self._log.error("the storage failed")
                self.cleanup()

    def _log_error(self, error: Exception) -> None:
        """The kind of error alone: its message might quote a text."""
        if self._log is not None:
            self._log.error("%s", type(error).__qualname__)

    def _log_start(self, inner: Trial) -> None:
        if self._log is None:
            return
        self._log.info(
            "started on %s: seed %d, %d of %d epochs are trained",
            inner.settings.device, self._record.seed, len(inner.results), inner.epochs,
        )  # fmt: skip
        self._log.debug("hyperparameters: %s", dict(self._record.hyperparameters))

    def _result(self) -> Result:
        try:
            if self._folder.exists(f"{self._home}/{HUNG}"):
                seconds = self._folder.read(f"{self._home}/{HUNG}").decode()
                return TrialFailed(f"an epoch took longer than {seconds} s")
            result = self._result_within_memory()
            if isinstance(result, EpochResult):
                self._reported = result.epoch
            return result
        except OSError as error:
            self._log_error(error)
            return StorageFailed(storage_reason(error))
        except TrialError as error:
            return TrialFailed(str(error))
        except Exception as error:
            self._log_error(error)
            reason = OUT_OF_MEMORY if is_out_of_memory(error) else _reason(error)
            if _is_disk_full(error):
                return StorageFailed(f"the storage failed ({os.strerror(errno.ENOSPC)})")
        return TrialFailed(reason)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """End this process if the block takes too long: nothing else gets a hanging kernel out of the way."""

        def give_up() -> None:
            try:
                self._folder.write(f"{self._home}/{HUNG}", f"{self._epoch_limit:g}".encode())
            finally:  # the storage may be what hangs
                os._exit(1)  # the search starts the trial again, and its next process finds the file

        timer = threading.Timer(self._epoch_limit or 0, give_up)
        timer.daemon = True
        if self._epoch_limit:
            timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _result_within_memory(self) -> Result:
        """The next result; where memory runs out, once more from the last checkpoint, in half batches."""
        try:
            return self._next_result()
        except Exception as error:
            if self._parts > 1 or not is_out_of_memory(error):
                raise
        self._trial, self._parts = None, 2
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._warnings.append(HALF_BATCHES)
        return self._next_result()

    def _next_result(self) -> Result:
        if self._trial is None:
            with self._watched():
                self._trial = self._start()
                self._log_start(self._trial)
            self._unsaved_seconds = 0.0
        if self._reported < len(self._trial.results):  # a finished epoch whose result did not reach the ledger
            return self._trial.results[self._reported]
        trial = self._trial
        while True:
            with self._watched(), self._scratch() as scratch:
                result = self._deploy(scratch, trial) if trial.is_trained else self._train(scratch, trial)
            if not isinstance(result, EpochResult) or result.epoch > self._reported:
                return result

    def _train(self, scratch: Path, trial: Trial) -> EpochResult:
        """The next epoch, with its checkpoint where one is due."""
        result = trial.epoch()
        self._unsaved_seconds += result.seconds
        if self._checkpoint_is_due(trial):
            start = time.perf_counter()
            self._save(scratch, trial)
            self._checkpoint_seconds[self._record.strategy] = time.perf_counter() - start
            self._unsaved_seconds = 0.0
        return result

    def _deploy(self, scratch: Path, trial: Trial) -> DeployedResult:
        result = trial.deploy(scratch / DEPLOYED)
        if saturates_here(result):
            self._warnings.append(SATURATES)
        self._folder.put_folder(scratch / DEPLOYED, f"{self._home}/{DEPLOYED}")
        return result

    def _checkpoint_is_due(self, trial: Trial) -> bool:
        """After the last epoch, from which longer training would continue, and whenever it takes little enough time."""
        took = self._checkpoint_seconds.get(self._record.strategy, 0.0)
        return trial.is_trained or took <= self._checkpoint_share * self._unsaved_seconds

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        path = self._folder.scratch()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _start(self) -> Trial:
        """The trial of the configuration, continued from its last whole checkpoint where it has one."""
        record = self._record
        teacher = None if record.teacher is None else self._folder.child(record.teacher)
        settings = replace(
            self._settings,
            epochs=record.until or self._settings.epochs,
            patience=record.patience,
            parts=self._parts,
            device=self._device(),
        )
        trial = trainable_class(record.strategy)(
            TrialConfig(record.hyperparameters, record.seed, teacher), self._data, self._encoder, settings
        )
        names = filter(None, (record.name, record.continues))
        for checkpoint in (path for name in names for path in reversed(checkpoints_of(self._folder, name))):
            with self._folder.local(checkpoint) as local:
                if _is_whole(local):
                    trial.load(local)
                    return trial
            self._warnings.append(f"checkpoint {checkpoint} is damaged; the one before it is used")
        if record.continues:
            raise TrialError(f"no checkpoint of {record.continues} is left to continue from")
        return trial

    def _device(self) -> str:
        """Where the trial trains; of a shared GPU it may take its share of the memory."""
        if self._settings.device == "cuda" and not torch.cuda.is_available():
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            self._warnings.append(
                f"PyTorch {torch.__version__} cannot use the GPU that Ray gave the trial (CUDA_VISIBLE_DEVICES="
                f"{visible}): no driver, or one too old; it trains on the CPU"
            )
            return "cpu"
        if self._settings.device == "cuda" and self.config["gpus"] < 1:
            torch.cuda.set_per_process_memory_fraction(self.config["gpus"])  # Ray does not enforce its fractions
        return self._settings.device

    def _save(self, scratch: Path, trial: Trial) -> None:
        """Publish a checkpoint (the best weights so far are in it), then delete all but the last two."""
        staged = scratch / "checkpoint"
        staged.mkdir()
        trial.save(staged)
        hashes = {path.name: sha256(path) for path in sorted(staged.iterdir())}
        (staged / MANIFEST).write_text(json.dumps(hashes))
        self._folder.put_folder(staged, f"{self._home}/{_EPOCH.format(len(trial.results))}")
        for path in checkpoints_of(self._folder, self._record.name)[:-2]:
            self._folder.delete_folder(path)


_OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""Parts of the messages of RuntimeErrors: PyTorch's on a CPU, and CUDA's outside PyTorch's allocator."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on a CPU or a GPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        words in str(error) for words in _OUT_OF_MEMORY
    )


def _is_disk_full(error: Exception) -> bool:
    """Whether a library found the disk full: safetensors and ONNX Runtime say so in the message alone."""
    return os.strerror(errno.ENOSPC) in str(error)


def ray_result(report: Report) -> dict[str, Any]:
    """A report as a result of Ray's, with the figures that its scheduler looks at."""
    match report.result:
        case EpochResult(epoch=epoch, f1=f1):
            return {"epoch": epoch, "f1": f1, REPORT: report}
        case DeployedResult(epoch=epoch, validation=validation):
            return {"epoch": epoch, "f1": validation.f1, "done": True, REPORT: report}
        case TrialFailed():
            return {"epoch": -1, "f1": math.nan, "done": True, REPORT: report}
        case StorageFailed():
            return {"epoch": -1, "f1": math.nan, REPORT: report}


def _reason(error: Exception) -> str:
    """One line, cut short: a long message might quote data."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _is_whole(directory: Path) -> bool:
    try:
        hashes = dict(json.loads((directory / MANIFEST).read_text()))
    except (FileNotFoundError, ValueError, TypeError):  # never written, cut short or changed
        return False
    return all((directory / name).exists() and sha256(directory / name) == digest for name, digest in hashes.items())
