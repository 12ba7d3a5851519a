"""What may be said of an evaluated run: intervals, differences from the baseline, verdicts, calibration."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.evaluation.controls import CONTROLS
from analysis.evaluation.predictions import TEST, VALIDATION, Predictions, has_predictions, read_predictions
from analysis.statistics.calibration import fit_temperature, reliability, tempered
from analysis.statistics.comparison import compare, delong, delong_p, holm, mcnemar, swap_test
from analysis.statistics.intervals import LEVEL, figure_intervals
from analysis.statistics.resampling import METRICS, RESAMPLES, Resampled, resample
from analysis.statistics.seeds import figures_over_seeds
from analysis.statistics.verdict import MARGIN, verdicts
from run_folder.names import RESULTS
from run_folder.run import Run
from trainables.parts.metrics import classification_metrics

STATISTICS = f"{RESULTS}/statistics.json"
OVERALL, BASELINE = "overall", "baseline"
_VERSION = 3
"""Of the method: results of another are made anew."""

Found = Mapping[str, Predictions]


def write_statistics(run: Run, margin: float) -> None:
    """Write ``results/statistics.json``, of each strategy's best trial, its repetitions and the controls.

    Only what has been evaluated is in it. Nothing is done where it is written already, or there is nothing.

    Args:
        margin: of macro F1, above 0.
    """
    seeds = _seeds(run)
    controls = [name for name in CONTROLS if has_predictions(run, name, TEST)]
    names = [name for of in seeds.values() for name in of] + controls
    if not names:
        return
    on_test, on_validation = (
        {name: read_predictions(run, name, split) for name in names if has_predictions(run, name, split)}
        for split in (TEST, VALIDATION)
    )
    digests = [{name: of.digest for name, of in found.items()} for found in (on_test, on_validation)]
    asked = [_VERSION, digests, seeds, margin, RESAMPLES, LEVEL]
    identity = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    known = read_statistics(run)
    if known is None or known["identity"] != identity:
        found = {"identity": identity, "margin": margin, **_statistics(run, seeds, on_test, on_validation, margin)}
        run.folder.write(STATISTICS, json.dumps(_plain(found), indent=1, allow_nan=False).encode())


def read_statistics(run: Run) -> dict[str, Any] | None:
    """What ``write_statistics`` wrote, or None."""
    return json.loads(run.folder.read(STATISTICS)) if run.folder.exists(STATISTICS) else None


def margin_of(run: Run) -> float:
    """By which the run's verdicts were last made, else the usual one."""
    known = read_statistics(run)
    return float(known["margin"]) if known else MARGIN


def _seeds(run: Run) -> dict[str, list[str]]:
    """Of each strategy whose best trial has been evaluated, that trial and its evaluated repetitions."""
    seeds = {}
    for strategy in run.strategies:
        for best in run.best(strategy, 1)[:1]:
            if has_predictions(run, best.name, TEST):
                again = [trial.name for trial in run.repetitions(best.name) if has_predictions(run, trial.name, TEST)]
                seeds[strategy] = [best.name, *again]
    return seeds


def _statistics(
    run: Run, seeds: Mapping[str, Sequence[str]], on_test: Found, on_validation: Found, margin: float
) -> dict[str, Any]:
    names, labels = list(on_test), next(iter(on_test.values())).labels
    patients = run.examples(TEST).sort_values("id")["patient"].to_numpy()
    counts = np.bincount(labels, minlength=len(run.symptoms))
    found: dict[str, Any] = {
        "level": LEVEL,
        "resamples": RESAMPLES,
        "patients": len(np.unique(patients)),
        "examples": len(labels),
        "examples_per_symptom": dict(zip(run.symptoms, counts.tolist(), strict=True)),
        "models": {},
        "strategies": {},
    }
    if found["patients"] < 2:
        note = "the test set is of one patient, so nothing can be said of how far chance reaches"
        return {**found, "undefined_note": note}
    resampled = resample(labels, patients, np.stack([of.probabilities for of in on_test.values()]))
    strategy_of = {name: strategy for strategy, of in seeds.items() for name in of}
    found["models"] = {
        name: _model(run, name, strategy_of.get(name, name), resampled, i, on_test[name], on_validation.get(name))
        for i, name in enumerate(names)
    }
    places = {strategy: [names.index(name) for name in of] for strategy, of in seeds.items()}
    found["strategies"] = {
        strategy: {"trial": of[0], "seeds": list(of), "figures": _over_seeds(run, resampled, places[strategy])}
        for strategy, of in seeds.items()
    }
    if BASELINE in seeds:
        for strategy, of in _compared(run, resampled, places, on_test, patients, margin).items():
            found["strategies"][strategy] |= of
    return {**found, "undefined_note": _undefined_note(run, resampled, counts)}


def _model(
    run: Run,
    name: str,
    strategy: str,
    resampled: Resampled,
    place: int,
    on_test: Predictions,
    on_validation: Predictions | None,
) -> dict[str, Any]:
    intervals = figure_intervals(resampled.mean([place]))
    macro_f1 = resampled.point[place, 0, METRICS.index("f1")]
    return {
        "strategy": strategy,
        "figures": _table(
            run, point=intervals.point, low=intervals.low, high=intervals.high, undefined=intervals.undefined
        ),
        "confusion": resampled.confusions[:, place].sum(axis=0).astype(int),
        "calibration": _calibration(on_test, on_validation) if on_validation else None,
        "validation_f1": classification_metrics(on_validation.labels, on_validation.probabilities, run.symptoms).f1
        if on_validation
        else None,
        "test_f1": macro_f1,
    }


