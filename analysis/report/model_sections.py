"""The sections that compare the deployed models on the test set."""

from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from analysis.evaluation.controls import CONTROLS
from analysis.evaluation.costs import COSTS
from analysis.evaluation.run_statistics import STATISTICS, Calibration, ModelStatistics, StrategyStatistics
from analysis.report import figures as draw
from analysis.report.figures import DifferenceRow, Point, ReliabilityLines
from analysis.report.findings import (
    NOT_EVALUATED,
    Findings,
    figures_file,
    lacking,
    scored,
)
from analysis.report.html_table import Column, Table
from analysis.report.page import Drawing, Section
from analysis.report.recommend import Recommendation
from analysis.statistics.resampling import METRICS, OVERALL
from analysis.text_tables import Row
from run_folder.names import RESULTS
from run_folder.trials import TrialRecord
from trainables.references import BASELINE

_SCORES = [Column(name, "F1" if name == "f1" else "AUROC" if name == "auroc" else name) for name in METRICS]


def quality(findings: Findings, chosen: Recommendation | None) -> Section:
    tested = [trial for trial in findings.run.trials.values() if trial.name in findings.tests]
    frame = pd.DataFrame([_cost_row(findings, trial) for trial in tested], dtype=object)
    columns = [
        Column("model", "model", "text"),
        Column("strategy", "strategy", "text"),
        Column("f1", "test macro F1", title="with its 95 % interval, over patients"),
        Column("bytes", "MB", "MB"),
        Column("latency", "ms", "ms", "median of one text, one thread, ONNX Runtime"),
        Column("throughput", "texts/s", "count"),
        Column("memory", "peak MB", "MB"),
    ]
    blocks = []
    megabytes = {trial.name: trial.final.bytes / 1e6 for trial in tested if trial.final}
    milliseconds = {name: costs.latency_median * 1e3 for name, costs in findings.costs.cpu.items()}
    for slug, costs_of, label in (
        ("quality-bytes", megabytes, "size of the deployed model, MB"),
        ("quality-latency", milliseconds, "median latency of one text on one CPU thread, ms"),
    ):
        points = _points(findings, tested, costs_of, chosen)
        if points:
            table = Table(
                slug,
                f"Test macro F1 and {label.split(',')[0]}",
                frame,
                columns,
                findings.sources(COSTS, STATISTICS),
                {"model": figures_file},
            )
            blocks.append(_quality_drawing(slug, label, points, findings, table))
    missing = [] if tested else [NOT_EVALUATED]
    if tested and not findings.costs.cpu:
        missing.append("Latency has not been measured: `symptune evaluate` does that.")
    lead = (
        "Each point is a deployed model: what it scores on patients that the search never saw, and what it costs to "
        f"keep and to run. Measured on {findings.costs.machine or 'no machine yet'}."
    )
    return Section("quality", "Quality against cost", lead, blocks, missing)


def _cost_row(findings: Findings, trial: TrialRecord) -> Row:
    costs = findings.costs.cpu.get(trial.name)
    return {
        "model": trial.name,
        "strategy": trial.strategy,
        **scored("f1", findings.test_score(trial.name)),
        "bytes": trial.final.bytes if trial.final else None,
        "latency": costs.latency_median if costs else None,
        "throughput": costs.throughput if costs else None,
        "memory": costs.peak_memory_bytes if costs else None,
    }


def _points(
    findings: Findings, trials: Sequence[TrialRecord], costs: Mapping[str, float], chosen: Recommendation | None
) -> list[Point]:
    """A point for each trial whose cost and test macro F1 are known."""
    scores = {trial.name: findings.test_score(trial.name) for trial in trials if trial.name in costs}
    is_chosen = chosen.trial.name if chosen else None
    return [
        Point(trial.strategy, costs[trial.name], score.point, score.low, score.high, trial.name == is_chosen)
        for trial in trials
        if (score := scores.get(trial.name)) and score.point is not None
    ]


def _quality_drawing(slug: str, label: str, points: list[Point], findings: Findings, table: Table) -> Drawing:
    what = label.split(",")[0]
    return Drawing(
        slug,
        f"Test macro F1 against {what}",
        "Up and to the left is better. Bars are 95 % intervals; the grey steps join the models that no other "
        "surpasses in both (the Pareto front of these estimates). Where bars overlap much, height alone tells little.",
        lambda: draw.quality_against(points, findings.run.strategies, label),
        table,
    )


