"""The section on labels that people made."""

from collections.abc import Mapping
from typing import Any

from analysis.evaluation.gold import GOLD, RULES, gold_table
from analysis.report.findings import Findings, figures_file
from analysis.report.html_table import Column, Table
from analysis.report.page import Section
from analysis.statistics.resampling import OVERALL

_LEAD = (
    "The models, the controls and, where they labelled the notes, the rules, judged by labels that people made. "
    "All other figures of this page are by the labels that the run learned from."
)


def gold(findings: Findings) -> Section:
    found = findings.gold
    if found is None:
        command = f"symptune evaluate {findings.run.folder.name} --gold TABLE"
        line = f"Not judged yet (there is no {GOLD}): `{command}` does that."
        return Section("gold", "By people's labels", _LEAD, missing=[line])
    frame = gold_table(found).rename(columns=_COLUMN_OF)
    by = "" if found.patients == found.texts else f" of {found.patients:,} patients"
    reference = "the rules" if found.reference == RULES else found.models[found.reference].strategy
    overall = Table(
        "gold",
        f"Judged on {found.texts:,} texts{by}. Precision and recall are of all symptoms together, of texts drawn as "
        "these were",
        frame[frame["symptom"] == OVERALL],
        [
            Column("model", "model", "text"),
            Column("f1", "macro F1"),
            Column("difference", f"less {reference}", "signed", title="difference of macro F1, 95 % interval"),
            Column("micro_precision", "precision"),
            Column("micro_recall", "recall"),
            Column("still_says_denied", "still says it", "percent", "denied symptoms that it says are reported"),
            Column("silent_where_none", "silent", "percent", "texts without a symptom of which it says so"),
        ],
        findings.sources(GOLD),
        {"model": _file},
    )
    symptoms = Table(
        "gold-symptoms",
        "By symptom",
        frame[frame["symptom"] != OVERALL],
        [
            Column("model", "model", "text"),
            Column("symptom", "symptom", "text"),
            Column("precision", "precision"),
            Column("recall", "recall"),
            Column("f1", "F1"),
            Column("difference", f"less {reference}", "signed"),
        ],
        findings.sources(GOLD),
        {"model": _file},
    )
    missing = [f"People affirm no {name} in these texts." for name, count in found.reported.items() if not count]
    missing += found.remarks
    older = [name for name in _best(findings) if name not in found.models]
    if found.left_out:
        missing.append(f"Left out: {found.left_out:,} texts that the models were trained or chosen on.")
    if older:
        missing.append(f"{', '.join(older)} came later: judge again.")
    return Section("gold", "By people's labels", _LEAD, [overall, symptoms], missing)


def _file(row: Mapping[str, Any]) -> str | None:
    """The rules have no file of test figures."""
    return None if row["model"] == RULES else figures_file(row)


def _best(findings: Findings) -> list[str]:
    return [trial.name for strategy in findings.run.strategies if (trial := findings.best(strategy))]


_COLUMN_OF = {
    "f1_difference": "difference",
    "f1_difference_low": "difference_low",
    "f1_difference_high": "difference_high",
}
