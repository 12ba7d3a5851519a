"""The page's first screen: what was asked, of what data, what is known, what to take; and how to repeat it."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml

from analysis.evaluation.costs import COSTS
from analysis.evaluation.predictions import TEST
from analysis.evaluation.robustness import NEGATED
from analysis.evaluation.run_statistics import STATISTICS, Interval
from analysis.report.findings import Findings, lacking, trial_file
from analysis.report.html_table import Column, Table, megabytes
from analysis.report.recommend import RULE, Recommendation, recommend
from analysis.statistics.verdict import Outcome, Verdict
from run_folder.names import SPLITS
from run_folder.settings import SYNTHETIC, RunSettings
from trainables.references import BASELINE

_MOST_NAMED = 8
_SIGNS = {
    Outcome.BETTER: "▲", Outcome.WORSE: "▼", Outcome.EQUIVALENT: "≈", Outcome.NOT_WORSE: "✓", Outcome.SAME: "=",
    Outcome.NOT_KNOWN: "?",
}  # fmt: skip


@dataclass(frozen=True)
class VerdictRow:
    """A strategy's row on the first screen; texts are ready to be read.

    Attributes:
        difference, size, latency: and what is said below each.
        kind: of its colour: ``good``, ``bad`` or ``open``.
    """

    strategy: str
    trial: str | None
    href: str | None
    sign: str
    outcome: str
    words: str
    kind: str
    score: str
    interval: str
    difference: tuple[str, str]
    size: tuple[str, str]
    latency: tuple[str, str]
    seeds: int
    chosen: bool


@dataclass(frozen=True)
class Overview:
    """The first screen."""

    question: str
    data: str
    facts: list[tuple[str, str]]
    counts: Table
    recommendation: Recommendation | None
    rule: str
    sources: list[tuple[str, str]]
    verdicts: list[VerdictRow]
    notes: list[str]


def overview(findings: Findings) -> Overview:
    """The first screen of the report."""
    chosen = recommend(findings)
    notes = [] if findings.statistics else [lacking(STATISTICS, "Intervals and verdicts have")]
    notes += [note.replace("[low, high]", "Low to high") for note in findings.board.notes]
    notes += _denied(findings, chosen)
    return Overview(
        question=_question(findings),
        data=_data(findings),
        facts=_facts(findings),
        counts=_counts(findings),
        recommendation=chosen,
        rule=RULE,
        sources=findings.sources(STATISTICS, COSTS),
        verdicts=[_verdict(findings, strategy, chosen) for strategy in findings.run.strategies],
        notes=notes,
    )


def _denied(findings: Findings, chosen: Recommendation | None) -> list[str]:
    """How often the recommended model still says a symptom that a text denies, where that has a right answer."""
    if not findings.run.is_multilabel or findings.robustness is None or chosen is None:
        return []
    name = chosen.trial.name
    model = findings.robustness.models.get(name)
    said = model.readings[NEGATED].still_says if model else None
    if said is None or model is None:
        return []
    texts = model.readings[NEGATED].examples
    return [f"Of {texts:,} test texts in which the symptom was denied by rule, {name} still says it in {said:.1%}."]


def _question(findings: Findings) -> str:
    settings = findings.run.settings
    compressed = [strategy.replace("_", " ") for strategy in findings.run.strategies if strategy != BASELINE]
    found = "found" if findings.run.is_multilabel else "told apart"
    what = f"{found} by {_encoder(settings.model.name)} in clinical {settings.labels.unit}s"
    if not compressed:
        return f"How well are {len(findings.run.symptoms)} symptoms {what}, fine-tuned plainly?"
    ways = compressed[0] if len(compressed) == 1 else f"{', '.join(compressed[:-1])} or {compressed[-1]}"
    return f"{len(findings.run.symptoms)} symptoms are {what}. Can {ways} make it smaller and keep its quality?"


def _encoder(name: str) -> str:
    """A hub name, or the name of a folder without its path."""
    return name.rstrip("/").rsplit("/", 1)[-1] if name.startswith((".", "/", "~")) else name


def _data(findings: Findings) -> str:
    """Examples, patients and what the test set holds of each symptom, in a sentence or two."""
    counts, patients = findings.run.manifest.counts, findings.run.manifest.patients
    choice = findings.run.manifest.choice
    if not counts:
        return ""
    run, examples, notes = findings.run, findings.run.examples_by_split, findings.run.manifest.notes
    each_split = {s: f"{n:,} {s}" for s, n in examples.items()}
    if notes:
        each_split = {s: f"{notes[s]:,} {s} in {n:,} windows" for s, n in examples.items()}
    sizes = ", ".join(f"{each_split[s]} ({patients.get(s, 0):,} patients)" for s in SPLITS)
    what = "Notes" if notes else f"{run.example_word.capitalize()}s"
    each = [f"{symptom} {counts[TEST].get(symptom, 0):,}" for symptom in findings.run.symptoms]
    rest = f" and {len(each) - _MOST_NAMED} more" if len(each) > _MOST_NAMED else ""
    fingerprint = findings.run.manifest.fingerprint[:12]
    of_what = " (windows)" if run.settings.labels.in_windows else ""
    chosen = f"Choice of the symptoms: {choice.in_words()}. " if choice else ""
    return (
        f"{what}: {sizes}, split by patient. Symptoms in test{of_what}: {', '.join(each[:_MOST_NAMED])}{rest}. "
        f"{chosen}"
        f"Fingerprint of the data: {fingerprint}."
    )


def _facts(findings: Findings) -> list[tuple[str, str]]:
    settings, manifest = findings.run.settings, findings.run.manifest
    facts = [
        ("notes", ", ".join(settings.notes.paths) or SYNTHETIC),
        ("train / validation / test", " / ".join(f"{100 * part:.0f} %" for part in settings.labels.split)),
        ("search", f"{settings.search.trials} trials a strategy, up to {settings.search.epochs} epochs"),
        ("margin", f"{findings.statistics.margin:g} macro F1" if findings.statistics else "–"),
        ("fingerprint of the data", manifest.fingerprint),
    ]
    return [fact for fact in facts if fact[1] != "–"]


def _counts(findings: Findings) -> Table:
    counts, patients = findings.run.manifest.counts, findings.run.manifest.patients
    rows = [
        {"symptom": symptom, **{split: counts.get(split, {}).get(symptom, 0) for split in SPLITS}}
        for symptom in findings.run.symptoms
    ]
    run = findings.run
    rows.append({"symptom": f"all {run.example_word}s", **{s: run.examples_by_split.get(s, 0) for s in SPLITS}})
    if run.manifest.notes:
        rows.append({"symptom": "notes", **run.manifest.notes})
    rows.append({"symptom": "patients", **{split: patients.get(split) for split in SPLITS}})
    columns = [Column("symptom", "symptom", "text"), *(Column(split, split, "count") for split in SPLITS)]
    return Table(
        "counts",
        f"{run.example_word.capitalize()}s by symptom and split",
        pd.DataFrame(rows, dtype=object),
        columns,
        [("run.json", "../run.json")],
    )


def _verdict(findings: Findings, strategy: str, chosen: Recommendation | None) -> VerdictRow:
    trial = findings.best(strategy)
    judged = findings.of_strategy(strategy)
    sign, outcome, words, kind = _said(findings, strategy, judged.verdict if judged else None)
    tested = trial is not None and trial.name in findings.tests
    score: Interval | None = judged.macro_f1 if judged else None
    if score is None and trial and tested:
        score = findings.test_score(trial.name)
    return VerdictRow(
        strategy=strategy,
        trial=trial.name if trial else None,
        href=trial_file(trial.name) if trial and tested else None,
        sign=sign,
        outcome=outcome,
        words=words,
        kind=kind,
        score=f"{score.point:.3f}" if score and score.point is not None else "–",
        interval=f"{score.low:.3f} to {score.high:.3f}" if score and score.low is not None else "",
        difference=_difference(judged.verdict if judged else None),
        size=_ratio(findings, strategy, "bytes"),
        latency=_ratio(findings, strategy, "latency"),
        seeds=len(judged.seeds) if judged else 1,
        chosen=chosen is not None and trial is not None and chosen.trial.name == trial.name,
    )


def _said(findings: Findings, strategy: str, verdict: Verdict | None) -> tuple[str, str, str, str]:
    """Sign, outcome, what is said below it, and kind."""
    if strategy in findings.board.without:
        return "✕", "no model", findings.board.without[strategy], "bad"
    if strategy == BASELINE:
        return "•", "the baseline", "what the others are compared with", "open"
    if verdict is None:
        return "?", "not compared", "there are no statistics of it against a baseline", "open"
    outcome = verdict.outcome
    kind = "bad" if outcome is Outcome.WORSE else "open" if outcome is Outcome.NOT_KNOWN else "good"
    return _SIGNS[outcome], str(outcome), verdict.detail, kind


def _difference(verdict: Verdict | None) -> tuple[str, str]:
    if verdict is None:
        return "–", ""
    interval = "" if verdict.low is None else f"{verdict.low:+.3f} to {verdict.high:+.3f}"
    return f"{verdict.difference:+.3f}".replace("-", "−"), interval.replace("-", "−")


def _ratio(findings: Findings, strategy: str, figure: str) -> tuple[str, str]:
    """A cost, and how many times less it is than the baseline's."""
    trial, baseline = findings.best(strategy), findings.best(BASELINE)
    mine, theirs = (_cost(findings, t.name, figure) if t else None for t in (trial, baseline))
    if mine is None:
        return "–", ""
    shown = f"{megabytes(mine)} MB" if figure == "bytes" else f"{mine * 1e3:.2f} ms"
    if theirs is None or strategy == BASELINE:
        return shown, ""
    less, more, as_much = ("smaller", "larger", "as large") if figure == "bytes" else ("faster", "slower", "as fast")
    times, word = (theirs / mine, less) if mine <= theirs else (mine / theirs, more)
    return shown, as_much if f"{times:.1f}" == "1.0" else f"{times:.1f} × {word}"


