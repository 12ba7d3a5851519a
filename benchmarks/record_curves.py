"""Learning curves of random configurations, recorded once on real notes, for searches that are replayed on them.

    python -m benchmarks.record_curves --notes NOTEEVENTS.csv.gz --folder recording --workers 2

Baselines come first; the best of them is the teacher of the other strategies, which then take turns. When killed, it
continues with the same command. What is kept of a trial: its configuration, each epoch's validation macro F1 and
processor seconds, and the deployed model's validation macro F1 and bytes.
"""

import argparse
import gc
import gzip
import json
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import distribution_to_json
from optuna.samplers import RandomSampler
from transformers import PreTrainedModel

from analysis.evaluation.costs import machine
from benchmarks.common import start_trial, trial_data
from clinical_notes.batches import TrialData
from run_folder.errors import InputError
from run_folder.names import DEPLOYED
from run_folder.settings import EMBEDDED_MODEL, SYNTHETIC
from search_spaces import STRATEGIES, paper_configuration
from search_spaces.overrides import narrowed_space, nearest
from trainables import trainable_class
from trainables.base import TrainSettings, TrialError
from trainables.parts.deployed import int8_overflows
from trainables.references import BASELINE
from tune_jobs.check_settings import read_space, run_settings
from tune_jobs.preparing.create_run import make_run_examples, versions
from tune_jobs.preparing.pretrained import load_pretrained
from tune_jobs.searching.study import seed_of

RECORDING = Path(__file__).with_name("recorded_curves.json.gz")
HEADER_FILE, TRIALS_FILE, MODELS = "header.json", "trials.jsonl", "models"

Line = dict[str, Any]
"""One trial: fields of ``TrialRecord``, and the ``seconds`` that its set-up and its deployment took."""


@dataclass(frozen=True)
class Shared:
    """What the trials of a recording share."""

    data: TrialData
    model: PreTrainedModel
    settings: TrainSettings
    seed: int
    overrides: Mapping[str, Mapping[str, Any]]
    models: Path
    """Folder to which deployed models are written."""