def differences(findings: Findings) -> Section:
    lead = (
        "Each strategy against the baseline on the same test patients, so that what is hard for both cancels out. "
        "An interval wholly right of the shaded band's left edge is not worse by more than the margin."
    )
    if findings.statistics is None:
        return Section("differences", "Differences from the baseline", lead, missing=[lacking(STATISTICS, "They have")])
    compared = {
        strategy: statistics
        for strategy, statistics in findings.statistics.strategies.items()
        if statistics.differences
    }
    rows = [_difference_row(strategy, statistics) for strategy, statistics in compared.items()]
    if not rows:
        alone = findings.best(BASELINE) is not None
        line = "There is nothing to compare the baseline with." if alone else "There is no baseline to compare with."
        return Section("differences", "Differences from the baseline", lead, missing=[line])
    columns = [
        Column("strategy", "strategy", "text"),
        *(Column(m, c.label, "signed") for m, c in zip(METRICS, _SCORES, strict=True)),
        Column("p", "p, Holm", "p", "corrected over the strategies; macro F1"),
        Column(
            "mcnemar", "McNemar, Holm", "p", "accuracy of the best trials alone, exact; takes examples as independent"
        ),
        Column("seeds", "seeds", "count", "trainings of the best configuration"),
    ]
    table = Table(
        "differences",
        "Macro figures minus the baseline's, with 95 % intervals",
        pd.DataFrame(rows, dtype=object),
        columns,
        findings.sources(STATISTICS),
    )
    points = [
        DifferenceRow(strategy, f1.point, f1.low, f1.high)
        for strategy, statistics in compared.items()
        if statistics.differences and (f1 := statistics.differences[OVERALL]["f1"]).point is not None
    ]
    margin = findings.statistics.margin
    drawing = Drawing(
        "forest",
        "Macro F1 minus the baseline's",
        "A point is the estimate, its line the 95 % interval. A line that crosses 0 does not show that the strategy is "
        "better or worse than the baseline.",
        lambda: draw.differences_forest(points, findings.run.strategies, margin),
        table,
    )
    notes = [findings.statistics.undefined_note] if findings.statistics.undefined_note else []
    return Section("differences", "Differences from the baseline", lead, [drawing], notes)


def _difference_row(strategy: str, judged: StrategyStatistics) -> Row:
    row: Row = {"strategy": strategy}
    for metric in METRICS:
        row |= scored(metric, judged.differences[OVERALL][metric] if judged.differences else None)
    row |= {
        "p": judged.verdict.p if judged.verdict else None,
        "mcnemar": judged.mcnemar.p_holm if judged.mcnemar else None,
        "seeds": len(judged.seeds),
    }
    return row


def symptoms(findings: Findings) -> Section:
    lead = "An average can hide a symptom that a strategy loses. Each symptom is read against the rest."
    table2 = findings.board.table2
    if table2.empty:
        return Section("symptoms", "Symptom by symptom", lead, missing=[NOT_EVALUATED])
    numbers = table2.assign(f1=pd.to_numeric(table2["f1"], errors="coerce"))
    wide = numbers.pivot(index="strategy", columns="symptom", values="f1")
    shown = [name for name in dict.fromkeys(table2["strategy"]) if name != CONTROLS[0]]  # it says one symptom only
    wide = wide.reindex(index=shown, columns=list(findings.run.symptoms))
    rows: list[Row] = [{str(k): v for k, v in row.items()} for row in table2.to_dict("records")]
    for row in rows:
        trial = findings.best(str(row["strategy"]))
        row["model"] = trial.name if trial else row["strategy"]
    columns = [Column("symptom", "symptom", "text"), Column("strategy", "strategy", "text"), *_SCORES[1:]]
    table = Table(
        "symptoms",
        "Test figures by symptom and strategy, with 95 % intervals where they are known",
        pd.DataFrame(rows, dtype=object),
        columns,
        findings.sources(f"{RESULTS}/table2.csv", STATISTICS),
        {"strategy": figures_file},
    )
    drawing = Drawing(
        "heat",
        "Test F1 by symptom",
        "Darker is better. Read down a column: a cell that is much paler than the baseline's shows a symptom that "
        "the strategy harms. Grey: not defined, the test set lacks the symptom.",
        lambda: draw.heat_map(wide, "test F1"),
        table,
    )
    return Section("symptoms", "Symptom by symptom", lead, [drawing])


def _shown_models(findings: Findings, known: Collection[str]) -> list[str]:
    """Each strategy's model and the TF-IDF control, among those known."""
    best = [trial.name for strategy in findings.run.strategies if (trial := findings.best(strategy))]
    return [name for name in (*best, CONTROLS[1]) if name in known]


