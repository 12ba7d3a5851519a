"""How the search stands: a live table on a terminal, plain lines in a pipe."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from run_folder.trials import TrialRecord


def status_table(
    trials: Mapping[str, TrialRecord], strategies: Sequence[str], budget: int, skipped: Mapping[str, str], title: str
) -> Table:
    """Strategy by strategy: trials done, running, stopped, failed, the best validation F1, and its other seeds."""
    table = Table(title=title, title_justify="left")
    table.add_column("strategy")
    for column in ("finished", "stopped early", "failed", "running", "of", "best val F1"):
        table.add_column(column, justify="right")
    repeated = Counter(trial.strategy for trial in trials.values() if trial.repeats and trial.state == "finished")
    if repeated:
        table.add_column("seeds more", justify="right")
    for strategy in strategies:
        mine = [trial for trial in trials.values() if trial.strategy == strategy and trial.of_search]
        counts = [sum(trial.state == state for trial in mine) for state in ("finished", "stopped", "failed", "running")]
        best = max((trial.best_f1 or 0.0 for trial in mine if trial.state != "failed"), default=0.0)
        note = f"{best:.4f}" if best else skipped.get(strategy, "–")
        more = [str(repeated[strategy])] if repeated else []
        table.add_row(strategy, *map(str, counts), str(budget), note, *more)
    return table


USUAL_CYCLES = 2
"""Further cycles to expect before they are dealt: one that gains, and one to compare with."""


class Progress:
    """Shows the search while it runs; a context manager.

    Args:
        budget: trials per strategy.
        ended_before: trials that an earlier process ended; this one's time does not count for them.
        seeds: with which each strategy's best configuration is trained in the end.
        cycles: of the best baseline that may gain; one that does not is expected to follow the search's own training.
    """

    def __init__(
        self,
        console: Console,
        run: str,
        strategies: Sequence[str],
        budget: int,
        epochs: int,
        ended_before: int = 0,
        seeds: int = 1,
        cycles: int = 0,
    ) -> None:
        self._console, self._run, self._strategies = console, run, strategies
        self._budget, self._epochs, self._ended_before, self._seeds = budget, epochs, ended_before, seeds
        self._cycles = cycles
        self._start = time.monotonic()
        self._trials: Mapping[str, TrialRecord] = {}
        self._skipped: Mapping[str, str] = {}
        live = Live(get_renderable=self._table, console=console, refresh_per_second=2, transient=True)
        self._live = live if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def changed(self, record: TrialRecord, trials: Mapping[str, TrialRecord], skipped: Mapping[str, str]) -> None:
        """Called after every event of the search."""
        self._trials, self._skipped = trials, skipped
        if not self._live:
            self._console.print(self._line(record), markup=False, highlight=False, soft_wrap=True)

    def warned(self, record: TrialRecord, message: str) -> None:
        """Called for every warning of a trial; printed on a terminal too, above the table."""
        self._console.print(f"{record.name}: warning: {message}", markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        title = f"{self._run}: {self.time_left()}"
        return status_table(self._trials, self._strategies, self._budget, self._skipped, title)

    def _line(self, record: TrialRecord) -> str:
        elapsed = time.monotonic() - self._start
        f1 = record.best_f1
        figure = f"best val F1 {f1:.4f}" if f1 is not None else ""
        if record.state == "running":
            what = f"epoch {len(record.epochs)}/{record.until or self._epochs}" if record.epochs else "started"
        else:
            what = {"finished": "finished", "stopped": "stopped early", "failed": f"failed: {record.reason}"}[
                record.state
            ]
        return f"[{elapsed:6.1f} s] {record.name:<18} {what:<14} {figure}".rstrip()

    def time_left(self) -> str:
        """Estimate from the time that ended trials took, stopped ones included."""
        ended = sum(trial.state != "running" for trial in self._trials.values())
        strategies = len([name for name in self._strategies if name not in self._skipped])
        dealt = sum(trial.trains_on is not None and not trial.repeats for trial in self._trials.values())
        cycles = max(dealt, USUAL_CYCLES) if self._cycles else dealt
        total = max((self._budget + self._seeds - 1) * strategies + cycles * self._seeds, ended)
        ended_here = ended - self._ended_before
        if ended_here <= 0:
            return f"{ended} of {total} trials, time left not known yet"
        minutes = (time.monotonic() - self._start) / ended_here * (total - ended) / 60
        return f"{ended} of {total} trials, about {minutes:.1f} min left"