def configuration(
    strategy: str, number: int, seed: int, overrides: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Hyperparameters and their distributions (Optuna's JSON): the paper's for number 0, else random ones."""
    study = optuna.create_study(sampler=RandomSampler(seed=seed_of(seed, strategy, number)))
    if number == 0:
        study.enqueue_trial(nearest(strategy, paper_configuration(strategy), overrides))
    trial = study.ask()
    hyperparameters = dict(narrowed_space(strategy, overrides)(trial))
    return hyperparameters, {name: distribution_to_json(d) for name, d in trial.distributions.items()}


def record_trial(shared: Shared, strategy: str, number: int, teacher: str | None) -> Line:
    """Train and deploy one configuration; a baseline's model stays in ``shared.models``, others' go at once."""
    name = f"{strategy}-{number:04d}"
    hyperparameters, distributions = configuration(strategy, number, shared.seed, shared.overrides.get(strategy, {}))
    line: Line = {
        "name": name,
        "strategy": strategy,
        "number": number,
        "seed": seed_of(shared.seed, strategy, number, "training"),
        "hyperparameters": hyperparameters,
        "distributions": distributions,
        "teacher": teacher,
        "epochs": [],
    }
    home = shared.models / name
    try:
        line |= {"state": "finished", **_train(shared, line, home)}
    except TrialError as failure:
        line |= {"state": "failed", "reason": str(failure)}
    except Exception as error:  # a long recording survives it, as a search would; no message, it might quote a text
        line |= {"state": "failed", "reason": type(error).__name__}
    if strategy != BASELINE or line["state"] == "failed":
        shutil.rmtree(home, ignore_errors=True)
    gc.collect()
    return line


def _train(shared: Shared, line: Line, home: Path) -> Line:
    """Seconds are the processor's, of the trial's one thread: others may be busy too while it is recorded."""
    begun = time.process_time()
    trial = start_trial(
        trainable_class(line["strategy"]),
        line["hyperparameters"],
        shared.data,
        shared.model,
        shared.settings,
        shared.models / line["teacher"] if line["teacher"] else None,
        line["seed"],
    )
    seconds = {"set_up": round(time.process_time() - begun, 3)}
    while not trial.is_trained:
        begun = time.process_time()
        result = trial.epoch()
        took = round(time.process_time() - begun, 3)
        line["epochs"].append({"f1": round(result.f1, 6), "selectable": result.selectable, "seconds": took})
    begun = time.process_time()
    deployed = trial.deploy(home / DEPLOYED)
    seconds["deployment"] = round(time.process_time() - begun, 3)
    final = {"validation": {"f1": round(deployed.validation.f1, 6)}, "bytes": deployed.bytes}
    return {"final": final, "seconds": seconds}


class Recording:
    """The folder of a recording: its header, a line for each trial, and the best baseline's deployed model.

    Raises:
        InputError: the folder holds a recording of other data or settings.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / HEADER_FILE
        if path.exists():
            before = json.loads(path.read_text())
            other = [name for name in header if name != "made_with" and before.get(name) != json_like(header[name])]
            if other:
                raise InputError(f"--folder: {folder} holds a recording of another {', '.join(other)}; name a new one")
        else:
            path.write_text(json.dumps(header, indent=2))
        self.lines = read_lines(folder)
        whole = "".join(json.dumps(line) + "\n" for line in self.lines)
        (folder / TRIALS_FILE).write_text(whole)  # without a line that a kill cut short

    def add(self, line: Line) -> None:
        with (self.folder / TRIALS_FILE).open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        self.lines.append(line)
        self.discard_models()

    @property
    def teacher(self) -> str | None:
        """The best baseline, by the deployed model's figure; once another strategy has started from it, it stays."""
        for line in self.lines:
            if line["teacher"]:
                return str(line["teacher"])
        finished = [line for line in self.lines if line["strategy"] == BASELINE and line["state"] == "finished"]
        best = max(finished, key=lambda line: (line["final"]["validation"]["f1"], -line["number"]), default=None)
        return best and str(best["name"])

    def discard_models(self) -> None:
        """Those of recorded baselines that are not the best."""
        for line in self.lines:
            if line["name"] != self.teacher:
                shutil.rmtree(self.folder / MODELS / line["name"], ignore_errors=True)

    def missing(self, strategies: Iterable[str], trials: int) -> Iterator[tuple[str, int]]:
        """Strategy and number of the trials still to record, the strategies taking turns."""
        known = {(line["strategy"], line["number"]) for line in self.lines}
        strategies = list(strategies)
        return ((s, n) for n in range(trials) for s in strategies if (s, n) not in known)


def json_like(value: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value))


def read_lines(folder: Path) -> list[Line]:
    """The recorded trials; a last line that a kill cut short is none."""
    path = folder / TRIALS_FILE
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def pack(folder: Path, path: Path) -> None:
    """Write header and trials into one small file, the same bytes for the same recording."""
    lines = sorted(read_lines(folder), key=lambda line: (STRATEGIES.index(line["strategy"]), line["number"]))
    record = {**json.loads((folder / HEADER_FILE).read_text()), "trials": lines}
    data = gzip.compress(json.dumps(record, separators=(",", ":")).encode(), mtime=0)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)


_shared: Shared
"""What the trials share, as a worker process received it."""


def _begin(shared: Shared) -> None:
    global _shared
    _shared = shared
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_it() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()  # else a killed recording would leave its workers


def _record(strategy: str, number: int, teacher: str | None) -> Line:
    return record_trial(_shared, strategy, number, teacher)


