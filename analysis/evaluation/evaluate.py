"""Open the test set, once the search is over: the figures of the best deployed models and of the controls."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.evaluation.controls import CONTROLS, Predict, fitted_control
from analysis.evaluation.costs import measure_costs, read_costs
from analysis.evaluation.front import Cost, on_front, with_references, write_fronts
from analysis.evaluation.onnx_graphs import agreement, check_kept, runnable, tokenised
from analysis.evaluation.predictions import (
    TEST,
    TRAIN,
    VALIDATION,
    Predictions,
    predictions_path,
    read_predictions,
    write_predictions,
)
from analysis.evaluation.result_files import figures_path, read_result, warn_of_damage, write_result
from analysis.evaluation.robustness import SMALLEST_GROUP, measure_robustness
from analysis.evaluation.run_statistics import compared_trials, write_statistics
from analysis.evaluation.wishes import NO_WISHES, Wishes
from analysis.statistics.verdict import MARGIN
from run_folder.names import NOTE
from run_folder.records import to_plain
from run_folder.results import Metrics
from run_folder.run import Run
from trainables.parts.deployed import predict
from trainables.parts.tasks import TASKS, WholeTexts, whole_texts
from trainables.references import BASELINE


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What ``results/trials/<name>.json`` holds: the figures of a trial or a control.

    Attributes:
        identity: of the data and the model.
        examples: in the test set.
        agreement: of a trial's graph (see ``onnx_graphs.agreement``); empty where it was not measured.
        validation: of a control; a trial's are in the ledger.
    """

    name: str
    identity: str
    examples: int
    test: Metrics
    agreement: Mapping[str, float] | None = None
    validation: Metrics | None = None


def evaluate(
    run: Run,
    top: int,
    margin: float = MARGIN,
    smallest_group: int = SMALLEST_GROUP,
    prefer: Cost = "bytes",
    wishes: Wishes = NO_WISHES,
) -> None:
    """Write the test figures and costs of each strategy's ``top`` best trials, and the figures of the controls.

    A model's figures go to ``results/trials/<name>.json``, its predictions, by example id and without text, in
    ``results/predictions/<name>.parquet`` (on validation: ``<name>-validation.parquet``); what is done already is
    kept. ``run_statistics`` then writes their intervals and verdicts.

    Args:
        margin: of macro F1, by which a strategy may be worse than the baseline and still be good enough.
        smallest_group: see ``robustness.measure_robustness``.
        prefer: the cost by which a model is recommended.
        wishes: what it must fulfil.

    Raises:
        InputError: a model to evaluate is not on the storage any more, or is damaged.
    """
    names = [trial.name for strategy in run.strategies for trial in run.best(strategy, top)]
    names += [trials[0] for trials in compared_trials(run).values() if trials[0] not in names]
    if BASELINE in run.strategies:
        names += with_references(run, on_front(run))
        names = list(dict.fromkeys(names))
    evaluate_trials(run, names + [seed.name for name in names for seed in run.repetitions(name)])
    for name in CONTROLS:
        if not _is_done(run, name):
            _evaluate_control(run, name)
    write_statistics(run, margin)
    measure_costs(run, names, {name: _identity(run, name) for name in names})
    write_fronts(run, margin, prefer, wishes)
    measure_robustness(run, {name: _identity(run, name) for name in (*names, *CONTROLS)}, smallest_group)


def measure_missing_costs(run: Run, name: str) -> None:
    """Measure a trial that has no costs yet, together with those that have and the best baseline."""
    known = read_costs(run).models
    if known.get(name) != _identity(run, name):
        baselines = [trial.name for trial in run.best(BASELINE, 1)] if BASELINE in run.strategies else []
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
        thresholds, probabilities_of = thresholds_of(run, name), TASKS[run.settings.labels.task].probabilities
        found = {}
        for split, examples in splits.items():
            probabilities = probabilities_of(predict(model.logits, examples, run.manifest.pad_token_id))
            texts = whole_texts(
                examples.ids, examples.notes, examples.labels, probabilities, run.settings.labels.note_rule
            )
            found[split] = Predictions(texts.ids, texts.labels, texts.probabilities, thresholds)
        _write(run, name, found, agreement=to_plain(agreement(run, name)) or {})


def read_evaluation(run: Run, name: str) -> Evaluation | None:
    """The figures of a trial or control, or None where it has not been evaluated, or they are damaged."""
    path = figures_path(name)
    if not run.folder.exists(path) and run.folder.exists(predictions_path(name, TEST)):
        warn_of_damage(run, path)
    return read_result(run, path, Evaluation)


def _is_done(run: Run, name: str) -> bool:
    figures = read_evaluation(run, name)
    if figures is None or figures.identity != _identity(run, name):
        return False
    return all(read_predictions(run, name, split) is not None for split in (VALIDATION, TEST))


def _identity(run: Run, name: str) -> str:
    """Hash of the data and of a trial's deployed model: figures of another model or other data are computed again."""
    final = to_plain(run.trials[name].deployed) if name in run.trials else {}
    final.pop("seconds", None)  # the same model, trained again after a kill, took another time
    return hashlib.sha256(json.dumps([run.manifest.fingerprint, final], sort_keys=True).encode()).hexdigest()


def _evaluate_control(run: Run, name: str) -> None:
    control = control_of(run, name)
    texts = {VALIDATION: control.validation, TEST: _predicted(run, TEST, control.predict)}
    found = {split: Predictions(of.ids, of.labels, of.probabilities, control.thresholds) for split, of in texts.items()}
    _write(run, name, found, validation=found[VALIDATION].metrics(run.symptoms))


def _predicted(run: Run, split: str, control: Predict) -> WholeTexts:
    examples = run.examples(split)
    notes = examples[NOTE].to_numpy() if NOTE in examples else None
    probabilities = control(list(examples["text"]))
    return whole_texts(
        examples["id"].to_numpy(), notes, run.labels(examples), probabilities, run.settings.labels.note_rule
    )


@dataclass(frozen=True)
class FittedControl:
    """A control fitted on a run's training examples.

    Attributes:
        thresholds: (symptoms,) chosen on validation; None in a multiclass run.
        validation: what it makes of the validation texts.
    """

    predict: Predict
    thresholds: NDArray[np.float64] | None
    validation: WholeTexts


def control_of(run: Run, name: str) -> FittedControl:
    """The control of this name, fitted again."""
    train = run.examples(TRAIN)
    control = fitted_control(name, list(train["text"]), run.labels(train))
    on_validation = _predicted(run, VALIDATION, control)
    thresholds = TASKS[run.settings.labels.task].thresholds(
        on_validation.labels, on_validation.probabilities, run.settings.model.sensitivity
    )
    return FittedControl(control, thresholds, on_validation)


def thresholds_of(run: Run, name: str) -> NDArray[np.float64] | None:
    """(symptoms,) at which a trial's deployed model says each; None in a multiclass run."""
    thresholds = run.trials[name].deployed.thresholds
    return None if thresholds is None else np.array([thresholds[symptom] for symptom in run.symptoms])


def _write(
    run: Run,
    name: str,
    found: Mapping[str, Predictions],
    *,
    agreement: Mapping[str, float] | None = None,
    validation: Metrics | None = None,
) -> None:
    """Predictions first: the figures' file says that they are there."""
    for split, predictions in found.items():
        write_predictions(run, name, split, predictions)
    test = found[TEST]
    figures = Evaluation(
        name=name,
        identity=_identity(run, name),
        examples=len(test.labels),
        test=test.metrics(run.symptoms),
        agreement=agreement,
        validation=validation,
    )
    write_result(run, figures_path(name), figures)
