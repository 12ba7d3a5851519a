"""How often a "compression" that changes nothing, and only trains for longer, is called better or worse.

    python -m benchmarks.null_strategy --runs 20

Each run draws notes, trains a baseline, and two models that start from it and train on: one as the baseline that others
are compared with, one as the null strategy, all with several seeds. The null strategy is compared with the first
baseline, and with the one that was trained for as long: with one seed of each, and with all.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from analysis.statistics.resampling import resample
from analysis.statistics.verdict import Outcome, Verdict, verdicts
from clinical_notes.run_examples import tokenised_examples
from run_folder.folder import Folder
from run_folder.names import MODEL
from run_folder.results import DeployedResult
from run_folder.run import Run, open_run
from run_folder.settings import EMBEDDED_MODEL
from search_spaces import paper_configuration
from trainables.base import TrainSettings, TrialConfig
from trainables.baseline import BaselineTrial
from trainables.parts.calibration import logit_scale
from trainables.parts.deployed import predict
from trainables.parts.metrics import sigmoid
from trainables.parts.model import stored
from trainables.parts.open_deployed import load_deployed
from tune_jobs.check_settings import run_settings
from tune_jobs.preparing.create_run import Prepared, create_run

FIRST, ONE_SEED, ALL_SEEDS = "the first baseline, all seeds", "one trained for as long, one seed", "the same, all seeds"
_DEPLOYED = "deployed"


def compared(options: argparse.Namespace, seed: int, home: Path) -> dict[str, Verdict]:
    """The null strategy's verdicts in one run, by what it is compared with."""
    settings = run_settings(
        model=options.model,
        layers=options.layers,
        max_length=options.max_length,
        patients=options.patients,
        split=(0.3, 0.1, 0.6),
        task="multilabel",
        seed=seed,
        strategies=("baseline",),
    )
    folder = Folder(home / "run")
    prepared = create_run(folder, settings, workers=1)
    run = open_run(folder)
    models: list[Trained] = []
    for number in range(options.seeds):
        of_seed, own = home / str(number), (seed * 1_000 + number) * 10
        first = trained(prepared, options, of_seed / "first", own, None)
        others = [
            trained(prepared, options, of_seed / name, own + i, first) for i, name in ((1, "longer"), (2, "null"))
        ]
        models += [first, *others]
    return judged(run, models)


@dataclass(frozen=True)
class Trained:
    """A trial's folder, and what it deployed there."""

    home: Path
    final: DeployedResult


def trained(prepared: Prepared, options: argparse.Namespace, home: Path, seed: int, start: Trained | None) -> Trained:
    """A trial of the baseline, from the pretrained encoder or another trial's model."""
    values = {
        **paper_configuration("baseline"), "learning_rate": options.learning_rate, "batch_size": 8, "warmup_ratio": 0.1,
    }  # fmt: skip
    config = TrialConfig(values, seed, None if start is None else Folder(start.home))
    trial = BaselineTrial(config, prepared.data, prepared.encoder, TrainSettings(options.epochs, options.threads))
    while not trial.is_trained:
        trial.epoch()
    return Trained(home, trial.deploy(home / _DEPLOYED))


def judged(run: Run, models: Sequence[Trained]) -> dict[str, Verdict]:
    """Verdicts on the null strategy on the test set, each by itself.

    Args:
        models: by seed: the first baseline, the one that was trained for longer, the null strategy.
    """
    examples = tokenised_examples(run, "test", stored.load_tokenizer(run.folder.local_copy(MODEL)))
    probabilities, thresholds = [], []
    for model in models:
        logits = predict(load_deployed(model.home / _DEPLOYED, 1).logits, examples, run.manifest.pad_token_id)
        scale = logit_scale(model.final.temperatures, run.symptoms)
        probabilities.append(sigmoid(logits if scale is None else logits * scale))
        thresholds.append([(model.final.thresholds or {})[name] for name in run.symptoms])
    texts = run.texts("test").set_index("id").loc[examples.ids]
    resampled = resample(
        examples.labels >= 0.5,
        texts["patient"].to_numpy(),
        np.stack(probabilities),
        np.stack(probabilities) >= np.array(thresholds)[:, None],
        resamples=1,
    )
    first, longer, null = (list(range(place, len(models), 3)) for place in range(3))
    sides = {FIRST: (null, first), ONE_SEED: (null[:1], longer[:1]), ALL_SEEDS: (null, longer)}
    return {name: verdicts(resampled, {"null": side})["null"] for name, side in sides.items()}


def table_of(found: Sequence[Mapping[str, Verdict]]) -> Table:
    table = Table(title=f"A strategy that changes nothing, {len(found)} runs", title_justify="left")
    for column in ("compared with", "better", "worse", "mean difference of macro F1"):
        table.add_column(column, justify="left" if column == "compared with" else "right")
    for name in (FIRST, ONE_SEED, ALL_SEEDS):
        of = [run[name] for run in found]
        counts = [sum(verdict.outcome is outcome for verdict in of) for outcome in (Outcome.BETTER, Outcome.WORSE)]
        table.add_row(name, *map(str, counts), f"{np.mean([verdict.difference for verdict in of]):+.4f}")
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=20, help="(default 20)")
    parser.add_argument("--model", default=EMBEDDED_MODEL, help="as launch takes it (default: the embedded MiniLM)")
    parser.add_argument("--layers", type=int, default=1, help="of the encoder (default 1)")
    parser.add_argument("--max-length", type=int, default=128, help="as launch takes it (default 128)")
    parser.add_argument("--patients", type=int, default=120, help="of the synthetic notes of a run (default 120)")
    parser.add_argument("--seeds", type=int, default=3, help="of each side (default 3)")
    parser.add_argument("--epochs", type=int, default=3, help="of each training (default 3)")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    found = []
    for seed in range(options.runs):
        with tempfile.TemporaryDirectory() as home:
            found.append(compared(options, seed, Path(home)))
    Console(width=110).print(table_of(found))
    if options.json:
        figures = [{name: vars(verdict) for name, verdict in run.items()} for run in found]
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