def record(recording: Recording, shared: Shared, strategies: Sequence[str], trials: int, workers: int) -> None:
    """Record what is missing. Raises: InputError: every baseline failed."""
    total = trials * len(strategies)
    others = [strategy for strategy in strategies if strategy != BASELINE]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, initializer=_begin, initargs=(shared,)) as pool:
        for turn in ([BASELINE], others):
            teacher = recording.teacher if turn is others else None
            if turn is others and teacher is None:
                raise InputError("every baseline failed, so that the other strategies have no teacher")
            futures = [
                pool.submit(_record, strategy, number, teacher if trainable_class(strategy).needs_teacher else None)
                for strategy, number in recording.missing(turn, trials)
            ]
            for future in as_completed(futures):
                line = future.result()
                recording.add(line)
                ended = f"{line['final']['validation']['f1']:.4f}" if "final" in line else f"failed: {line['reason']}"
                print(f"{len(recording.lines)} of {total}: {line['name']} {ended}", flush=True)


def thinned(examples: pd.DataFrame, fraction: float, seed: int) -> pd.DataFrame:
    """A random part of the examples, in their order."""
    chosen = np.random.default_rng(seed).permutation(len(examples))[: round(fraction * len(examples))]
    return examples.iloc[np.sort(chosen)]


def prepare(options: argparse.Namespace) -> tuple[Shared, dict[str, Any]]:
    """What the trials share, and the recording's header. Raises: InputError."""
    settings = run_settings(
        task="multiclass",
        cycles=0,
        notes=options.notes,
        patients=options.patients,
        unit="sentence",
        mentions=options.mentions,
        split=(0.4, 0.2, 0.4),
        seed=options.seed,
    )
    overrides = read_space(options.space, STRATEGIES) if options.space else {}
    examples = make_run_examples(settings, workers=1)
    model, tokenizer = load_pretrained(options.model, options.layers, examples.symptoms, options.seed)
    train = thinned(examples.splits["train"], options.sample, options.seed)
    data = trial_data(train, examples.splits["validation"], examples.symptoms, tokenizer, options.max_length)
    header = {
        "notes": Path(options.notes).name,
        "unit": settings.labels.unit,
        "mentions": settings.labels.mentions,
        "split": settings.labels.split,
        "sample": options.sample,
        "symptoms": examples.symptoms,
        "examples": {"train": len(data.train), "validation": len(data.validation)},
        "fingerprint": examples.fingerprint(),
        "model": Path(options.model).name,
        "layers": options.layers,
        "max_length": options.max_length,
        "precision": options.precision,
        "epochs": options.epochs,
        "seed": options.seed,
        "space": overrides,
        "made_with": {"versions": versions(), "machine": machine(), "workers": options.workers},
    }
    return (
        Shared(
            data,
            model,
            TrainSettings(options.epochs, threads=1, reduce_range=int8_overflows(), precision=options.precision),
            options.seed,
            overrides,
            options.folder / MODELS,
        ),
        header,
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, required=True, help="where it is recorded, and continues after a kill")
    parser.add_argument(
        "--output", type=Path, default=RECORDING, help="the packed recording (default: next to this file)"
    )
    parser.add_argument("--pack", action="store_true", help="only pack what the folder holds")
    parser.add_argument("--notes", default=SYNTHETIC, help="NOTEEVENTS as .csv, .csv.gz or .parquet")
    parser.add_argument("--patients", type=int, default=300, help="of the synthetic notes (default 300)")
    parser.add_argument("--mentions", choices=["mask", "keep"], default="mask", help="of symptoms' names")
    parser.add_argument("--sample", type=float, default=1.0, help="part of the training examples (default 1)")
    parser.add_argument("--model", default=EMBEDDED_MODEL, help="as launch takes it (default: the embedded MiniLM)")
    parser.add_argument("--layers", type=int, help="cut the encoder to its first layers (default: all)")
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument(
        "--precision", choices=["auto", "float32", "bfloat16"], default="auto", help="as launch takes it"
    )
    parser.add_argument("--space", type=Path, help="YAML file that narrows the search spaces, as launch takes it")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES), help="baseline always")
    parser.add_argument("--trials", type=int, default=200, help="of each strategy (default 200)")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each (default 2)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if not options.pack:
        shared, header = prepare(options)
        recording = Recording(options.folder, header)
        strategies = dict.fromkeys((BASELINE, *options.strategies))
        record(recording, shared, list(strategies), options.trials, options.workers)
    pack(options.folder, options.output)


if __name__ == "__main__":
    main()
