"""Trials at once against threads of each: which layout of a machine's cores trains more examples per second.

    python -m benchmarks.threads --json threads.json

Layouts take turns: as many trials as cores with one thread each, half as many with two, down to one trial with all.
Every trial is a separate process, as in a search, and trains the same examples.
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from analysis.evaluation.costs import machine
from benchmarks.common import add_input_options, inputs_of, start_trial
from search_spaces import paper_configuration
from trainables.base import TrainSettings
from trainables.baseline import BaselineTrial

Layout = tuple[int, int]
"""Number of trials at once, and threads of each."""


def layouts_of(cores: int) -> list[Layout]:
    """From one thread each to one trial with all cores, doubling."""
    threads = [1 << power for power in range(cores.bit_length()) if 1 << power < cores]
    return [(cores // count, count) for count in threads] + [(1, cores)]


def train_when_told(orders: Connection, options: argparse.Namespace, epochs: int) -> None:
    """A trial's process: trains an epoch with as many threads as it is told, until told 0."""
    data, model, _ = inputs_of(options, options.unit, options.max_length)
    settings = TrainSettings(epochs, 1, "cpu", precision=options.precision)
    trial = start_trial(BaselineTrial, paper_configuration("baseline"), data, model, settings)
    orders.send(len(data.train))
    while threads := orders.recv():
        torch.set_num_threads(threads)
        trial.epoch()
        orders.send(None)


def compare(options: argparse.Namespace, layouts: Sequence[Layout]) -> list[dict[str, Any]]:
    """Each layout's examples per second (median of the rounds), of all its trials together."""
    spawn = multiprocessing.get_context("spawn")
    pipes = [spawn.Pipe() for _ in range(max(trials for trials, _ in layouts))]
    epochs = len(layouts) * options.rounds
    trials = [spawn.Process(target=train_when_told, args=(theirs, options, epochs), daemon=True) for _, theirs in pipes]
    for trial in trials:
        trial.start()
    for _, theirs in pipes:
        theirs.close()  # so that a process that dies is an error here, not a wait
    ours = [pipe for pipe, _ in pipes]
    examples, *_ = [pipe.recv() for pipe in ours]
    seconds: dict[Layout, list[float]] = {layout: [] for layout in layouts}
    for number in range(options.rounds):
        for at_once, threads in list(layouts)[:: -1 if number % 2 else 1]:
            start = time.perf_counter()
            for pipe in ours[:at_once]:
                pipe.send(threads)
            for pipe in ours[:at_once]:
                pipe.recv()
            seconds[at_once, threads].append(time.perf_counter() - start)
    for pipe, trial in zip(ours, trials, strict=True):
        pipe.send(0)
        trial.join()
    return [
        {"trials": n, "threads": t, "examples_per_second": n * examples / float(np.median(seconds[n, t]))}
        for n, t in layouts
    ]


def table_of(found: Sequence[dict[str, Any]], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("trials at once", "threads of each", "examples/s", "×"):
        table.add_column(column, justify="right")
    last = found[-1]["examples_per_second"]
    for layout in found:
        rate = layout["examples_per_second"]
        table.add_row(str(layout["trials"]), str(layout["threads"]), f"{rate:.1f}", f"{rate / last:.2f}")
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_input_options(parser)
    parser.add_argument("--unit", choices=["sentence", "note"], default="sentence")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument(
        "--precision", choices=["auto", "float32", "bfloat16"], default="auto", help="as launch takes it"
    )
    parser.add_argument("--rounds", type=int, default=3, help="epochs of each layout (default 3)")
    options = parser.parse_args(arguments)
    found = compare(options, layouts_of(options.threads))
    Console(width=120).print(table_of(found, f"{options.model}, {options.threads} cores, {machine()}"))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "model": options.model, "layouts": found}, indent=2))


if __name__ == "__main__":
    main()
