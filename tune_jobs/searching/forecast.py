"""About how long a search will take: a few passes are timed on this machine, before anything starts."""

import os
import time
from dataclasses import dataclass

import numpy as np
import torch

from clinical_notes.batches import collate
from run_folder.ledger import Ledger
from run_folder.settings import SearchSettings
from trainables.references import BASELINE
from tune_jobs.execution import Execution
from tune_jobs.preparing.create_run import Prepared
from tune_jobs.searching.progress import USUAL_CYCLES

_EXAMPLES = 8
_GRACE = 2
"""Epochs that ASHA lets every trial train."""
_OTHERWISE = 1.5
"""Factor either way for what is not timed: optimizer, checkpoints, deployment, starting processes, other models."""


@dataclass(frozen=True)
class Forecast:
    """Core-hours of a search, at least and at most, and the trials that run at once (None: not known)."""

    low: float
    high: float
    at_once: int | None

    def in_words(self) -> str:
        """One line; it says what it is of."""
        words = f"{_hours(self.low)} to {_hours(self.high)} of one core's time"
        if self.at_once is not None:
            words = f"{_hours(self.low / self.at_once)} to {_hours(self.high / self.at_once)} ({words})"
        return f"the search takes about {words}, by a few passes timed on this machine"


def _hours(hours: float) -> str:
    minutes = hours * 60
    if minutes < 1:
        return "less than a minute"
    return f"{minutes:.0f} min" if minutes < 90 else f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def forecast(prepared: Prepared, wanted: SearchSettings, ledger: Ledger, execution: Execution) -> Forecast | None:
    """What remains of a search; None where nothing does, or where trials have GPUs.

    Every trial is taken to cost what the baseline does. At least: ASHA stops all but one in ``reduction_factor`` after
    its grace. At most: it stops none.
    """
    trials = sum(max(wanted.trials - ledger.asked(strategy), 0) for strategy in wanted.strategies)
    if not trials or execution.resources.gpus or execution.measure_gpus:
        return None
    settles = BASELINE in wanted.strategies and wanted.cycles and ledger.teacher is None
    cycles = USUAL_CYCLES if settles else 0
    to_the_end = cycles * execution.seeds + (execution.seeds - 1) * len(wanted.strategies)
    grace = min(_GRACE, wanted.epochs)
    stopped = grace + (wanted.epochs - grace) / wanted.reduction_factor if wanted.reduction_factor else wanted.epochs
    hours = epoch_seconds(prepared) / 3600
    at_once = None
    if execution.address is None:
        cores = (os.cpu_count() or 1) / max(execution.resources.cpus, 1)
        at_once = max(1, min(int(cores), execution.max_concurrent or trials, trials))
    return Forecast(
        low=(trials * stopped + to_the_end * wanted.epochs) * hours / _OTHERWISE,
        high=(trials + to_the_end) * wanted.epochs * hours * _OTHERWISE,
        at_once=at_once,
    )


def epoch_seconds(prepared: Prepared) -> float:
    """Of one thread: the run's encoder trained on all training examples once, then run on all validation examples."""
    threads, data = torch.get_num_threads(), prepared.data
    torch.set_num_threads(1)
    try:
        model = prepared.encoder.build()
        spread = np.linspace(0, len(data.train) - 1, min(_EXAMPLES, len(data.train))).astype(np.int64)
        batch = collate(data.train, np.unique(spread), data.pad_token_id)
        batch.pop("labels")
        seconds = []
        for learn in (True, True, False):  # the first is slow, and not counted
            start = time.process_time()
            with torch.set_grad_enabled(learn):
                logits = model(**batch).logits
            if learn:
                logits.square().sum().backward()
            seconds.append((time.process_time() - start) / len(logits))
    finally:
        torch.set_num_threads(threads)
    return seconds[1] * len(data.train) + seconds[2] * len(data.validation)
