"""What a search of BERT-base costs at scale: its makespan in virtual time, and what it asks of driver and storage.

    python -m benchmarks.scaling --trials 1000 --workers 64 --json scaling.json

The searcher, scheduler, ledger and studies are real, and so are the seconds that they take; learning curves, their
epochs' seconds and node losses are invented. Checkpoints are not written: their bytes are computed. ``docs/scaling.md``
says what is assumed.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import BertConfig, BertForSequenceClassification

from analysis.evaluation.costs import machine
from benchmarks.driver import NOT_THE_DRIVERS, Stopwatch, simulation
from benchmarks.invented import InventedCurves
from run_folder.events import EpochEnded
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from run_folder.names import LEDGER
from search_spaces import STRATEGIES
from tune_jobs.searching.study_storage import JOURNAL

VOCABULARY = 28_996
"""Of Bio_ClinicalBERT."""


def checkpoint_bytes(layers: int = 12) -> dict[str, int]:
    """Tensors of the files that ``Trial.save`` writes of a model that trains all its weights."""
    with torch.device("meta"):
        config = BertConfig(vocab_size=VOCABULARY, num_hidden_layers=layers, num_labels=5)
        model = BertForSequenceClassification(config)
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    moments = 2 * sum(parameter.nbytes for parameter in model.parameters())
    return {"model": weights, "training": moments, "best": weights}


def losses_of(nodes: int, workers_per_node: int, within: float) -> list[float]:
    """Instants at which a worker is lost: those of a node all at once."""
    chance = random.Random(nodes)
    return [when for when in (chance.uniform(0, within) for _ in range(nodes)) for _ in range(workers_per_node)]


def simulate(
    trials: int, workers: int, epochs: int, seconds: tuple[float, float], losses: Sequence[float], home: Path
) -> dict[str, Any]:
    """One search of all strategies, and its second start, at which nothing is left to do."""
    folder, curves, watch = Folder(home), InventedCurves(epochs, seconds), Stopwatch()
    each = -(-trials // len(STRATEGIES))
    with simulation(folder, STRATEGIES, each, curves, epochs, workers, losses) as cluster, watch.watching():
        cluster.run()
        spent, *_ = watch.read()
    start = time.perf_counter()
    with simulation(folder, STRATEGIES, each, curves, epochs, workers):
        resumed = time.perf_counter() - start
    ledger = Ledger(folder)
    events = [path.stat().st_size for path in (home / LEDGER).glob("*.json")]
    states = [trial.state for trial in ledger.trials.values()]
    return {
        "trials": len(states),
        "stopped": states.count("stopped"),
        "failed": states.count("failed"),
        "epochs": sum(isinstance(event, EpochEnded) for event in ledger.events),
        "makespan": cluster.now,
        "busy": cluster.trained,
        "driver": {part: value for part, value in spent.items() if part != NOT_THE_DRIVERS},
        "resume": resumed,
        "ledger_files": len(events),
        "ledger_bytes": sum(events),
        "journal_bytes": (home / JOURNAL).stat().st_size,
    }


def traffic(found: dict[str, Any], sizes: dict[str, int], workers: int, keep: int) -> dict[str, float]:
    """Bytes of checkpoints and models, at most: as if every trial trained all weights of the whole encoder."""
    epoch, model = sum(sizes.values()), sizes["model"]
    finished = found["trials"] - found["stopped"] - found["failed"]
    written = found["epochs"] * epoch + finished * model
    return {
        "written": written,
        "per_second": written / found["makespan"],
        "held": workers * (2 * epoch + model) + len(STRATEGIES) * (keep * model + epoch),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=1000, help="of all strategies")
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--workers-per-node", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--epoch-seconds", type=float, nargs=2, default=(120.0, 480.0), metavar=("LEAST", "MOST"))
    parser.add_argument("--node-losses", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--keep", type=int, default=3)
    parser.add_argument("--ray-seconds", type=float, default=0.38, help="what Ray Tune itself takes of a trial")
    parser.add_argument("--examples", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=128, help="of each example")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    sizes, console = checkpoint_bytes(), Console(width=130)
    nodes = -(-options.workers // options.workers_per_node)
    shared = sizes["model"] + options.examples * (options.tokens * 4 + 16)
    record: dict[str, Any] = {"machine": machine(), "load": os.getloadavg()[0], "checkpoint": sizes, "shared": shared}
    table = Table(title=f"{options.workers} workers; driver on {machine()}, load {record['load']:.1f}")
    table.add_column("")
    rows: dict[str, list[str]] = {}
    within = 0.0
    for lost in (0, *options.node_losses):
        losses = losses_of(lost, options.workers_per_node, within)
        with tempfile.TemporaryDirectory() as home:
            found = simulate(
                options.trials, options.workers, options.epochs, tuple(options.epoch_seconds), losses, Path(home)
            )
        within = within or found["makespan"]
        bytes_of, driver = traffic(found, sizes, options.workers, options.keep), sum(found["driver"].values())
        rays = options.ray_seconds * found["trials"]
        record[f"{lost} nodes lost"] = found | {"traffic": bytes_of, "ray": rays}
        ideal = found["busy"] / options.workers
        table.add_column(f"{lost} nodes lost", justify="right")
        for name, figure in {
            "trials (stopped early, failed)": f"{found['trials']} ({found['stopped']}, {found['failed']})",
            "makespan, h": f"{found['makespan'] / 3600:.2f}",
            "÷ if every worker were always busy": f"{found['makespan'] / ideal:.2f}",
            "driver, s (of it TPE)": f"{driver:.0f} ({found['driver']['TPE']:.0f})",
            "Ray Tune, s, as given": f"{rays:.0f}",
            "both, share of the makespan": f"{(driver + rays) / found['makespan']:.1%}",
            "resume: reading all of it, s": f"{found['resume']:.1f}",
            "ledger files": f"{found['ledger_files']}",
            "ledger, MB": f"{found['ledger_bytes'] / 1e6:.1f}",
            "studies' journal, MB": f"{found['journal_bytes'] / 1e6:.1f}",
            "an epoch's checkpoint, GB, at most": f"{sum(sizes.values()) / 1e9:.2f}",
            "written to the storage, TB, at most": f"{bytes_of['written'] / 1e12:.2f}",
            "MB/s of it over the makespan": f"{bytes_of['per_second'] / 1e6:.0f}",
            "held there at once, GB, at most": f"{bytes_of['held'] / 1e9:.0f}",
            "object store of a node, GB": f"{shared / 1e9:.2f}",
            "sent from the head to nodes, GB": f"{shared * (nodes - 1) / 1e9:.1f}",
        }.items():
            rows.setdefault(name, []).append(figure)
    for name, figures in rows.items():
        table.add_row(name, *figures)
    console.print(table)
    if options.json:
        options.json.write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