def _calibration(on_test: Predictions, on_validation: Predictions) -> dict[str, Any]:
    temperature = fit_temperature(on_validation.labels, on_validation.probabilities)
    before = reliability(on_test.labels, on_test.probabilities)
    after = reliability(on_test.labels, tempered(on_test.probabilities, temperature))
    return {
        "temperature": temperature,
        "error": before.expected_calibration_error,
        "tempered_error": after.expected_calibration_error,
        "reliability": asdict(before),
        "tempered_reliability": asdict(after),
    }


def _over_seeds(run: Run, resampled: Resampled, models: Sequence[int]) -> dict[str, Any]:
    found = figures_over_seeds(resampled, models)
    ends = found.intervals
    return _table(run, point=ends.point, low=ends.low, high=ends.high, deviation=found.deviation)


def _compared(
    run: Run,
    resampled: Resampled,
    places: Mapping[str, Sequence[int]],
    on_test: Found,
    patients: NDArray[Any],
    margin: float,
) -> dict[str, dict[str, Any]]:
    """Each strategy but the baseline against it; tests of examples are of the best trials alone."""
    baseline = places[BASELINE]
    others = {strategy: models for strategy, models in places.items() if strategy != BASELINE}
    judged = verdicts(resampled, others, baseline, margin=margin)
    models = list(on_test.values())
    theirs = models[baseline[0]]
    compared: dict[str, dict[str, Any]] = {}
    for strategy, of in others.items():
        ours = models[of[0]]
        predicted = (side.probabilities.argmax(axis=1) for side in (ours, theirs))
        compared[strategy] = {
            "differences": _differences(run, resampled, of, baseline),
            "mcnemar": asdict(mcnemar(theirs.labels, *predicted)),
            "delong": _delong(run, ours, theirs, patients),
            "verdict": {**asdict(judged[strategy]), "words": judged[strategy].words},
        }
    _correct(run, list(compared.values()))
    return compared


def _differences(run: Run, resampled: Resampled, models: Sequence[int], baseline: Sequence[int]) -> dict[str, Any]:
    found = compare(resampled, models, baseline)
    p = found.p
    if len(models) == len(baseline) == 1:  # as in verdicts
        p[:, :-1] = swap_test(resampled, models[0], baseline[0])
    return _table(run, point=found.point, low=found.low, high=found.high, p=p)


def _delong(run: Run, ours: Predictions, theirs: Predictions, patients: NDArray[Any]) -> dict[str, float]:
    sides = np.stack([ours.probabilities, theirs.probabilities])
    return {
        symptom: delong_p(*delong(ours.labels == c, sides[:, :, c], patients)) for c, symptom in enumerate(run.symptoms)
    }


def _correct(run: Run, compared: Sequence[dict[str, Any]]) -> None:
    """Add the p values as Holm corrects them over the strategies; of what is not defined there is none."""
    for of, corrected in zip(compared, holm([of["mcnemar"]["p"] for of in compared]), strict=True):
        of["mcnemar"]["p_holm"] = corrected
        of["delong_holm"] = {}
    for metric in METRICS:
        overall = [of["differences"][OVERALL][metric] for of in compared]
        for figure, corrected in zip(overall, holm([figure["p"] for figure in overall]), strict=True):
            figure["p_holm"] = math.nan if math.isnan(figure["p"]) else corrected
    for symptom in run.symptoms:
        for of, corrected in zip(compared, holm([of["delong"][symptom] for of in compared]), strict=True):
            of["delong_holm"][symptom] = math.nan if math.isnan(of["delong"][symptom]) else corrected


def _undefined_note(run: Run, resampled: Resampled, counts: NDArray[np.int64]) -> str | None:
    """What the test set lacks, or what so many resamples lacked."""
    notes = [
        f"{symptom} has no test example, so no figures"
        for symptom, count in zip(run.symptoms, counts, strict=True)
        if not count
    ]
    recall = resampled.replicates[:, 0, 1:, METRICS.index("recall")]
    lacking = np.isnan(recall[:, counts > 0])
    if lacking.any():
        rare = [symptom for symptom, of in zip(np.array(run.symptoms)[counts > 0], lacking.T, strict=True) if of.any()]
        notes.append(
            f"{lacking.any(axis=1).sum():,} of {len(lacking):,} resamples lacked {' or '.join(rare)}, "
            "and intervals are of the others"
        )
    return "; ".join(notes) or None


def _table(run: Run, **arrays: NDArray[Any]) -> dict[str, Any]:
    """(1 + symptoms, metrics) arrays as {overall or symptom: {metric: {name: value}}}."""
    return {
        row: {metric: {name: values[i, j] for name, values in arrays.items()} for j, metric in enumerate(METRICS)}
        for i, row in enumerate((OVERALL, *run.symptoms))
    }


def _plain(value: Any) -> Any:
    """As JSON takes it: lists and Python's own numbers, None for what is not defined."""
    if isinstance(value, Mapping):
        return {key: _plain(of) for key, of in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(of) for of in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
