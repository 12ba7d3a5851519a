"""The sections about the search: how it went, and all of its trials."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pandas as pd

from analysis.evaluation.controls import CONTROLS
from analysis.evaluation.search_insight import INSIGHT, Gap, StrategyInsight
from analysis.report import figures as draw
from analysis.report.figures import Band, Curve
from analysis.report.findings import Findings, lacking, scored, trial_file
from analysis.report.html_table import Column, Link, Table
from analysis.report.page import Drawing, Section
from analysis.text_tables import Row
from run_folder.names import RESULTS
from run_folder.trials import TrialRecord
from trainables.references import BASELINE


def search(findings: Findings) -> Section:
    lead = "How each strategy's search went, by validation figures alone; whether more of it would pay."
    if not findings.run.trials:
        return Section("search", "The search", lead, missing=["No trial has started yet."])
    of_search = [t for t in findings.run.trials.values() if t.of_search]
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
                "Filled marks are finished trials (the deployed model's figure), hollow ones were stopped early, "
                "failed or still run (their best epoch). Lines are each strategy's best so far.",
                lambda: draw.search_history(places, strategies),
            ),
            Drawing(
                "curves",
                "Learning curves",
                "Dashed grey: stopped early, failed or running. The thick line is the best trial; of more than 150 the "
                "best 150 are drawn. A mark below the end of its line is what compression cost after training.",
                lambda: draw.learning_curves(curves, strategies, epochs),
            ),
        ]
    else:
        missing.append("No trial has finished an epoch.")
    if findings.insight is None:
        return Section("search", "The search", lead, blocks, [*missing, lacking(INSIGHT, "Search insight has")])
    return Section("search", "The search", lead, [*blocks, *_insight(findings, findings.insight.strategies)], missing)


def _curve(trial: TrialRecord) -> Curve:
    scores = [epoch.f1 for epoch in trial.epochs]
    return Curve(trial.state, scores, trial.score if trial.state == "finished" else None)


def _insight(findings: Findings, insight: Mapping[str, StrategyInsight]) -> list[Drawing | Table]:
    bands = {
        strategy: Band(best.mean, best.low, best.high)
        for strategy, found in insight.items()
        if (best := found.expected_best).mean
    }
    shares = {strategy: found.importances for strategy, found in insight.items() if found.importances}
    blocks: list[Drawing | Table] = []
    if bands:
        blocks.append(
            Drawing(
                "expected",
                "Expected best validation score by number of trials",
                "What the best of this number of trials would score on average (Dodge et al. 2019), with the band that "
                "holds 95 of 100 such searches. A line that still climbs at its right end says that more trials would "
                "pay. Dashed grey: the baseline.",
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
    rows = [
        {"parameter": p, "strategy": s, "share": v}
        for s, by_parameter in shares.items()
        for p, v in by_parameter.items()
    ]
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


def _search_table(findings: Findings, insight: Mapping[str, StrategyInsight]) -> Table:
    rows = [
        {
            "strategy": strategy,
            **{name: getattr(found, name) for name in ("trials", "finished", "stopped", "failed")},
            "stopped_after": found.stopped_words,
            **{field.name: getattr(found.gap, field.name, None) for field in fields(Gap)},
            "note": found.importances_note,
        }
        for strategy, found in insight.items()
    ]
    columns = [
        Column("strategy", "strategy", "text"),
        *(Column(name, name, "count") for name in ("trials", "finished", "stopped", "failed")),
        Column("stopped_after", "stopped after", "text"),
        Column("validation_f1", "validation F1"),
        Column("test_f1", "test F1"),
        Column("difference", "gap", "signed", "validation minus test"),
    ]
    if any(found.importances_note for found in insight.values()):
        columns.append(Column("note", "importances", "words"))
    return Table(
        "search-outcome",
        "What became of the trials, and how the best one's validation figure held on the test set",
        pd.DataFrame(rows, dtype=object),
        columns,
        findings.sources(INSIGHT),
    )


def leaderboard(findings: Findings) -> Section:
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
        findings.sources(f"{RESULTS}/leaderboard.csv"),
        {"trial": _trial_link(findings), "test_f1": _test_link(findings)},
        most_cells=13_000,
    )
    missing = [f"{strategy}: no model ({reason})" for strategy, reason in findings.board.without.items()]
    return Section("leaderboard", "All trials", lead, [table], missing)


def _trial_row(findings: Findings, trial: TrialRecord) -> Row:
    score = findings.test_score(trial.name) if trial.name in findings.tests else None
    board = findings.board.best
    on_front = not board.empty and bool(board.loc[board["trial"] == trial.name, "pareto"].eq(True).any())
    note = trial.reason or (f"repeats {trial.repeats} with another seed" if trial.repeats else None)
    return {
        "trial": trial.name,
        "strategy": trial.strategy,
        "state": trial.state,
        "validation_f1": trial.best_f1,
        **scored("test_f1", score),
        "bytes": trial.final.bytes if trial.final else None,
        "latency": findings.latency(trial.name),
        "pareto": on_front,
        "epochs": len(trial.epochs),
        "seconds": trial.final.seconds if trial.final else None,
        "seed": str(trial.seed),
        "configuration": ", ".join(f"{n}={_short(v)}" for n, v in trial.hyperparameters.items()) or None,
        "reason": note,
    }


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _control_row(findings: Findings, name: str) -> Row:
    validation, test = findings.tests[name].validation, findings.test_score(name)
    return {
        "trial": name,
        "strategy": "control",
        "state": "finished",
        "validation_f1": validation.f1 if validation else None,
        **scored("test_f1", test),
        "reason": "no language model",
    }


def _trial_link(findings: Findings) -> Link:
    return lambda row: f"../{findings.records[row['trial']]}" if row["trial"] in findings.records else None


def _test_link(findings: Findings) -> Link:
    return lambda row: trial_file(row["trial"]) if row["trial"] in findings.tests else None
