"""The sections of the page below its first screen; what a run lacks is a line that says so."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.controls import CONTROLS
from analysis.leaderboard import METRICS
from analysis.report import figures as draw
from analysis.report.figures import Band, Curve, Difference, Point, Reliability
from analysis.report.findings import BASELINE, INSIGHT, PAPER, ROBUSTNESS, STATISTICS, Findings
from analysis.report.page import Drawing, Section
from analysis.report.recommend import Recommendation
from analysis.report.table import Column, Table
from analysis.run import TrialRecord

_READINGS = {
    "as_written": "as written",
    "masked": "name masked",
    "renamed": "name replaced",
    "negated": "negated",
}
_NOT_EVALUATED = "Nothing has been evaluated on the test set yet: `symptune evaluate` does that."
_SCORES = [Column(name, "F1" if name == "f1" else "AUROC" if name == "auroc" else name) for name in METRICS]

Row = Mapping[str, Any]


def sections(findings: Findings, chosen: Recommendation | None) -> list[Section]:
    """In the order of the page."""
    return [
        _quality(findings, chosen),
        _differences(findings),
        _symptoms(findings),
        _search(findings),
        _calibration(findings),
        _confusions(findings),
        _robustness(findings),
        _subgroups(findings),
        _paper(findings),
        _leaderboard(findings),
    ]


def lacking(file: str, what: str) -> str:
    return f"{what} not been worked out for this run (there is no results/{file}): `symptune evaluate` does that."


def figures_file(row: Row) -> str | None:
    """Where the figures of a row's model stand, relative to the page."""
    return f"trials/{row['model']}.json" if row.get("model") else None


def _quality(findings: Findings, chosen: Recommendation | None) -> Section:
    rows = [_cost_row(findings, trial) for trial in findings.run.trials.values() if trial.name in findings.tests]
    frame = pd.DataFrame(rows, dtype=object)
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
    for slug, cost, scale, label in (
        ("quality-bytes", "bytes", 1e6, "size of the deployed model, MB"),
        ("quality-latency", "latency", 1e3, "median latency of one text on one CPU thread, ms"),
    ):
        known = [row for row in rows if row[cost] is not None and row["f1"] is not None]
        points = [_point(row, cost, scale, chosen) for row in known]
        if points:
            table = Table(
                slug,
                f"Test macro F1 and {label.split(',')[0]}",
                frame,
                columns,
                findings.sources("costs.json", STATISTICS),
                {"model": figures_file},
            )
            blocks.append(_quality_drawing(slug, label, points, findings, table))
    missing = [] if rows else [_NOT_EVALUATED]
    if rows and not findings.costs["cpu"]:
        missing.append("Latency has not been measured: `symptune evaluate` does that.")
    lead = (
        "Each point is a deployed model: what it scores on patients that the search never saw, and what it costs to "
        f"keep and to run. Measured on {findings.costs['machine'] or 'no machine yet'}."
    )
    return Section("quality", "Quality against cost", lead, blocks, missing)


def _cost_row(findings: Findings, trial: TrialRecord) -> dict[str, Any]:
    costs = findings.costs["cpu"].get(trial.name, {})
    return {
        "model": trial.name,
        "strategy": trial.strategy,
        **_scored("f1", findings.test_score(trial.name)),
        "bytes": trial.final.get("bytes"),
        "latency": costs.get("latency_median"),
        "throughput": costs.get("throughput"),
        "memory": costs.get("peak_memory_bytes"),
    }


def _scored(name: str, score: Row | None) -> dict[str, Any]:
    score = score or {"point": None, "low": None, "high": None}
    return {name: score["point"], f"{name}_low": score["low"], f"{name}_high": score["high"]}


def _point(row: Row, cost: str, scale: float, chosen: Recommendation | None) -> Point:
    return Point(
        row["strategy"],
        row[cost] * scale if cost == "latency" else row[cost] / scale,
        row["f1"],
        row["f1_low"],
        row["f1_high"],
        chosen is not None and chosen.trial.name == row["model"],
    )


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


