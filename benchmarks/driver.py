"""What a trial costs the launching process, without Ray and without training, as the search grows.

    python -m benchmarks.driver --json driver.json

Real searcher, scheduler, ledger files and studies' journal on the disk; invented learning curves in virtual time. A
trial's checkpoints are made as empty files, so that they can be dropped. Each row is what a trial cost between one
number of trials and the next, and where that went. CPU time and the counts (flushes, and requests for files next to the
ledger's) depend least on what else the machine does.
"""

import argparse
import functools
import gc
import itertools
import json
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from rich.console import Console
from rich.table import Table

from analysis.evaluation.costs import machine
from benchmarks.invented import InventedCurves
from benchmarks.simulated_cluster import RecordedCurves, SimulatedCluster
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from run_folder.names import EPOCH_PREFIX, LEDGER, TRIALS
from run_folder.settings import SearchSettings
from run_folder.trials import TrialRecord
from search_spaces import STRATEGIES
from tune_jobs.searching.asha import StrategyASHA
from tune_jobs.searching.plan import SearchPlan
from tune_jobs.searching.search import Search
from tune_jobs.searching.study import StrategyStudy
from tune_jobs.searching.study_storage import JOURNAL, study_storage

PARTS: dict[str, list[tuple[Any, str]]] = {
    "TPE": [
        (TPESampler, name) for name in ("infer_relative_search_space", "sample_relative", "sample_independent")
    ],
    "fsync": [(os, "fsync")],
    "journal": [
        (JournalStorage, name)
        for name in (
            "create_new_trial", "set_trial_param", "set_trial_state_values", "set_trial_intermediate_value",
            "set_trial_system_attr", "set_trial_user_attr", "get_all_trials", "get_trial",
        )
    ],
    "ledger": [(Ledger, "append")],
    "files": [(Folder, "names"), (Folder, "exists"), (Folder, "delete_folder")],
    "ASHA": [(StrategyASHA, "on_trial_result")],
}  # fmt: skip
"""The parts whose calls are timed; time that a part spends in another is counted for the other."""

OTHER = "other"
NOT_THE_DRIVERS = "workers"
SHOWN = (*PARTS, OTHER)


class Stopwatch:
    """Seconds, the processor's too, and calls of each part, without those of the parts that it calls."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.cpu: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self._part, self._since, self._cpu_since = OTHER, time.perf_counter(), time.process_time()

    def _turn(self, part: str) -> str:
        now, cpu = time.perf_counter(), time.process_time()
        self.seconds[self._part] += now - self._since
        self.cpu[self._part] += cpu - self._cpu_since
        before, self._part, self._since, self._cpu_since = self._part, part, now, cpu
        return before

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        before = self._turn(name)
        self.calls[name] += 1
        try:
            yield
        finally:
            self._turn(before)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Time every call of ``PARTS`` in the block."""
        with ExitStack() as stack:
            for part, functions in PARTS.items():
                for owner, name in functions:
                    stack.enter_context(patch.object(owner, name, self._timed(part, getattr(owner, name))))
            self._turn(OTHER)
            yield

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(part):
                return function(*args, **kwargs)

        return timed

    def read(self) -> tuple[dict[str, float], dict[str, float], dict[str, int]]:
        self._turn(self._part)
        return dict(self.seconds), dict(self.cpu), dict(self.calls)


@dataclass(frozen=True)
class Mark:
    """What has been counted after a number of trials."""

    trials: int
    seconds: Mapping[str, float]
    cpu: Mapping[str, float]
    calls: Mapping[str, int]
    memory: int
    """Bytes that the process holds."""
    ledger: tuple[int, int]
    """Files and their bytes."""
    journal: int
    """Bytes of the studies' file."""


def _take_mark(home: Path, trials: int, watch: Stopwatch) -> Mark:
    gc.collect()
    ledger = [path.stat().st_size for path in (home / LEDGER).glob("*.json")]
    memory = psutil.Process().memory_info().rss
    return Mark(trials, *watch.read(), memory, (len(ledger), sum(ledger)), (home / JOURNAL).stat().st_size)


@contextmanager
def simulation(
    folder: Folder,
    strategies: Sequence[str],
    trials: int,
    curves: RecordedCurves,
    epochs: int,
    workers: int,
    losses: Sequence[float] = (),
    on_change: Callable[[TrialRecord], None] = lambda record: None,
) -> Iterator[SimulatedCluster]:
    """A search in the folder as ``launch`` starts or resumes it, ``trials`` for each strategy, in virtual time."""
    with study_storage(folder, None) as storage:
        ledger = Ledger(folder)
        studies = {name: StrategyStudy(name, storage, 0, {}) for name in strategies}
        scheduler = StrategyASHA(strategies, epochs, SearchSettings.reduction_factor, known=ledger.events)
        search = Search(folder, ledger, studies, SearchPlan(trials), stopped=scheduler.stopped, on_change=on_change)
        yield SimulatedCluster(folder, search, scheduler, curves, epochs, workers, losses)


