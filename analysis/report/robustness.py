"""The sections on what averages hide: other readings of the test set, subgroups, and the paper."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.report import figures as draw
from analysis.report.findings import (
    PAPER,
    ROBUSTNESS,
    Findings,
    Record,
    figures_file,
    lacking,
)
from analysis.report.page import Drawing, Section
from analysis.report.table import Column, Table

_READINGS = {
    "as_written": "as written",
    "masked": "name masked",
    "renamed": "name replaced",
    "negated": "negated",
}


def robustness(findings: Findings) -> Section:
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


def _recall_table(findings: Findings, models: Mapping[str, Record], read: Mapping[str, str]) -> Table:
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
        "Share of each symptom's texts for which the model says the symptom, by reading. For negated: low is good",
        pd.DataFrame(rows, dtype=object),
        columns,
        findings.sources(ROBUSTNESS),
        {"model": figures_file},
    )


def subgroups(findings: Findings) -> Section:
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


def _subgroup_table(findings: Findings, place: int, column: str, rows: Sequence[Record]) -> Table:
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


def paper(findings: Findings) -> Section:
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