def calibration(findings: Findings) -> Section:
    lead = "Whether a model that says 0.9 is right nine times in ten. The temperature is fitted on validation alone."
    if findings.run.is_multilabel:
        lead += (
            " The models' probabilities have a temperature for each symptom in them already;"
            " the one here is another, for all symptoms together, and near 1 where nothing is left to correct."
        )
    known = {name: model.calibration for name, model in _models(findings).items() if model.calibration}
    names = _shown_models(findings, known)
    if not names:
        line = "There are no predictions on the validation set to fit a temperature on: `symptune evaluate` makes them."
        none = lacking(STATISTICS, "Calibration has") if findings.statistics is None else line
        return Section("calibration", "Calibration", lead, missing=[none])
    curves = {name: _reliability(known[name]) for name in names}
    rows = [
        {"model": name, "error": of.error, "tempered_error": of.tempered_error, "temperature": of.temperature}
        for name, of in known.items()
    ]
    columns = [
        Column("model", "model", "text"),
        Column("error", "calibration error"),
        Column("tempered_error", "with temperature"),
        Column("temperature", "temperature", "score", "above 1: it was too sure"),
    ]
    table = Table(
        "calibration",
        "Expected calibration error on the test set, 10 bins of equal mass: 0 is perfect",
        pd.DataFrame(rows, dtype=object),
        columns,
        findings.sources(STATISTICS),
        {"model": figures_file},
    )
    drawing = Drawing(
        "reliability",
        "Reliability",
        "Below the diagonal a model is surer than it is right. The blue line is the same model with its temperature.",
        lambda: draw.reliability(curves),
        table,
    )
    return Section("calibration", "Calibration", lead, [drawing])


def _reliability(calibration: Calibration) -> ReliabilityLines:
    before, after = calibration.reliability, calibration.tempered_reliability
    return ReliabilityLines((before.confidence, before.accuracy), (after.confidence, after.accuracy))


def _models(findings: Findings) -> Mapping[str, ModelStatistics]:
    return findings.statistics.models if findings.statistics else {}


def confusions(findings: Findings) -> Section:
    lead = "Which symptom is taken for which."
    known = _models(findings)
    names = _shown_models(findings, known)
    if not names:
        return Section("confusions", "Confusion matrices", lead, missing=[lacking(STATISTICS, "They have")])
    symptoms = findings.run.symptoms
    if findings.run.is_multilabel:
        return Section("confusions", "Right and wrong answers", _ANSWERS, [_answers(findings, names)])
    rows = [
        {"model": name, "true": true, **dict(zip(symptoms, line, strict=True))}
        for name in names
        for true, line in zip(symptoms, known[name].confusion, strict=True)
    ]
    columns = [Column("model", "model", "text"), Column("true", "true symptom", "text")]
    columns += [Column(symptom, f"as {symptom}", "count") for symptom in symptoms]
    table = Table(
        "confusions",
        "Test examples by true and predicted symptom",
        pd.DataFrame(rows, dtype=object),
        columns,
        findings.sources(STATISTICS),
        {"model": figures_file},
    )
    drawing = Drawing(
        "confusions",
        "Confusion matrices",
        "Numbers are test examples, shades are shares of the true symptom (dark: all). A good model is dark on the "
        "diagonal alone.",
        lambda: draw.confusion_matrices({name: known[name].confusion for name in names}, symptoms),
        table,
    )
    return Section("confusions", "Confusion matrices", lead, [drawing])


_ANSWERS = "How many test texts a model has right and wrong, by symptom."


def _answers(findings: Findings, names: Sequence[str]) -> Table:
    known, answers = _models(findings), ("hits", "missed", "false_alarms", "neither")
    rows = [
        {"model": name, "symptom": symptom, **dict(zip(answers, line, strict=True))}
        for name in names
        for symptom, line in zip(findings.run.symptoms, known[name].confusion, strict=True)
    ]
    columns = [
        Column("model", "model", "text"),
        Column("symptom", "symptom", "text"),
        Column("hits", "reported and said", "count"),
        Column("missed", "reported, not said", "count"),
        Column("false_alarms", "said, not reported", "count"),
        Column("neither", "neither", "count"),
    ]
    frame, sources = pd.DataFrame(rows, dtype=object), findings.sources(STATISTICS)
    return Table("confusions", "Test texts by symptom and answer", frame, columns, sources, {"model": figures_file})
