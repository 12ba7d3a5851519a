"""What a search on a real Ray cluster costs besides its training, and how soon a free slot trains again.

    python -m benchmarks.orchestration --trials 40 --seconds 20 --json orchestration.json

Random examples, as many as make a trial of ``--seconds``, and a BERT of random weights. The other side is Ray Tune by
itself: reused actors that build the same model and then sleep, which leaves the driver the core that training would
take, and write no checkpoint: compare the seconds next to a trial. Ray's start and its actors' first imports are left
out: time counts from the first training step to the end of the last trial.
"""

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from ray import tune
from rich.console import Console
from rich.table import Table
from transformers import BertConfig, BertForSequenceClassification

from analysis.evaluation.costs import machine
from clinical_notes.batches import TokenisedExamples, TrialData
from run_folder.folder import Folder
from run_folder.names import LEDGER
from run_folder.settings import ModelSettings
from search_spaces import paper_configuration
from trainables import trainable_class
from trainables.base import TrainSettings, TrialConfig
from trainables.parts.model.encoder import EncoderWeights
from tune_jobs.check_settings import run_settings
from tune_jobs.cluster.connection import connected
from tune_jobs.execution import Execution, TrialResources
from tune_jobs.preparing.create_run import Prepared
from tune_jobs.searching import run_search as searching
from tune_jobs.searching.run_search import search
from tune_jobs.searching.trial_actor import RunTrainable

SYMPTOMS = ("a", "b", "c")
VOCABULARY = 1000
TIMES = "times"
BATCH = 32


class TimedTrainable(RunTrainable):
    """Leaves in ``times/TRIAL.json`` when its model was ready and how long each of its steps took."""

    def _start(self) -> Any:
        inner = super()._start()
        self._times: dict[str, Any] = {"asked": self._asked, "ready": time.time(), "seconds": []}
        return inner

    def setup(self, config: dict[str, Any], **given: Any) -> None:  # type: ignore[override]
        self._asked = time.time()
        super().setup(config, **given)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._asked = time.time()
        return super().reset_config(new_config)

    def step(self) -> dict[str, Any]:
        result = super().step()
        self._times["seconds"].append(result["seconds"])
        self._folder.write(f"{TIMES}/{self._record.name}.json", json.dumps(self._times).encode())
        return result


class BareTrainable(tune.Trainable):
    """Builds the model and sleeps."""

    def setup(self, config: dict[str, Any], encoder: EncoderWeights, seconds: float, folder: Path) -> None:  # type: ignore[override]
        self._encoder, self._seconds, self._folder = encoder, seconds, folder
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._asked = time.time()
        self._model = self._encoder.build()
        return True

    def step(self) -> dict[str, Any]:
        times: dict[str, Any] = {"asked": self._asked, "ready": time.time()}
        time.sleep(self._seconds)
        times |= {"ended": time.time(), "seconds": [self._seconds]}
        (self._folder / f"{self.trial_id}.json").write_text(json.dumps(times))
        return {"f1": 0.0, "done": True}


def some_examples(size: int, length: int) -> TokenisedExamples:
    generator = np.random.default_rng(size)
    return TokenisedExamples(
        ids=np.array([str(i) for i in range(size)]),
        tokens=generator.integers(5, VOCABULARY, size * length).astype(np.int32),
        offsets=np.arange(size + 1, dtype=np.int64) * length,
        labels=np.arange(size, dtype=np.int64) % len(SYMPTOMS),
    )


def some_data(size: int, length: int) -> TrialData:
    return TrialData(some_examples(size, length), some_examples(BATCH, length), SYMPTOMS, None, 0, 1)


