"""Open the test set, once the search is over: the figures of the best deployed models and of the controls."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.evaluation.controls import CONTROLS, control_probabilities
from analysis.evaluation.costs import measure_costs, read_costs
from analysis.evaluation.onnx_graphs import agreement, check_kept, runnable, tokenised
from analysis.evaluation.predictions import TEST, VALIDATION, Predictions, has_predictions, write_predictions
from analysis.evaluation.robustness import SMALLEST_GROUP, measure_robustness
from analysis.evaluation.run_statistics import write_statistics
from analysis.statistics.verdict import MARGIN
from run_folder.names import RESULTS
from run_folder.records import to_plain
from run_folder.run import Run
from trainables.parts.deployed import predict
from trainables.parts.metrics import classification_metrics, softmax


def evaluate(run: Run, top: int, margin: float = MARGIN, smallest_group: int = SMALLEST_GROUP) -> None:
    """Write the test figures and costs of each strategy's ``top`` best trials, and the figures of the controls.

    A model's figures stand in ``results/trials/<name>.json``, its predictions, by example id and without text, in
    ``results/predictions/<name>.parquet`` (on validation: ``<name>-validation.parquet``); what is done already is
    kept. What may be said of them is then written by ``run_statistics``.

    Args:
        margin: of macro F1, by which a strategy may be worse than the baseline and still do.
        smallest_group: see ``robustness.measure_robustness``.

    Raises:
        InputError: a model to evaluate is not on the storage any more, or is damaged.
    """
    names = [trial.name for strategy in run.strategies for trial in run.best(strategy, top)]
    evaluate_trials(run, names + [seed.name for name in names for seed in run.repetitions(name)])
    for name in CONTROLS:
        if not _is_done(run, name):
            _evaluate_control(run, name)
    write_statistics(run, margin)
    measure_costs(run, names, {name: _identity(run, name) for name in names})
    measure_robustness(run, {name: _identity(run, name) for name in (*names, *CONTROLS)}, smallest_group)


def measure_missing_costs(run: Run, name: str) -> None:
    """Measure a trial beside those that were measured, and the best baseline, where it has no costs yet."""
    known = read_costs(run)["models"]
    if known.get(name) != _identity(run, name):
        baselines = [trial.name for trial in run.best("baseline", 1)] if "baseline" in run.strategies else []
        kept = [other for other in known if other in run.trials and known[other] == _identity(run, other)]
        names = list(dict.fromkeys([*kept, *baselines, name]))
        measure_costs(run, names, {other: _identity(run, other) for other in names})


def evaluate_trials(run: Run, names: Sequence[str]) -> None:
    """Write the test figures of these trials. Raises: InputError, as ``evaluate``."""
    check_kept(run, names)
    waiting = [name for name in names if not _is_done(run, name)]
    if not waiting:
        return
    splits = {split: tokenised(run, split) for split in (VALIDATION, TEST)}
    for name in waiting:
        model = runnable(run, name, threads=os.cpu_count() or 1)
        found = {
            split: Predictions(of.ids, of.labels, softmax(predict(model.logits, of, run.manifest["pad_token_id"])))
            for split, of in splits.items()
        }
        _write(run, name, found, agreement=agreement(run, name))


def test_figures(run: Run, name: str) -> dict[str, Any] | None:
    """The written test figures of a trial or control, or None where it has not been evaluated."""
    path = _figures(name)
    return json.loads(run.folder.read(path)) if run.folder.exists(path) else None


def _figures(name: str) -> str:
    return f"{RESULTS}/trials/{name}.json"


def _is_done(run: Run, name: str) -> bool:
    figures = test_figures(run, name)
    written = all(has_predictions(run, name, split) for split in (VALIDATION, TEST))
    return written and figures is not None and figures["identity"] == _identity(run, name)


def _identity(run: Run, name: str) -> str:
    """Of the data and, for a trial, of the model that was deployed: figures of another are not done."""
    final = to_plain(run.trials[name].deployed) if name in run.trials else {}
    return hashlib.sha256(json.dumps([run.manifest["fingerprint"], final], sort_keys=True).encode()).hexdigest()


def _evaluate_control(run: Run, name: str) -> None:
    train, *others = (run.examples(split) for split in ("train", VALIDATION, TEST))
    balanced = run.settings["class_weights"] == "balanced"
    probabilities = control_probabilities(name, run.symptoms, train, others, balanced=balanced)
    found = {
        split: Predictions(frame["id"].to_numpy(), np.array(run.labels(frame)), of)
        for split, frame, of in zip((VALIDATION, TEST), others, probabilities, strict=True)
    }
    scores = classification_metrics(found[VALIDATION].labels, found[VALIDATION].probabilities, run.symptoms)
    _write(run, name, found, validation=to_plain(scores))


def _write(run: Run, name: str, found: Mapping[str, Predictions], **more: Any) -> None:
    """Predictions first: the figures' file says that they are there."""
    for split, predictions in found.items():
        write_predictions(run, name, split, predictions)
    test = found[TEST]
    figures = {
        "name": name,
        "identity": _identity(run, name),
        "examples": len(test.labels),
        TEST: to_plain(classification_metrics(test.labels, test.probabilities, run.symptoms)),
        **more,
    }
    run.folder.write(_figures(name), json.dumps(figures, indent=2, allow_nan=False).encode())