def _differences(findings: Findings) -> Section:
    lead = (
        "Each strategy against the baseline on the same test patients, so that what is hard for both cancels out. "
        "An interval wholly right of the shaded band's left edge is not worse by more than the margin."
    )
    if findings.statistics is None:
        return Section("differences", "Differences from the baseline", lead, missing=[lacking(STATISTICS, "They have")])
    rows = [_difference_row(s, of) for s, of in findings.statistics["strategies"].items() if of.get("differences")]
    if not rows:
        alone = findings.best(BASELINE) is not None
        line = "There is nothing to compare the baseline with." if alone else "There is no baseline to compare with."
        return Section("differences", "Differences from the baseline", lead, missing=[line])
    columns = [
        Column("strategy", "strategy", "text"),
        *(Column(m, c.label, "signed") for m, c in zip(METRICS, _SCORES)),
        Column("p", "p, Holm", "p", "corrected over the strategies; macro F1"),
        Column("mcnemar", "McNemar, Holm", "p", "accuracy, exact; takes examples as independent"),
        Column("seeds", "seeds", "count", "trainings of the best configuration"),
    ]
    table = Table(
        "differences",
        "Macro figures minus the baseline's, with 95 % intervals",
        pd.DataFrame(rows, dtype=object),
        columns,
        findings.sources(STATISTICS),
    )
    points = [Difference(row["strategy"], row["f1"], row["f1_low"], row["f1_high"]) for row in rows]
    margin = findings.statistics["margin"]
    drawing = Drawing(
        "forest",
        "Macro F1 minus the baseline's",
        "A point is the estimate, its line the 95 % interval. A line that crosses 0 does not show that the strategy is "
        "better or worse than the baseline.",
        lambda: draw.differences_forest(points, findings.run.strategies, margin),
        table,
    )
    notes = [findings.statistics["undefined_note"]] if findings.statistics.get("undefined_note") else []
    return Section("differences", "Differences from the baseline", lead, [drawing], notes)


def _difference_row(strategy: str, judged: Row) -> dict[str, Any]:
    overall = judged["differences"]["overall"]
    row: dict[str, Any] = {"strategy": strategy}
    for metric in METRICS:
        row |= _scored(metric, overall[metric])
    mcnemar = judged.get("mcnemar") or {}
    return row | {"p": judged["verdict"]["p"], "mcnemar": mcnemar.get("p_holm"), "seeds": len(judged["seeds"])}


