"""The sections on what averages hide: other readings of the test set, subgroups, and the paper."""

import pandas as pd

from analysis.evaluation.robustness import NEGATED, READINGS, ROBUSTNESS, robustness_table, subgroups_table
from analysis.paper.claims import FOLLOWS, PAPER
from analysis.report import figures as draw
from analysis.report.findings import (
    Findings,
    figures_file,
    lacking,
)
from analysis.report.html_table import Column, Table
from analysis.report.page import Drawing, Section
from run_folder.records import to_plain

_SHOWN = dict(zip(READINGS, ("as written", "name masked", "name replaced", "denied"), strict=True))


def robustness(findings: Findings) -> Section:
    lead = (
        "The test set read again: as written; with the symptoms' names masked; with the name replaced by a form that "
        "training never showed; and with the symptom denied by rule."
    )
    if findings.robustness is None:
        return Section("robustness", "Robustness", lead, missing=[lacking(ROBUSTNESS, "Robustness has")])
    frame = robustness_table(findings.robustness)
    notes = [f"{note[0].upper()}{note[1:]}." for note in findings.robustness.notes]
    if frame.empty:
        return Section("robustness", "Robustness", lead, missing=notes)
    frame["reading"] = frame["reading"].map(_SHOWN)
    denied = frame["reading"] == _SHOWN[NEGATED]
    wide = _wide(frame[~denied], "f1")
    table, said = _readings_table(findings, frame), _said_table(findings, frame)
    if not wide.notna().any(axis=None):
        return Section("robustness", "Robustness", lead, [table, said], notes)
    drawing = Drawing(
        "readings",
        "Macro F1 by reading",
        "A cell that is much paler than “as written” in its row shows what the model owes to the symptom's name. Texts "
        "that cannot be rewritten are left out; the table has the figures of the same texts as written.",
        lambda: draw.heat_map(wide, "macro F1"),
        said,
    )
    return Section("robustness", "Robustness", lead, [drawing, table], notes)


def _wide(frame: pd.DataFrame, figure: str) -> pd.DataFrame:
    """A row per model and a column per reading, in their order."""
    found = frame.pivot(index="model", columns="reading", values=figure).astype(float)
    return found.reindex(index=list(frame["model"].unique()), columns=list(frame["reading"].unique()))


def _readings_table(findings: Findings, frame: pd.DataFrame) -> Table:
    columns = [
        Column("model", "model", "text"),
        Column("reading", "reading", "text"),
        Column("examples", "texts", "count"),
        Column("left_out", "left out", "count", "texts that cannot be rewritten so"),
        Column("accuracy", "accuracy"),
        Column("f1", "macro F1"),
        Column("same_f1", "as written", title="macro F1 of the same texts as written"),
        Column("still_says", "still says it", "percent", "texts for which the denied symptom is said"),
        Column("mean_confidence", "confidence", title="mean probability of what is predicted"),
    ]
    return Table(
        "robustness",
        "Each deployed model on the readings of the test set. "
        + (
            "Where the symptom is denied, to say it is wrong"
            if findings.run.is_multilabel
            else "A denied symptom has no right answer, so no accuracy"
        ),
        frame,
        columns,
        findings.sources(ROBUSTNESS),
        {"model": figures_file},
    )


def _said_table(findings: Findings, frame: pd.DataFrame) -> Table:
    columns = [Column("model", "model", "text"), Column("reading", "reading", "text")]
    columns += [Column(f"said_{symptom}", symptom, "percent") for symptom in findings.run.symptoms]
    return Table(
        "robustness-symptoms",
        "Share of each symptom's texts for which the model says the symptom; where it is denied, low is good",
        frame[[column.name for column in columns]],
        columns,
        findings.sources(ROBUSTNESS),
        {"model": figures_file},
    )


def subgroups(findings: Findings) -> Section:
    lead = (
        "Compression can harm a group while the average stays. Harmed: texts that the baseline has right and this "
        "model has wrong; helped: the other way round. Mind the sizes, and that the worst of many is partly bad luck."
    )
    if findings.robustness is None:
        return Section("subgroups", "Subgroups", lead, missing=[lacking(ROBUSTNESS, "Subgroups have")])
    frame = subgroups_table(findings.robustness)
    if frame.empty:
        return Section("subgroups", "Subgroups", lead, missing=["The notes have no column to group by."])
    frame = frame.rename(columns={"low": "accuracy_low", "high": "accuracy_high"})
    tables = [
        _subgroup_table(findings, i, str(column), rows) for i, (column, rows) in enumerate(frame.groupby("column"))
    ]
    return Section("subgroups", "Subgroups", lead, tables)


def _subgroup_table(findings: Findings, place: int, column: str, frame: pd.DataFrame) -> Table:
    word = findings.run.text_word
    columns = [
        Column("model", "model", "text"),
        Column("value", column, "text"),
        Column("examples", f"{word}s", "count"),
        Column("patients", "patients", "count"),
        Column("accuracy", "accuracy"),
        Column("f1", "macro F1"),
        Column("disagreement", "disagreement", "percent", f"{word}s that it and the baseline predict otherwise"),
        Column("harmed", "harmed", "count"),
        Column("helped", "helped", "count"),
    ]
    sources = findings.sources(ROBUSTNESS)
    return Table(f"subgroups-{place}", f"By {column}", frame, columns, sources, {"model": figures_file})


def paper(findings: Findings) -> Section:
    lead = (
        "Our figures next to the paper's, with 95 % intervals: the paper's are what its 435 test examples imply. "
        "A claim is supported where the interval of every difference that it needs lies where the claim says."
    )
    if findings.paper is None:
        line = f"Not compared yet (there is no {PAPER}): `symptune compare-paper` does that."
        return Section("paper", "Against the paper", lead, missing=[line])
    claims = [
        Column("claim", "claim", "words"),
        Column("paper", "the paper", "words"),
        Column("ours", "this run", "words"),
        Column("verdict", "verdict", "text"),
        Column("why", "why", "words"),
    ]
    blocks = []
    if findings.paper.claims:
        blocks.append(
            Table(
                "paper-claims",
                "The paper's claims",
                pd.DataFrame(to_plain(findings.paper.claims)),
                claims,
                findings.sources(PAPER),
            )
        )
    for slug, words in (("table1", "Table I"), ("table2", "Table II")):
        if findings.paper.tables[slug]:
            frame = pd.DataFrame(to_plain(findings.paper.tables[slug]), dtype=object)
            blocks.append(
                Table(
                    f"paper-{slug}",
                    f"The paper's {words} next to ours",
                    frame,
                    _paper_columns(frame),
                    findings.sources(PAPER),
                )
            )
    follows = FOLLOWS[findings.paper.follows]
    if findings.paper.follows is None:
        more = " So figures differ by more than chance."
        return Section("paper", "Against the paper", lead, blocks, [follows + more])
    return Section("paper", "Against the paper", f"{lead} {follows}", blocks)


def _paper_columns(frame: pd.DataFrame) -> list[Column]:
    words = [Column(name, name, "text") for name in ("strategy", "symptom", "metric") if name in frame]
    return [
        *words,
        Column("paper", "the paper"),
        Column("ours", "this run"),
        Column("difference", "difference", "signed"),
    ]