def encoder_of(layers: int, width: int) -> EncoderWeights:
    config = BertConfig(
        vocab_size=VOCABULARY, num_hidden_layers=layers, hidden_size=width, intermediate_size=4 * width,
        num_attention_heads=max(1, width // 64), num_labels=len(SYMPTOMS),
    )  # fmt: skip
    return EncoderWeights.of(BertForSequenceClassification(config))


def data_for(seconds: float, epochs: int, length: int, encoder: EncoderWeights) -> TrialData:
    """As many examples as one process needs to train a trial in about ``seconds``."""
    batches = 8
    for _ in range(2):  # a short epoch takes longer for each batch than one of the size that it leads to
        took = seconds_of_an_epoch(some_data(batches * BATCH, length), encoder)
        batches = max(1, round(batches * seconds / epochs / took))
    return some_data(batches * BATCH, length)


def seconds_of_an_epoch(data: TrialData, encoder: EncoderWeights) -> float:
    """The second one's, by this process and one thread."""
    config = TrialConfig({**paper_configuration("baseline"), "batch_size": BATCH}, seed=0)
    settings = TrainSettings(epochs=2, threads=1, precision=ModelSettings.precision)
    trial = trainable_class("baseline")(config, data, encoder, settings)
    return [trial.epoch().seconds for _ in range(2)][-1]


def run_search(
    home: Path, trials: int, workers: int, epochs: int, data: TrialData, encoder: EncoderWeights
) -> list[dict[str, Any]]:
    """Times of each trial of a search by this project."""
    settings = run_settings(task="multiclass", 
        strategies=("baseline",), trials=trials, epochs=epochs, cycles=0, reduction_factor=0,
        max_length=64,
        space={"baseline": {"batch_size": BATCH}},
    )  # fmt: skip
    execution = Execution(TrialResources(cpus=1), max_concurrent=workers)
    with patch.object(searching, "RunTrainable", TimedTrainable):
        search(Folder(home), settings, Prepared(data, encoder), execution, Console(file=io.StringIO()))
    found = {path.stem: json.loads(path.read_text()) for path in (home / TIMES).glob("*.json")}
    failed = list((home / LEDGER).glob("*-failed.json"))
    if failed:
        raise RuntimeError(f"{len(failed)} trials failed: {failed[0].read_text()}")
    for path in (home / LEDGER).glob("*.json"):
        event, kind = json.loads(path.read_text()), {"suggested": "suggested", "finished": "ended"}
        if event["event"] in kind:
            found[event["trial"]][kind[event["event"]]] = path.stat().st_mtime
    return list(found.values())


def run_bare(home: Path, trials: int, workers: int, seconds: float, encoder: EncoderWeights) -> list[dict[str, Any]]:
    """Times of each trial of Ray Tune by itself."""
    times = home / TIMES
    times.mkdir()
    with connected(None, False):
        trainable = tune.with_resources(
            tune.with_parameters(BareTrainable, encoder=encoder, seconds=seconds, folder=times), {"cpu": 1}
        )
        results = tune.Tuner(
            trainable,
            param_space={"x": tune.uniform(0, 1)},
            tune_config=tune.TuneConfig(
                metric="f1", mode="max", num_samples=trials, max_concurrent_trials=workers, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                name="ray",
                storage_path=str(home),
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        ).fit()
    if results.num_errors:
        raise RuntimeError(f"{results.num_errors} trials of Ray Tune by itself failed: {results.errors[0]}")
    return [json.loads(path.read_text()) for path in times.glob("*.json")]


def figures(times: Sequence[dict[str, Any]], workers: int) -> dict[str, float]:
    """Seconds; a slot that the n-th trial to end leaves goes to the n-th trial to start after the first ``workers``."""
    starts, ends = sorted(times, key=lambda t: t["ready"]), sorted(t["ended"] for t in times)
    later = list(zip(starts[workers:], ends, strict=False))
    wall = ends[-1] - starts[0]["ready"]
    trained = sum(sum(t["seconds"]) for t in times)
    found = {
        "trials": len(times),
        "seconds of a trial": trained / len(times),
        "overhead": (wall * workers - trained) / trained,
        "overhead of a trial": (wall * workers - trained) / len(times),
        "slot free to first step": statistics.median([t["ready"] - end for t, end in later]),
        "of it the model": statistics.median([t["ready"] - t["asked"] for t, _ in later]),
    }
    if "suggested" in times[0]:
        found["of it until dealt"] = statistics.median([t["suggested"] - end for t, end in later])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, nargs="+", default=[20])
    parser.add_argument("--seconds", type=float, nargs="+", default=[1.0, 20.0], help="of a trial, about")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--length", type=int, default=32, help="tokens of each text")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    encoder, console = encoder_of(options.layers, options.width), Console(width=130)
    table = Table(title=f"{options.layers} layers, {options.workers} workers, {machine()}", title_justify="left")
    for column in ("side", "trials", "s of a trial", "overhead", "s a trial", "slot → step, s", "model", "dealt"):
        table.add_column(column, justify="left" if column == "side" else "right")
    record: list[dict[str, Any]] = []
    for seconds in options.seconds:
        data = data_for(seconds, options.epochs, options.length, encoder)
        for trials in options.trials:
            for side in ("symptune", "bare Ray Tune"):
                with tempfile.TemporaryDirectory() as temporary:
                    home = Path(temporary)
                    times = (
                        run_search(home, trials, options.workers, options.epochs, data, encoder)
                        if side == "symptune"
                        else run_bare(home, trials, options.workers, seconds, encoder)
                    )
                found = figures(times, options.workers)
                record.append({"side": side, **found})
                table.add_row(
                    side, str(trials), f"{found['seconds of a trial']:.2f}", f"{found['overhead']:.1%}",
                    f"{found['overhead of a trial']:.2f}", f"{found['slot free to first step']:.2f}",
                    f"{found['of it the model']:.2f}", f"{found.get('of it until dealt', 0.0):.2f}",
                )  # fmt: skip
    console.print(table)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "layers": options.layers, "runs": record}, indent=2))


if __name__ == "__main__":
    main()