def _symptoms(findings: Findings) -> Section:
    lead = "An average can hide a symptom that a strategy loses. Each symptom is read against the rest."
    table2 = findings.board.table2
    if table2.empty:
        return Section("symptoms", "Symptom by symptom", lead, missing=[_NOT_EVALUATED])
    numbers = table2.assign(f1=pd.to_numeric(table2["f1"], errors="coerce"))
    wide = numbers.pivot(index="strategy", columns="symptom", values="f1")
    wide = wide.reindex(index=list(dict.fromkeys(table2["strategy"])), columns=list(findings.run.symptoms))
    rows = [dict(row) for row in table2.to_dict("records")]
    for row in rows:
        trial = findings.best(str(row["strategy"]))
        row["model"] = trial.name if trial else row["strategy"]
        row |= _symptom_intervals(findings, row)
    columns = [Column("symptom", "symptom", "text"), Column("strategy", "strategy", "text"), *_SCORES[1:]]
    table = Table(
        "symptoms",
        "Test figures by symptom and strategy, with 95 % intervals where they are known",
        pd.DataFrame(rows, dtype=object),
        columns,
        findings.sources("table2.csv", STATISTICS),
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


def _symptom_intervals(findings: Findings, row: Row) -> dict[str, Any]:
    model = (findings.statistics or {}).get("models", {}).get(row["model"])
    scores = model["figures"].get(row["symptom"], {}) if model else {}
    return {f"{m}_{end}": score[end] for m, score in scores.items() if m != "accuracy" for end in ("low", "high")}


def _search(findings: Findings) -> Section:
    lead = "How each strategy's search went, by validation figures alone; whether more of it would pay."
    if not findings.run.trials:
        return Section("search", "The search", lead, missing=["No trial has started yet."])
    of_search = [t for t in findings.run.trials.values() if t.repeats is None]
    strategies = findings.run.strategies
    curves = {s: [_curve(t) for t in of_search if t.strategy == s and (t.epochs or t.final)] for s in strategies}
    curves = {s: mine for s, mine in curves.items() if mine}
    places = {s: [(i, _curve(t)) for i, t in enumerate(of_search, 1) if t.strategy == s] for s in curves}
    epochs = max((len(c.scores) for mine in curves.values() for c in mine), default=1)
    blocks: list[Drawing | Table] = []
    missing = []
    if curves:
        blocks += [
            Drawing(
                "history",
                "Search history",
                "Filled marks are finished trials (the deployed model's figure), hollow ones were stopped early, failed "
                "or still run (their best epoch). Lines are each strategy's best so far.",
                lambda: draw.search_history(places, strategies),
            ),
            Drawing(
                "curves",
                "Learning curves",
                "Dashed grey: stopped early, failed or running. The thick line is the best trial. A mark below the end "
                "of its line is what compression cost after training.",
                lambda: draw.learning_curves(curves, strategies, epochs),
            ),
        ]
    else:
        missing.append("No trial has finished an epoch.")
    if findings.insight is None:
        return Section("search", "The search", lead, blocks, [*missing, lacking(INSIGHT, "Search insight has")])
    return Section(
        "search", "The search", lead, [*blocks, *_insight(findings, findings.insight["strategies"])], missing
    )


def _curve(trial: TrialRecord) -> Curve:
    scores = [float(epoch["f1"]) for epoch in trial.epochs if epoch.get("f1") is not None]
    return Curve(trial.state, scores, trial.score if trial.state == "finished" else None)


def _insight(findings: Findings, insight: Mapping[str, Row]) -> list[Drawing | Table]:
    bands = {
        s: Band(*(of["expected_best"][k] for k in ("mean", "low", "high")))
        for s, of in insight.items()
        if of.get("expected_best") and of["expected_best"]["mean"]
    }
    shares = {s: of["importances"] for s, of in insight.items() if of.get("importances")}
    blocks: list[Drawing | Table] = []
    if bands:
        blocks.append(
            Drawing(
                "expected",
                "Expected best validation score by number of trials",
                "What the best of so many trials would score on average (Dodge et al. 2019), with the band that holds "
                "95 of 100 such searches. A line that still climbs at its right end says that more trials would pay. "
                "Dashed grey: the baseline.",
                lambda: draw.expected_best(bands, findings.run.strategies, BASELINE),
                _expected_table(findings, bands),
            )
        )
    if shares:
        blocks.append(_importances(findings, shares))
    return [*blocks, _search_table(findings, insight)]


def _expected_table(findings: Findings, bands: Mapping[str, Band]) -> Table:
    rows = [
        {"strategy": strategy, "trials": k, "f1": mean, "f1_low": low, "f1_high": high}
        for strategy, band in bands.items()
        for k, (mean, low, high) in enumerate(zip(band.mean, band.low, band.high, strict=True), 1)
    ]
    columns = [
        Column("strategy", "strategy", "text"),
        Column("trials", "trials", "count"),
        Column("f1", "expected best F1"),
    ]
    return Table(
        "expected", "Expected best validation macro F1", pd.DataFrame(rows), columns, findings.sources(INSIGHT)
    )


def _importances(findings: Findings, shares: Mapping[str, Mapping[str, float]]) -> Drawing:
    wide = pd.DataFrame(shares)
    wide = wide.loc[wide.max(axis=1).sort_values(ascending=False).index]
    rows = [{"parameter": p, "strategy": s, "share": v} for s, of in shares.items() for p, v in of.items()]
    columns = [
        Column("parameter", "parameter", "text"),
        Column("strategy", "strategy", "text"),
        Column("share", "share", "percent"),
    ]
    return Drawing(
        "importances",
        "Parameter importances",
        "Share of the variance of validation macro F1 that each searched parameter explains (fANOVA). Grey: not "
        "searched by that strategy. Few trials make these rough.",
        lambda: draw.heat_map(wide, "share of the variance", percent=True),
        Table("importances", "Importances by fANOVA", pd.DataFrame(rows), columns, findings.sources(INSIGHT)),
    )


def _search_table(findings: Findings, insight: Mapping[str, Row]) -> Table:
    rows = [
        {
            "strategy": strategy,
            **{name: of[name] for name in ("trials", "finished", "stopped", "failed")},
            "stopped_after": ", ".join(f"epoch {e}: {n}" for e, n in (of.get("stopped_after") or {}).items()) or None,
            **{name: (of.get("gap") or {}).get(name) for name in ("validation_f1", "test_f1", "difference")},
            "note": of.get("importances_note"),
        }
        for strategy, of in insight.items()
    ]
    columns = [
        Column("strategy", "strategy", "text"),
        *(Column(name, name, "count") for name in ("trials", "finished", "stopped", "failed")),
        Column("stopped_after", "stopped after", "text"),
        Column("validation_f1", "validation F1"),
        Column("test_f1", "test F1"),
        Column("difference", "gap", "signed", "test minus validation, as written there"),
    ]
    if any(row["note"] for row in rows):
        columns.append(Column("note", "importances", "words"))
    return Table(
        "search-outcome",
        "What became of the trials, and how the best one's validation figure held on the test set",
        pd.DataFrame(rows, dtype=object),
        columns,
        findings.sources(INSIGHT),
    )


def _shown_models(findings: Findings, known: Mapping[str, Any]) -> list[str]:
    """Each strategy's model and the TF-IDF control, among those known."""
    best = [trial.name for strategy in findings.run.strategies if (trial := findings.best(strategy))]
    return [name for name in (*best, CONTROLS[1]) if name in known]


def _calibration(findings: Findings) -> Section:
    lead = "Whether a model that says 0.9 is right nine times in ten. The temperature is fitted on validation alone."
    known = {n: m for n, m in (findings.statistics or {}).get("models", {}).items() if m.get("calibration")}
    names = _shown_models(findings, known)
    if not names:
        return Section("calibration", "Calibration", lead, missing=[lacking(STATISTICS, "Calibration has")])
    curves = {name: _reliability(known[name]["calibration"]) for name in names}
    rows = [
        {"model": n, "error": c["error"], "tempered_error": c["tempered_error"], "temperature": c["temperature"]}
        for n in known
        for c in [known[n]["calibration"]]
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


def _reliability(calibration: Row) -> Reliability:
    before, after = calibration["reliability"], calibration["tempered_reliability"]
    return Reliability((before["confidence"], before["accuracy"]), (after["confidence"], after["accuracy"]))


def _confusions(findings: Findings) -> Section:
    lead = "Which symptom is taken for which."
    known = (findings.statistics or {}).get("models", {})
    names = _shown_models(findings, known)
    if not names:
        return Section("confusions", "Confusion matrices", lead, missing=[lacking(STATISTICS, "They have")])
    symptoms = findings.run.symptoms
    rows = [
        {"model": name, "true": true, **dict(zip(symptoms, line, strict=True))}
        for name in names
        for true, line in zip(symptoms, known[name]["confusion"], strict=True)
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
        lambda: draw.confusion_matrices({name: known[name]["confusion"] for name in names}, symptoms),
        table,
    )
    return Section("confusions", "Confusion matrices", lead, [drawing])


def _robustness(findings: Findings) -> Section:
    lead = (
        "The test set read again: as written; with the symptom's name masked; with the name replaced by a form that "
        "training never showed; and with the sentence negated by rule."
    )
    if findings.robustness is None:
        return Section("robustness", "Robustness", lead, missing=[lacking(ROBUSTNESS, "Robustness has")])
    models = findings.robustness["models"]
    read = {name: _READINGS.get(name, name) for name in findings.robustness["readings"]}
    f1 = {n: {read[r]: of["f1"] for r, of in m["readings"].items() if r != "negated"} for n, m in models.items()}
    wide = pd.DataFrame.from_dict(f1, orient="index").astype(float)
    rows = [
        {"model": name, "reading": read[reading], **of}
        for name, m in models.items()
        for reading, of in m["readings"].items()
    ]
    columns = [
        Column("model", "model", "text"),
        Column("reading", "reading", "text"),
        Column("examples", "examples", "count"),
        Column("left_out", "left out", "count", "texts that cannot be rewritten so"),
        Column("accuracy", "accuracy"),
        Column("f1", "macro F1"),
        Column(
            "still_says", "still says it", "percent", "negated texts for which the model still says the denied symptom"
        ),
        Column("mean_confidence", "confidence"),
    ]
    table = Table(
        "robustness",
        "Each deployed model on the four readings of the test set",
        pd.DataFrame(rows, dtype=object).drop(columns="per_symptom", errors="ignore"),
        columns,
        findings.sources(ROBUSTNESS),
        {"model": figures_file},
    )
    recall = _recall_table(findings, models, read)
    if not wide.notna().any(axis=None):
        return Section("robustness", "Robustness", lead, [table, recall])
    drawing = Drawing(
        "readings",
        "Macro F1 by reading",
        "A cell that is much paler than “as written” in its row shows what the model owes to the symptom's name.",
        lambda: draw.heat_map(wide, "macro F1"),
        recall,
    )
    return Section("robustness", "Robustness", lead, [drawing, table])


def _recall_table(findings: Findings, models: Mapping[str, Row], read: Mapping[str, str]) -> Table:
    rows = []
    for name, model in models.items():
        symptoms = dict.fromkeys(s for of in model["readings"].values() for s in of["per_symptom"])
        for symptom in symptoms:
            found = {r: of["per_symptom"].get(symptom, {}).get("recall") for r, of in model["readings"].items()}
            rows.append({"model": name, "symptom": symptom, **found})
    columns = [Column("model", "model", "text"), Column("symptom", "symptom", "text")]
    columns += [Column(reading, words) for reading, words in read.items()]
    return Table(
        "robustness-symptoms",
        "Share of each symptom's texts for which the model says the symptom, by reading. For negated texts, low is good",
        pd.DataFrame(rows, dtype=object),
        columns,
        findings.sources(ROBUSTNESS),
        {"model": figures_file},
    )


def _subgroups(findings: Findings) -> Section:
    lead = (
        "Compression can harm a group while the average stays. Harmed: texts that the baseline has right and this "
        "model has wrong; helped: the other way round. Mind the sizes."
    )
    if findings.robustness is None:
        return Section("subgroups", "Subgroups", lead, missing=[lacking(ROBUSTNESS, "Subgroups have")])
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, model in findings.robustness["models"].items():
        for column, values in (model.get("subgroups") or {}).items():
            groups.setdefault(column, []).extend({"model": name, **value} for value in values)
    tables = [_subgroup_table(findings, place, column, rows) for place, (column, rows) in enumerate(groups.items())]
    missing = [] if tables else ["The notes have no column to group by."]
    return Section("subgroups", "Subgroups", lead, tables, missing)


def _subgroup_table(findings: Findings, place: int, column: str, rows: Sequence[Row]) -> Table:
    named = [{**row, "accuracy_low": row["low"], "accuracy_high": row["high"]} for row in rows]
    columns = [
        Column("model", "model", "text"),
        Column("value", column, "text"),
        Column("examples", "examples", "count"),
        Column("patients", "patients", "count"),
        Column("accuracy", "accuracy"),
        Column("f1", "macro F1"),
        Column("disagreement", "disagreement", "percent", "examples that it and the baseline predict otherwise"),
        Column("harmed", "harmed", "count"),
        Column("helped", "helped", "count"),
    ]
    frame = pd.DataFrame(named, dtype=object).drop(columns=["low", "high"])
    return Table(
        f"subgroups-{place}", f"By {column}", frame, columns, findings.sources(ROBUSTNESS), {"model": figures_file}
    )


def _paper(findings: Findings) -> Section:
    lead = "Our figures beside those of the paper, and which of its claims this run supports."
    if findings.paper is None:
        line = f"Not compared yet (there is no results/{PAPER}): `symptune compare-paper` does that."
        return Section("paper", "Against the paper", lead, missing=[line])
    claims = [
        Column("claim", "claim", "words"),
        Column("paper", "the paper", "words"),
        Column("ours", "this run", "words"),
        Column("verdict", "verdict", "text"),
        Column("why", "why", "words"),
    ]
    blocks = []
    if findings.paper.get("claims"):
        blocks.append(
            Table(
                "paper-claims",
                "The paper's claims",
                pd.DataFrame(findings.paper["claims"]),
                claims,
                findings.sources(PAPER),
            )
        )
    for slug, words in (("table1", "Table I"), ("table2", "Table II")):
        if findings.paper.get(slug):
            frame = pd.DataFrame(findings.paper[slug], dtype=object)
            blocks.append(
                Table(
                    f"paper-{slug}", f"The paper's {words} beside ours", frame, _guessed(frame), findings.sources(PAPER)
                )
            )
    missing = (
        []
        if findings.paper.get("protocol")
        else ["This run is not of the paper's protocol, so figures differ by more than chance."]
    )
    return Section("paper", "Against the paper", lead, blocks, missing)


def _guessed(frame: pd.DataFrame) -> list[Column]:
    numeric = frame.map(lambda v: v is None or isinstance(v, int | float)).all()
    return [
        Column(str(n), str(n).replace("_", " "), "score" if numeric[n] else "text")
        for n in frame.columns
        if not str(n).endswith(("_low", "_high"))
    ]


def _leaderboard(findings: Findings) -> Section:
    lead = (
        "Every trial, also those that were stopped or failed. Validation figures rank; test figures decide nothing. "
        "A trial's name leads to its record in the run's ledger, its test figure to the file that holds it."
    )
    rows = [_trial_row(findings, trial) for trial in findings.run.trials.values()]
    rows += [_control_row(findings, name) for name in CONTROLS if name in findings.tests]
    if not rows:
        return Section("leaderboard", "All trials", lead, missing=["No trial has started yet."])
    frame = pd.DataFrame(rows, dtype=object)
    order = pd.to_numeric(frame["validation_f1"]).where(frame["state"] == "finished", -1)
    frame = frame.loc[order.sort_values(ascending=False, kind="stable").index]
    columns = [
        Column("trial", "trial", "text"),
        Column("strategy", "strategy", "text"),
        Column("state", "state", "text"),
        Column("validation_f1", "val F1", title="macro F1 on validation; of the deployed model where it finished"),
        Column("test_f1", "test F1", title="macro F1, with its 95 % interval where it is known"),
        Column("bytes", "MB", "MB"),
        Column("latency", "ms", "ms"),
        Column("pareto", "front", "yes", "no other finished trial is both better (val F1) and smaller"),
        Column("epochs", "epochs", "count"),
        Column("seconds", "s", "seconds", "of training"),
        Column("seed", "seed", "text"),
        Column("reason", "note", "words"),
        Column("configuration", "configuration", "text"),
    ]
    table = Table(
        "trials",
        "All trials, best validation macro F1 first",
        frame,
        columns,
        findings.sources("leaderboard.csv"),
        {"trial": _trial_link(findings), "test_f1": _test_link(findings)},
        most=2000,
    )
    missing = [f"{strategy}: no model ({reason})" for strategy, reason in findings.board.without.items()]
    return Section("leaderboard", "All trials", lead, [table], missing)


def _trial_row(findings: Findings, trial: TrialRecord) -> dict[str, Any]:
    score = findings.test_score(trial.name) if trial.name in findings.tests else None
    board = findings.board.best
    on_front = not board.empty and bool(board.loc[board["trial"] == trial.name, "pareto"].eq(True).any())
    note = trial.reason or (f"repeats {trial.repeats} with another seed" if trial.repeats else None)
    return {
        "trial": trial.name,
        "strategy": trial.strategy,
        "state": trial.state,
        "validation_f1": trial.best_f1,
        **_scored("test_f1", score),
        "bytes": trial.final.get("bytes"),
        "latency": findings.latency(trial.name),
        "pareto": on_front,
        "epochs": len(trial.epochs),
        "seconds": trial.final.get("seconds"),
        "seed": str(trial.seed),
        "configuration": ", ".join(f"{n}={_short(v)}" for n, v in trial.hyperparameters.items()) or None,
        "reason": note,
    }


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _control_row(findings: Findings, name: str) -> dict[str, Any]:
    validation = findings.tests[name]["validation"]["f1"]
    test = findings.test_score(name)
    return {
        "trial": name,
        "strategy": "control",
        "state": "finished",
        "validation_f1": validation,
        **_scored("test_f1", test),
        "reason": "no language model",
    }


def _trial_link(findings: Findings) -> Callable[[Row], str | None]:
    return lambda row: f"../{findings.records[row['trial']]}" if row["trial"] in findings.records else None


def _test_link(findings: Findings) -> Callable[[Row], str | None]:
    return lambda row: f"trials/{row['trial']}.json" if row["trial"] in findings.tests else None
