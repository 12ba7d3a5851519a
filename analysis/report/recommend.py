"""Which configuration to take, and the line that exports it."""

import shlex
from dataclasses import dataclass

from analysis.evaluation.controls import CONTROLS
from analysis.evaluation.front import FrontMember, Fronts
from analysis.report.findings import Findings
from analysis.report.html_table import megabytes
from run_folder.folder import Folder
from run_folder.trials import TrialRecord
from trainables.references import BASELINE

RULE = (
    "Models that no other surpasses in both validation macro F1 and size (or latency, if asked) are tested from the "
    "largest to the smallest, as long as each is shown to be no worse than its baseline by more than the margin. The "
    "last of these is recommended. "
    "The order depends on validation and costs alone, so that each is tested at 5 % without a correction."
)
_LESS = {"bytes": "fewer bytes", "latency": "a lower latency"}


@dataclass(frozen=True)
class Recommendation:
    """A trial to export, why, the command that does it, and a caution."""

    trial: TrialRecord
    why: str
    line: str
    mind: str | None


def recommend(findings: Findings) -> Recommendation | None:
    """The configuration to take: by ``RULE`` where models were tested, else the best by validation.

    None where no trial left a model.
    """
    left = {strategy: trial for strategy in findings.run.strategies if (trial := findings.best(strategy))}
    if not left:
        return None
    fronts, baseline = findings.fronts, left.get(BASELINE)
    if baseline is None or fronts is None:
        lacking = "no baseline left a model to compare with" if baseline is None else "no model has been tested yet"
        trial = max(left.values(), key=lambda t: (t.score, -t.deployed.bytes))
        return _recommended(findings, trial, f"The best by validation macro F1, since {lacking}.")
    member = fronts.smallest_proven
    if member is None and (nearest := fronts.nearest_proven) is not None:
        return _recommended(findings, findings.run.trials[nearest.trial], _why_nearest(findings, nearest, fronts))
    if member is None:
        return _recommended(findings, baseline, _why_baseline(fronts))
    trial = findings.run.trials[member.trial]
    return _recommended(findings, trial, _why(findings, trial, baseline, fronts))


def _recommended(findings: Findings, trial: TrialRecord, why: str) -> Recommendation:
    tested = {name: findings.tests[name].validation for name in CONTROLS if name in findings.tests}
    controls = {name: validation.f1 for name, validation in tested.items() if validation}
    above = [f"{name} ({f1:.3f} against {trial.score:.3f})" for name, f1 in controls.items() if f1 >= trial.score]
    mind = (
        f"Mind: without a language model, {' and '.join(above)} is as good or better on validation." if above else None
    )
    return Recommendation(trial, why, export_line(findings, trial), mind)


def _why_nearest(findings: Findings, member: FrontMember, fronts: Fronts) -> str:
    trial = findings.run.trials[member.trial]
    latency = findings.latency(trial.name)
    has = f"{megabytes(trial.deployed.bytes)} MB" + (f", {latency * 1e3:.3g} ms a text" if latency else "")
    by = max(filter(None, member.missed.values()))
    return (
        f"No model that is shown to be no worse by more than {fronts.margin:g} is as wished "
        f"({fronts.wishes.in_words()}). This one is the nearest, {by:.2g} × away from it ({has})."
    )


def _why_baseline(fronts: Fronts) -> str:
    if fronts.prefer not in fronts.members:
        return f"The baseline: {fronts.prefer} has not been measured, so no model was tested for it."
    members = fronts.members[fronts.prefer]
    first = next((member for member in members if member.reference is not None), None)
    if first is None and members:
        return "The baseline: no baseline was trained for as many epochs in all as any compressed model."
    if first is None:
        return f"The baseline: no compressed model has {_LESS[fronts.prefer]}."
    tried = "could not be compared"
    if first.found is not None:
        tried = f"has a macro F1 of {first.found.difference:+.4f} against its baseline's (p {first.found.p:.2g})"
    return (
        f"The baseline: no smaller model is shown to be no worse by more than {fronts.margin:g} with this much test "
        f"data; {first.trial}, tested first, {tried}." + _unfulfilled(fronts)
    )


def _unfulfilled(fronts: Fronts) -> str:
    return f" So none is as wished ({fronts.wishes.in_words()})." if fronts.wishes else ""


def _why(findings: Findings, trial: TrialRecord, baseline: TrialRecord, fronts: Fronts) -> str:
    smaller = baseline.deployed.bytes / trial.deployed.bytes
    ours, theirs = findings.latency(trial.name), findings.latency(baseline.name)
    faster = f" and {theirs / ours:.1f} × as fast" if ours and theirs else ""
    return (
        f"{trial.strategy.replace('_', ' ')} is {smaller:.1f} × smaller ({megabytes(trial.deployed.bytes)} MB against "
        f"{megabytes(baseline.deployed.bytes)} MB){faster}, and not worse by more than {fronts.margin:g} macro F1 "
        f"({fronts.level:.0%})."
    )


def export_line(findings: Findings, trial: TrialRecord) -> str:
    """The command that exports a trial, ready to be pasted into a shell."""
    folder = findings.run.folder
    run = folder.name if folder.uri == Folder("runs").child(folder.name).uri else folder.uri
    return shlex.join(["symptune", "export", run, "--trial", trial.name, "--to", f"models/{trial.name}"])