def _cost(findings: Findings, name: str, figure: str) -> float | None:
    final = findings.run.trials[name].final
    return (final.bytes if final else None) if figure == "bytes" else findings.latency(name)


@dataclass(frozen=True)
class Reproduction:
    """How to do it again: the command, and what it ran with."""

    line: str
    settings: Table
    versions: Table
    space: str


def reproduction(findings: Findings) -> Reproduction:
    """How to repeat the run."""
    run = findings.run
    manifest, settings = run.manifest, run.settings.record()
    identity: dict[str, str | None] = {
        "fingerprint of the data": manifest.fingerprint,
        "measured on": findings.costs.machine or None,
    }
    identity |= {f"source: {name}": value for name, value in manifest.sources.items()}
    return Reproduction(
        line=launch_line(run.folder.name, run.settings),
        settings=_pairs("settings", "Settings of the run", {k: v for k, v in settings.items() if k not in _APART}),
        versions=_pairs("versions", "Versions, data and machine", {**manifest.versions, **identity}),
        space=yaml.safe_dump(run.settings.search.space, sort_keys=False),
    )


def _pairs(slug: str, caption: str, pairs: Mapping[str, Any]) -> Table:
    rows = [{"name": name, "value": _value(value)} for name, value in pairs.items() if value is not None]
    columns = [Column("name", "name", "text"), Column("value", "value", "text")]
    return Table(slug, caption, pd.DataFrame(rows, columns=["name", "value"]), columns, [("run.json", "../run.json")])


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value)


_APART = ("space", "warm_configurations")
_WITHOUT_OPTION = (*_APART, "raw_window")


def launch_line(name: str, settings: RunSettings) -> str:
    """The command that starts the same run, with every setting; the space's file comes with the page."""
    words = ["symptune", "launch", "--name", name]
    if settings.labels.raw_window:
        words += ["--protocol", "author"]  # its other settings are given again below
    synthetic = settings.notes.is_synthetic
    for key, value in settings.record().items():
        if key not in _WITHOUT_OPTION and key != ("notes" if synthetic else "patients"):
            words += _option(f"--{key.replace('_', '-')}", value)
    if settings.search.space:
        words += ["--space", "space.yaml"]
    return shlex.join(words)


def _option(option: str, value: Any) -> list[str]:
    if value is None or value == ():
        return []
    if isinstance(value, bool):
        return [option if value else f"--no-{option[2:]}"]
    if isinstance(value, tuple) and option in ("--absorb", "--category", "--group-by", "--notes"):
        return [word for one in value for word in (option, one)]
    return [option, ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)]
