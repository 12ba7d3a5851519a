"""What may be said of an evaluated run: intervals, differences from the baseline, verdicts, calibration."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from analysis.evaluation.controls import CONTROLS
from analysis.evaluation.predictions import (
    TEST,
    VALIDATION,
    Predictions,
    predictions_path,
    read_predictions,
)
from analysis.evaluation.references import reference_in
from analysis.evaluation.result_files import figures_path, read_result, warn_of_damage, write_result
from analysis.statistics.calibration import Reliability, fit_temperature, reliability, tempered
from analysis.statistics.comparison import McNemar, compare, delong, delong_p, holm, mcnemar, swap_test
from analysis.statistics.intervals import LEVEL, figure_intervals
from analysis.statistics.resampling import METRICS, OVERALL, RESAMPLES, Resampled, resample
from analysis.statistics.seeds import figures_over_seeds
from analysis.statistics.verdict import MARGIN, Sides, Verdict, verdicts
from run_folder.errors import InputError
from run_folder.names import RESULTS
from run_folder.run import Run
from run_folder.trials import TrialRecord
from trainables.references import BASELINE, epochs_in_all

STATISTICS = f"{RESULTS}/statistics.json"
_VERSION = 4
"""Version of the method; results of another version are computed again."""

Found = Mapping[str, Predictions]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure with its 95 % interval; None: not defined."""

    point: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class ModelFigure(Interval):
    """A figure of one model.

    Attributes:
        undefined: in how many resamples it was not defined.
    """

    undefined: int


@dataclass(frozen=True, kw_only=True)
class SeedsFigure(Interval):
    """A figure of a strategy: the mean over its seeds.

    Attributes:
        deviation: standard deviation over the seeds; None for one seed.
    """

    deviation: float | None


@dataclass(frozen=True, kw_only=True)
class DifferenceFigure(Interval):
    """A figure of a strategy minus the baseline's.

    Attributes:
        p: two-sided, against "no difference".
        p_holm: corrected over the strategies; of macro averages only.
    """

    p: float | None
    p_holm: float | None = None


@dataclass(frozen=True, kw_only=True)
class ReliabilityCurve:
    """Mean confidence, accuracy and number of examples of each bin."""

    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    examples: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Calibration on the test set, before and after a temperature that was fitted on validation.

    Attributes:
        error: expected calibration error.
    """

    temperature: float
    error: float
    tempered_error: float
    reliability: ReliabilityCurve
    tempered_reliability: ReliabilityCurve


@dataclass(frozen=True, kw_only=True)
class ModelStatistics:
    """Statistics of one trial or control.

    Attributes:
        strategy: of a trial; the name of a control.
        figures: by ``OVERALL`` or symptom, then by metric.
        confusion: test examples by true and predicted symptom; of a multilabel run, for each symptom, those reported
            and said, reported and not said, said and not reported, neither.
        calibration, validation_f1: None where no predictions on validation were kept.
    """

    strategy: str
    figures: Mapping[str, Mapping[str, ModelFigure]]
    confusion: tuple[tuple[int, ...], ...]
    calibration: Calibration | None
    validation_f1: float | None
    test_f1: float | None


@dataclass(frozen=True, kw_only=True)
class CorrectedMcNemar(McNemar):
    """McNemar's test, with its p value corrected over the strategies, too."""

    p_holm: float