def measure(home: Path, strategies: Sequence[str], counts: Sequence[int], epochs: int, workers: int) -> list[Mark]:
    """One search of ``max(counts)`` trials in all, with a mark at the start and after each of ``counts``."""
    watch, marks = Stopwatch(), list[Mark]()

    def changed(record: TrialRecord) -> None:
        with watch.part(NOT_THE_DRIVERS):
            if record.state == "running" and record.epochs:
                directory = home / TRIALS / record.name / f"{EPOCH_PREFIX}{len(record.epochs):04d}"
                directory.mkdir(parents=True, exist_ok=True)
                for name in ("model.safetensors", "training.safetensors", "state.json", "manifest.json"):
                    (directory / name).touch()
            if record.state != "running":
                ended.add(record.name)
                if len(ended) in counts:
                    marks.append(_take_mark(home, len(ended), watch))

    ended: set[str] = set()
    curves = InventedCurves(epochs)
    trials = -(-max(counts) // len(strategies))
    with (
        simulation(Folder(home), strategies, trials, curves, epochs, workers, on_change=changed) as cluster,
        watch.watching(),
    ):
        marks.append(_take_mark(home, 0, watch))
        cluster.run()
    return marks


def costs(marks: Sequence[Mark]) -> list[dict[str, Any]]:
    """What a trial cost between each mark and the next."""
    found = []
    for before, after in itertools.pairwise(marks):
        trials = after.trials - before.trials
        seconds = {part: (after.seconds.get(part, 0.0) - before.seconds.get(part, 0.0)) / trials for part in SHOWN}
        cpu = {part: (after.cpu.get(part, 0.0) - before.cpu.get(part, 0.0)) / trials for part in SHOWN}
        calls = {part: (after.calls.get(part, 0) - before.calls.get(part, 0)) / trials for part in PARTS}
        found.append({
            "from": before.trials,
            "to": after.trials,
            "seconds": sum(seconds.values()),
            "parts": seconds,
            "cpu": sum(cpu.values()),
            "cpu_parts": cpu,
            "calls": calls,
            "memory": (after.memory - before.memory) / trials,
            "ledger_files": (after.ledger[0] - before.ledger[0]) / trials,
            "ledger_bytes": (after.ledger[1] - before.ledger[1]) / trials,
            "journal_bytes": (after.journal - before.journal) / trials,
        })  # fmt: skip
    return found


def shown(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in (
        "trials",
        "ms",
        "CPU ms",
        "without TPE",
        *SHOWN,
        "fsyncs",
        "requests",
        "memory kB",
        "ledger files",
        "kB",
        "journal kB",
    ):
        table.add_column(column, justify="right")
    for row in rows:
        milliseconds = {part: seconds * 1e3 for part, seconds in row["parts"].items()}
        table.add_row(
            f"{row['from']}–{row['to']}", f"{row['seconds'] * 1e3:.1f}", f"{row['cpu'] * 1e3:.1f}",
            f"{(row['cpu'] - row['cpu_parts']['TPE']) * 1e3:.1f}",
            *(f"{milliseconds[part]:.1f}" for part in SHOWN),
            f"{row['calls']['fsync']:.1f}", f"{row['calls']['files']:.1f}", f"{row['memory'] / 1e3:.0f}",
            f"{row['ledger_files']:.1f}", f"{row['ledger_bytes'] / 1e3:.1f}", f"{row['journal_bytes'] / 1e3:.1f}",
        )  # fmt: skip
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 100, 300, 1000], help="of all strategies")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, help="default: baseline alone, then all six")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="on the disk to measure with (default: the temporary one)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    console = Console(width=170)
    record: dict[str, Any] = {"machine": machine(), "load": os.getloadavg()[0]}
    for strategies in [options.strategies] if options.strategies else [["baseline"], list(STRATEGIES)]:
        with tempfile.TemporaryDirectory(dir=options.folder) as home:
            rows = costs(measure(Path(home), strategies, options.trials, options.epochs, options.workers))
        title = f"{', '.join(strategies)}; {options.workers} workers; load {record['load']:.1f}; {machine()}"
        console.print(shown(title, rows))
        record["+".join(strategies)] = rows
    if options.json:
        options.json.write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
