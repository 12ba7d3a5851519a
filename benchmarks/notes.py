"""Notes per second of ``symptune launch``'s preparation, against pandas and a regular expression per term per note.

    python -m benchmarks.notes --json notes.json

Notes are invented, as many and as long as MIMIC-III's (``benchmarks.many_notes``). Ours reads the file in chunks,
annotates on all cores and makes split examples. The other side reads the whole file with ``pandas.read_csv``, then
searches each note for each of the lexicon's surface forms; negation, sentences and cleaning are not asked of it. Each
side is a separate process, and they take turns. ``--ray-workers 1 2`` adds annotation through Ray Data.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.many_notes import MIMIC_NOTES, write_many_notes
from clinical_notes.annotate import Annotator
from clinical_notes.lexicon import expression_of, load_lexicon
from clinical_notes.notes import read_notes
from clinical_notes.tables.tally import Tally

REACH, MOST_GB = 10.0, 2.0
OURS, OTHER = "symptune", "pandas, a regex per term"
_SECONDS_BETWEEN_LOOKS = 0.2


def ours(path: Path, unit: Literal["note", "sentence"]) -> dict[str, Any]:
    """Prepare examples as ``launch`` does, on all cores."""
    from tune_jobs.check_settings import run_settings
    from tune_jobs.preparing.create_run import make_run_examples

    start = time.perf_counter()
    examples = make_run_examples(
        run_settings(task="multiclass", notes=str(path), unit=unit), workers=os.cpu_count() or 1
    )
    return {
        "seconds": time.perf_counter() - start,
        "examples": sum(map(len, examples.splits.values())),
        "fingerprint": examples.fingerprint(),
    }


def other(path: Path, notes: int) -> dict[str, Any]:
    """Read all of the file; look for each term in the first ``notes``."""
    start = time.perf_counter()
    texts = pd.read_csv(path)["TEXT"]
    reading = time.perf_counter() - start
    terms = [
        (concept.name, re.compile(rf"\b{re.escape(form)}\b", re.IGNORECASE))
        for concept in load_lexicon().concepts.values()
        for form in (*concept.forms, *concept.negative)
        if expression_of(form) is None
    ]
    start = time.perf_counter()
    found = [{name for name, term in terms if term.search(text)} for text in texts[:notes]]
    return {
        "reading": reading,
        "searching": time.perf_counter() - start,
        "read": len(texts),
        "searched": len(found),
        "with_a_term": sum(map(bool, found)),
        "terms": len(terms),
    }


def through_ray(path: Path, unit: Literal["note", "sentence"], workers: int) -> dict[str, Any]:
    """Annotate the file through Ray Data on a cluster of this machine with this number of CPUs."""
    import ray

    from tune_jobs.cluster.connection import QUIET
    from tune_jobs.preparing.notes_on_cluster import annotate_on_cluster

    os.environ.update(QUIET)
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        annotator = Annotator(load_lexicon(), unit)
        list(annotate_on_cluster(partial(read_notes, path, sample=0.001), annotator, Tally()))  # starts its processes
        start = time.perf_counter()
        units = sum(map(len, annotate_on_cluster(partial(read_notes, path), annotator, Tally())))
        return {"seconds": time.perf_counter() - start, "units": units}
    finally:
        ray.shutdown()


@contextmanager
def _watched(process: "subprocess.Popen[str]") -> Iterator[list[int]]:
    """Highest sum of the resident memory of a process and its descendants, what they share counted once (PSS)."""
    peak, done = [0], threading.Event()

    def look() -> None:
        while not done.wait(_SECONDS_BETWEEN_LOOKS):
            total = 0
            for one in _family(process.pid):
                try:
                    total += one.memory_full_info().pss
                except psutil.Error:
                    continue  # it has just ended
            peak[0] = max(peak[0], total)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def apart(side: str, *arguments: Any) -> dict[str, Any]:
    """One side in a separate process: what it found, and its peak memory in GB."""
    command = [sys.executable, "-m", "benchmarks.notes", "--side", side, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, _watched(process) as peak:
        printed, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{side} ended with {process.returncode}")
    return {**json.loads(printed.splitlines()[-1]), "peak_gb": peak[0] / 1e9}


def compare(path: Path, notes: int, other_notes: int, unit: str, rounds: int) -> dict[str, Any]:
    """Both sides in turn; seconds are medians of the rounds, memory is the highest."""
    found: dict[str, list[dict[str, Any]]] = {OURS: [], OTHER: []}
    for number in range(rounds):
        for name in (OURS, OTHER)[:: -1 if number % 2 else 1]:
            found[name].append(apart("ours", path, unit) if name == OURS else apart("other", path, other_notes))
    per_note = {
        OURS: [one["seconds"] / notes for one in found[OURS]],
        OTHER: [one["reading"] / one["read"] + one["searching"] / one["searched"] for one in found[OTHER]],
    }
    return {
        "notes": notes,
        "unit": unit,
        "notes_per_second": {name: 1 / float(np.median(seconds)) for name, seconds in per_note.items()},
        "reading_seconds": float(np.median([one["reading"] for one in found[OTHER]])),
        "ratio": float(np.median(np.array(per_note[OTHER]) / np.array(per_note[OURS]))),
        "peak_gb": {name: max(one["peak_gb"] for one in of_side) for name, of_side in found.items()},
        "rounds": found,
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--file", type=Path, help="notes to use; made there if it does not exist")
    parser.add_argument("--notes", type=int, default=MIMIC_NOTES, help="to make (default: MIMIC-III's 2,083,180)")
    parser.add_argument("--other-notes", type=int, default=2_000, help="that the other side searches (default 2,000)")
    parser.add_argument("--unit", choices=("sentence", "note"), default="sentence")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--ray-workers", type=int, nargs="*", default=[], help="CPUs of local Ray clusters, such as 1 2"
    )
    parser.add_argument("--only-ray", action="store_true", help="leave the two sides out")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--side", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.side:
        name, path, *more = options.side
        side: Any = {"ours": ours, "other": other, "ray": through_ray}[name]
        print(json.dumps(side(Path(path), *(int(one) if one.isdigit() else one for one in more))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        path = options.file or Path(temporary) / "NOTEEVENTS.csv.gz"
        if not path.exists():
            write_many_notes(path, options.notes)
        notes = sum(map(len, read_notes(path)))
        figures = {} if options.only_ray else compare(path, notes, options.other_notes, options.unit, options.rounds)
        ray = {workers: apart("ray", path, options.unit, workers) for workers in options.ray_workers}
    figures |= {"cores": os.cpu_count(), "ray": ray}
    show(figures, notes)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


def show(figures: dict[str, Any], notes: int) -> None:
    console = Console(width=120)
    if "ratio" in figures:
        table = Table(title=f"{notes:,} notes, {figures['cores']} cores, unit {figures['unit']}", title_justify="left")
        for column in ("side", "searched", "notes/s", "×", "reach", "peak memory, GB", "at most"):
            table.add_column(column, justify="left" if column == "side" else "right")
        searched = {OURS: notes, OTHER: figures["rounds"][OTHER][0]["searched"]}
        for name, rate in figures["notes_per_second"].items():
            ratio = [f"{figures['ratio']:.1f}", f"≥ {REACH:g}"] if name == OURS else ["", ""]
            most = f"{MOST_GB:g}" if name == OURS else ""
            table.add_row(name, f"{searched[name]:,}", f"{rate:,.0f}", *ratio, f"{figures['peak_gb'][name]:.2f}", most)
        console.print(table)
        console.print(f"The other side's read_csv: {figures['reading_seconds']:.1f} s, in its notes/s by its share.")
    if figures["ray"]:
        table = Table(title=f"Ray Data, {notes:,} notes, {figures['cores']} cores", title_justify="left")
        for column in ("workers", "seconds", "notes/s", "× the first"):
            table.add_column(column, justify="right")
        first = next(iter(figures["ray"].values()))["seconds"]
        for workers, one in figures["ray"].items():
            table.add_row(
                str(workers), f"{one['seconds']:.1f}", f"{notes / one['seconds']:,.0f}", f"{first / one['seconds']:.2f}"
            )
        console.print(table)


if __name__ == "__main__":
    main()