@dataclass(frozen=True, kw_only=True)
class StrategyStatistics:
    """Statistics of one strategy; the comparison with a baseline is None for baselines, or where there is none.

    Attributes:
        trial: the best one.
        epochs: of training in all; see ``references.epochs_in_all``.
        reference: the row that it is compared with, ``BASELINE`` or a name of ``longer_baseline``.
        seeds: the trial and its repetitions.
        figures: by ``OVERALL`` or symptom, then by metric; differences likewise.
        mcnemar: of the best trials' accuracy.
        delong: p values of the best trials' AUROC, by symptom; delong_holm: corrected over the strategies.
    """

    trial: str
    seeds: tuple[str, ...]
    figures: Mapping[str, Mapping[str, SeedsFigure]]
    differences: Mapping[str, Mapping[str, DifferenceFigure]] | None = None
    mcnemar: CorrectedMcNemar | None = None
    delong: Mapping[str, float | None] | None = None
    verdict: Verdict | None = None
    delong_holm: Mapping[str, float | None] | None = None
    epochs: int | None = None
    reference: str | None = None

    @property
    def macro_f1(self) -> SeedsFigure:
        """The mean over the seeds."""
        return self.figures[OVERALL]["f1"]


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What ``results/statistics.json`` holds.

    Attributes:
        identity: of the predictions and settings that it was computed from.
        margin: of macro F1.
        level: of the intervals.
        patients, examples: in the test set.
        models: by trial or control.
        strategies: by strategy; baselines that were trained longer than the best one are there too, by
            ``longer_baseline``.
        undefined_note: what is not defined, and why.
    """

    identity: str
    margin: float
    level: float
    resamples: int
    patients: int
    examples: int
    examples_per_symptom: Mapping[str, int]
    models: Mapping[str, ModelStatistics]
    strategies: Mapping[str, StrategyStatistics]
    undefined_note: str | None


def write_statistics(run: Run, margin: float) -> None:
    """Write ``results/statistics.json``: each strategy's best trial, its repetitions and the controls.

    It holds what has been evaluated. Nothing is done where it is written already, or nothing has been evaluated.

    Args:
        margin: of macro F1, above 0.
    """
    wanted, known = compared_trials(run), read_statistics(run)
    kept, lost = _kept(run, [*(name for trials in wanted.values() for name in trials), *CONTROLS], TEST)
    seeds = {s: [name for name in trials if name in kept] for s, trials in wanted.items() if trials[0] in kept}
    names = [name for trials in seeds.values() for name in trials] + [name for name in CONTROLS if name in kept]
    on_test = {name: kept[name] for name in names}
    on_validation, lost_too = _kept(run, names, VALIDATION)
    if not names or (known is not None and lost + lost_too):  # what is known, and not the same without a model
        return
    digests = [{name: predictions.digest for name, predictions in found.items()} for found in (on_test, on_validation)]
    asked = [_VERSION, digests, seeds, margin, RESAMPLES, LEVEL]
    identity = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    if known is None or known.identity != identity:
        found = replace(_statistics(run, seeds, on_test, on_validation, margin), identity=identity)
        write_result(run, STATISTICS, found, indent=1)


def read_statistics(run: Run) -> Statistics | None:
    """What ``write_statistics`` wrote, or None where there is nothing, or the file is damaged."""
    return read_result(run, STATISTICS, Statistics)


def margin_of(run: Run) -> float:
    """The margin of the run's last verdicts, else the usual one."""
    known = read_statistics(run)
    return known.margin if known else MARGIN


def patients_of(run: Run, predictions: Predictions) -> NDArray[Any]:
    """(n,) the patient of each prediction on the test set. Raises: InputError: it is not the set that was evaluated."""
    texts = run.texts(TEST).sort_values("id")
    if not np.array_equal(texts["id"], predictions.ids):
        raise InputError(f"{run.folder}: its test examples are not those that were evaluated; restore them from a copy")
    return np.asarray(texts["patient"])


def resampled_figures(found: Sequence[Predictions], patients: NDArray[Any], resamples: int = RESAMPLES) -> Resampled:
    """The figures of several models on the same test examples, and how they vary; see ``resample``."""
    probabilities = np.stack([predictions.probabilities for predictions in found])
    if found[0].labels.ndim == 1:
        return resample(found[0].labels.astype(np.int64), patients, probabilities, resamples=resamples)
    said = np.stack([predictions.said for predictions in found])
    return resample(found[0].reported, patients, probabilities, said, resamples=resamples)


def longer_baseline(run: Run, trial: TrialRecord) -> str:
    """The row of a baseline that was trained further than the best one."""
    return f"{BASELINE}-{epochs_in_all(run.trials, trial)}-epochs"


def row_of_reference(run: Run, trial: TrialRecord) -> str | None:
    """The row that a trial is compared with; None where every baseline was trained for fewer epochs in all."""
    reference = reference_in(run, trial)
    if reference is None:
        return None
    return BASELINE if reference.name == run.best(BASELINE, 1)[0].name else longer_baseline(run, reference)


def compared_trials(run: Run) -> dict[str, list[str]]:
    """By row, its trial and that trial's repetitions: each strategy's best one, and longer baselines that they need."""
    best = {strategy: found[0] for strategy in run.strategies if (found := run.best(strategy, 1))}
    references = [r for s, trial in best.items() if s != BASELINE and (r := reference_in(run, trial)) is not None]
    rows = best | {longer_baseline(run, r): r for r in references if r.name != best[BASELINE].name}
    return {row: [trial.name, *(again.name for again in run.repetitions(trial.name))] for row, trial in rows.items()}


