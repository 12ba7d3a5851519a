"""A whole search of the baseline against ``transformers.Trainer.hyperparameter_search``.

    python -m benchmarks.search --layers 2 --patients 60 --trials 6 --epochs 3 --json search.json

Same examples, encoder, space, number of trials, epochs and cores: as many trials at once as ``--threads``, of one
thread each. Each search has new processes, and the sides take turns. Run it on an otherwise idle machine.
"""

import argparse
import contextlib
import json
import multiprocessing
import statistics
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import psutil
from rich.console import Console
from rich.table import Table

from analysis.evaluation.costs import machine
from benchmarks import searches
from benchmarks.common import add_input_options, inputs_of
from benchmarks.searches import STRATEGY, Found, Task
from run_folder.settings import EMBEDDED_MODEL
from trainables.parts.model.encoder import EncoderWeights
from tune_jobs.check_settings import EMBEDDED_SPACE, read_space
from tune_jobs.preparing.create_run import Prepared

OURS: Mapping[str, Callable[[Task], Found]] = {
    "symptune": searches.our_search,
    "symptune, float32": searches.our_search,
    "symptune, ASHA": searches.our_search_with_asha,
}
THEIRS: Mapping[str, Callable[..., Found]] = {
    "Trainer, ray": searches.trainer_ray,
    "Trainer, ray, ASHA": searches.trainer_ray_with_asha,
    "Trainer, optuna": searches.trainer_optuna,
}
REACH = {"symptune": 0.5, "symptune, ASHA": 0.25}
"""Largest share of the wall time of Trainer's searches, which stop no trial early."""
MAX_LENGTH = 128
"""The default of ``launch --max-length``."""


class ProcessorTime:
    """CPU seconds of all descendants of this process while the block runs, looked up a few times per second."""

    def __enter__(self) -> Self:
        self._found: dict[int, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.3):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    times = process.cpu_times()
                    self._found[process.pid] = times.user + times.system

    @property
    def seconds(self) -> float:
        return sum(self._found.values())


def run_side(side: str, task: Task) -> Found:
    """One search, in new processes; their imports are part of its ``cpu`` seconds."""
    with tempfile.TemporaryDirectory() as temporary, ProcessorTime() as cpu:
        task = replace(task, home=Path(temporary), precision="float32" if side.endswith("float32") else task.precision)
        parts = [(part,) for part in range(task.threads)] if side == "Trainer, optuna" else [()]
        with ProcessPoolExecutor(len(parts), multiprocessing.get_context("spawn")) as pool:
            futures = [pool.submit((OURS | THEIRS)[side], task, *part) for part in parts]  # type: ignore[operator]
            found = [future.result() for future in futures]
    of_all = {name: max(each[name] for each in found) for name in found[0]}  # the last to end knows all trials
    return {**of_all, "cpu": cpu.seconds}


def compare(task: Task, sides: Sequence[str], rounds: int) -> dict[str, list[Found]]:
    """What each side found in each round; the side that begins changes, and so does the searches' seed."""
    found: dict[str, list[Found]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in list(sides)[:: -1 if number % 2 else 1]:
            found[side].append(run_side(side, replace(task, seed=number)))
            print(f"{side}: {found[side][-1]['seconds']:.0f} s, {found[side][-1]['cpu']:.0f} s of CPU", flush=True)
    return found


def median(found: Sequence[Found], figure: str) -> float:
    return statistics.median(each[figure] for each in found)


def ratios(found: Mapping[str, Sequence[Found]]) -> dict[str, dict[str, float]]:
    """Our wall time over Trainer's: the median of the rounds' ratios."""
    return {
        ours: {
            other: statistics.median(
                a["seconds"] / b["seconds"] for a, b in zip(found[ours], found[other], strict=True)
            )
            for other in THEIRS
            if other in found
        }
        for ours in OURS
        if ours in found
    }


def table_of(found: Mapping[str, Sequence[Found]], title: str) -> Table:
    table, compared = Table(title=title, title_justify="left"), ratios(found)
    others = [side for side in THEIRS if side in found]
    for column in (
        "side",
        "wall, s",
        "CPU, s",
        "epochs",
        "s/epoch",
        "best F1",
        *(f"× {side}" for side in others),
        "reach",
    ):
        table.add_column(column, justify="left" if column == "side" else "right")
    for side, of_side in found.items():
        seconds, epochs = median(of_side, "seconds"), median(of_side, "epochs")
        times = [f"{compared[side][other]:.2f}" if side in OURS else "" for other in others]
        reach = f"≤ {REACH[side]:g}" if side in REACH else ""
        table.add_row(
            side, f"{seconds:.1f}", f"{median(of_side, 'cpu'):.0f}", f"{epochs:.0f}", f"{seconds / epochs:.2f}",
            f"{median(of_side, 'f1'):.4f}", *times, reach,
        )  # fmt: skip
    return table


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_input_options(parser)
    parser.add_argument("--space", type=Path, help="as launch takes it (default: for the embedded MiniLM its own)")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=1, help="searches of each side, each with another seed")
    parser.add_argument("--sides", nargs="+", choices=[*OURS, *THEIRS], metavar="SIDE", help="(default: all)")
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto", help="of our side")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 on Trainer's side")
    options = parser.parse_args(arguments)
    sides = options.sides or [
        side for side in [*OURS, *THEIRS] if side != "symptune, float32" or options.precision != "float32"
    ]
    data, model, tokenizer = inputs_of(options, "sentence", MAX_LENGTH)
    space = options.space or (EMBEDDED_SPACE if options.model == EMBEDDED_MODEL else None)
    task = Task(
        Prepared(data, EncoderWeights.of(model)), tokenizer,
        read_space(space, (STRATEGY,))[STRATEGY] if space else {},
        options.trials, options.epochs, options.threads, 0, options.precision, options.bf16, Path(),
    )  # fmt: skip
    found = compare(task, sides, options.rounds)
    size = f"{len(data.train)} + {len(data.validation)} examples, {options.trials} trials of {options.epochs} epochs"
    Console(width=150).print(table_of(found, f"{options.model}, {size}, {options.threads} at once, {machine()}"))
    record: dict[str, Any] = {
        "machine": machine(), "model": options.model, "layers": options.layers, "threads": options.threads,
        "examples": {"train": len(data.train), "validation": len(data.validation)},
        "mean_length": float(data.train.lengths.mean()), "trials": options.trials, "epochs": options.epochs,
        "precision": options.precision, "bf16": options.bf16, "rounds": found, "ratios": ratios(found),
    }  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