def _kept(run: Run, names: Sequence[str], split: str) -> tuple[dict[str, Predictions], list[str]]:
    """The predictions of those of these trials and controls that have any, and the names of those that lost them."""
    read = {name: read_predictions(run, name, split) for name in names}
    kept = {name: predictions for name, predictions in read.items() if predictions is not None}
    lost = [name for name in names if name not in kept and run.folder.exists(figures_path(name))]
    for name in lost:
        warn_of_damage(run, predictions_path(name, split))
    return kept, lost


def _statistics(
    run: Run, seeds: Mapping[str, Sequence[str]], on_test: Found, on_validation: Found, margin: float
) -> Statistics:
    names, first = list(on_test), next(iter(on_test.values()))
    patients = patients_of(run, first)
    counts = first.reported.sum(axis=0)
    found = Statistics(
        identity="",
        margin=margin,
        level=LEVEL,
        resamples=RESAMPLES,
        patients=len(np.unique(patients)),
        examples=len(first.labels),
        examples_per_symptom=dict(zip(run.symptoms, counts.tolist(), strict=True)),
        models={},
        strategies={},
        undefined_note="the test set is of one patient, so nothing can be said of how far chance reaches",
    )
    if found.patients < 2:
        return found
    resampled = resampled_figures(list(on_test.values()), patients)
    strategy_of = {name: strategy for strategy, trials in seeds.items() for name in trials}
    places = {strategy: [names.index(name) for name in trials] for strategy, trials in seeds.items()}
    strategies = {
        strategy: StrategyStatistics(
            trial=trials[0],
            seeds=tuple(trials),
            figures=_over_seeds(run, resampled, places[strategy]),
            epochs=epochs_in_all(run.trials, run.trials[trials[0]]),
            reference=row_of_reference(run, run.trials[trials[0]]) if strategy in _judged(run) else None,
        )
        for strategy, trials in seeds.items()
    }
    return replace(
        found,
        models={
            name: _model(run, strategy_of.get(name, name), resampled, i, on_test[name], on_validation.get(name))
            for i, name in enumerate(names)
        },
        strategies=_compared(run, strategies, resampled, places, on_test, patients, margin),
        undefined_note=_undefined_note(run, resampled, counts),
    )


def _model(
    run: Run,
    strategy: str,
    resampled: Resampled,
    place: int,
    on_test: Predictions,
    on_validation: Predictions | None,
) -> ModelStatistics:
    found = figure_intervals(resampled.mean([place]))
    confusion = resampled.confusions[:, place].sum(axis=0).astype(int)
    if run.is_multilabel:
        confusion = confusion[1:].reshape(-1, 4)[:, ::-1]
    validation = on_validation.metrics(run.symptoms) if on_validation else None
    return ModelStatistics(
        strategy=strategy,
        figures=figure_table(
            run, ModelFigure, point=found.point, low=found.low, high=found.high, undefined=found.undefined
        ),
        confusion=tuple(map(tuple, confusion.tolist())),
        calibration=_calibration(on_test, on_validation) if on_validation else None,
        validation_f1=validation.f1 if validation else None,
        test_f1=_defined(resampled.point[place, 0, METRICS.index("f1")]),
    )


def _calibration(on_test: Predictions, on_validation: Predictions) -> Calibration:
    temperature = fit_temperature(*on_validation.answers)
    labels, probabilities = on_test.answers
    before = reliability(labels, probabilities)
    after = reliability(labels, tempered(probabilities, temperature))
    return Calibration(
        temperature=temperature,
        error=before.expected_calibration_error,
        tempered_error=after.expected_calibration_error,
        reliability=_curve(before),
        tempered_reliability=_curve(after),
    )


def _curve(found: Reliability) -> ReliabilityCurve:
    return ReliabilityCurve(
        confidence=tuple(found.confidence.tolist()),
        accuracy=tuple(found.accuracy.tolist()),
        examples=tuple(found.examples.tolist()),
    )


def _over_seeds(run: Run, resampled: Resampled, models: Sequence[int]) -> Mapping[str, Mapping[str, SeedsFigure]]:
    found = figures_over_seeds(resampled, models)
    ends = found.intervals
    return figure_table(run, SeedsFigure, point=ends.point, low=ends.low, high=ends.high, deviation=found.deviation)


def _compared(
    run: Run,
    strategies: Mapping[str, StrategyStatistics],
    resampled: Resampled,
    places: Mapping[str, Sequence[int]],
    on_test: Found,
    patients: NDArray[Any],
    margin: float,
) -> Mapping[str, StrategyStatistics]:
    """The strategies with what tells each from its baseline; tests of examples compare the best trials alone."""
    compared = {
        strategy: (places[strategy], places[of.reference])
        for strategy, of in strategies.items()
        if of.reference is not None and of.reference in places
    }
    if not compared:
        return strategies
    judged = verdicts(resampled, compared, margin=margin)
    models = list(on_test.values())
    best = [(models[ours[0]], models[theirs[0]]) for ours, theirs in compared.values()]
    tests = [mcnemar(ours.right, theirs.right) for ours, theirs in best]
    corrected = holm([test.p for test in tests])
    areas = np.array([_delong(run, ours, theirs, patients) for ours, theirs in best])
    differences = _differences(run, resampled, list(compared.values()))
    found = dict(strategies)
    for i, (strategy, p, p_holm) in enumerate(zip(compared, areas, _holm_of_columns(areas), strict=True)):
        found[strategy] = replace(
            strategies[strategy],
            differences=differences[i],
            mcnemar=CorrectedMcNemar(**vars(tests[i]), p_holm=float(corrected[i])),
            delong=dict(zip(run.symptoms, map(_defined, p), strict=True)),
            verdict=judged[strategy],
            delong_holm=dict(zip(run.symptoms, map(_defined, p_holm), strict=True)),
        )
    return found


def _judged(run: Run) -> list[str]:
    """Strategies that are compared with a baseline."""
    return [strategy for strategy in run.strategies if strategy != BASELINE]


def _differences(
    run: Run, resampled: Resampled, compared: Sequence[Sides]
) -> list[Mapping[str, Mapping[str, DifferenceFigure]]]:
    """A table for each of those compared."""
    found = [compare(resampled, *sides) for sides in compared]
    for (models, baseline), difference in zip(compared, found, strict=True):
        if len(models) == len(baseline) == 1:  # as in verdicts
            difference.p[:, :-1] = swap_test(resampled, models[0], baseline[0])
    overall = _holm_of_columns(np.array([difference.p[0] for difference in found]))
    tables = []
    for difference, corrected in zip(found, overall, strict=True):
        p_holm = np.full(difference.p.shape, np.nan)
        p_holm[0] = corrected
        tables.append(
            figure_table(
                run,
                DifferenceFigure,
                point=difference.point,
                low=difference.low,
                high=difference.high,
                p=difference.p,
                p_holm=p_holm,
            )
        )
    return tables


def _delong(run: Run, ours: Predictions, theirs: Predictions, patients: NDArray[Any]) -> list[float]:
    """A p value for each symptom."""
    sides = np.stack([ours.probabilities, theirs.probabilities])
    return [delong_p(*delong(ours.reported[:, c], sides[:, :, c], patients)) for c in range(len(run.symptoms))]


def _holm_of_columns(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """(strategies, tests) p values, each test's corrected over the strategies; NaN stays NaN."""
    return np.where(np.isnan(p), np.nan, np.stack([holm(column) for column in p.T], axis=1))


def _undefined_note(run: Run, resampled: Resampled, counts: NDArray[np.int64]) -> str | None:
    """What the test set lacks, or what some resamples lacked."""
    notes = [
        f"{symptom} has no test example, so no figures"
        for symptom, count in zip(run.symptoms, counts, strict=True)
        if not count
    ]
    recall = resampled.replicates[:, 0, 1:, METRICS.index("recall")]
    lacking = np.isnan(recall[:, counts > 0])
    if lacking.any():
        rare = [
            symptom for symptom, lacks in zip(np.array(run.symptoms)[counts > 0], lacking.T, strict=True) if lacks.any()
        ]
        notes.append(
            f"{lacking.any(axis=1).sum():,} of {len(lacking):,} resamples lacked {' or '.join(rare)}, "
            "and intervals are of the others"
        )
    return "; ".join(notes) or None


_Figure = TypeVar("_Figure")


def figure_table(run: Run, of: Callable[..., _Figure], **arrays: NDArray[Any]) -> Mapping[str, Mapping[str, _Figure]]:
    """(1 + symptoms, metrics) arrays as a figure by ``OVERALL`` or symptom, and metric."""
    return {
        row: {
            metric: of(**{name: _defined(values[i, j]) for name, values in arrays.items()})
            for j, metric in enumerate(METRICS)
        }
        for i, row in enumerate((OVERALL, *run.symptoms))
    }


def _defined(value: np.generic) -> Any:
    """As Python's own number, or None where it is not finite."""
    plain = value.item()
    return plain if math.isfinite(plain) else None
