"""Which configuration to take, and the line that exports it."""

import shlex
from dataclasses import dataclass

from analysis.evaluation.controls import CONTROLS
from analysis.evaluation.references import BASELINE
from analysis.report.findings import Findings
from analysis.report.html_table import megabytes
from analysis.statistics.verdict import Outcome
from run_folder.folder import Folder
from run_folder.trials import TrialRecord

RULE = (
    "Of the baseline and the strategies whose verdict is better, equivalent, not worse by more than the margin or the "
    "same predictions, the smallest in bytes. Verdicts are of the test patients, so that the recommended model's test "
    "figures are slightly in its favour."
)
_GOOD_ENOUGH = (Outcome.BETTER, Outcome.EQUIVALENT, Outcome.NOT_WORSE, Outcome.SAME)


@dataclass(frozen=True)
class Recommendation:
    """A trial to export, why, the command that does it, and a caution."""

    trial: TrialRecord
    why: str
    line: str
    mind: str | None


def recommend(findings: Findings) -> Recommendation | None:
    """The configuration to take: by ``RULE`` where verdicts are known, else the best by validation.

    None where no trial left a model.
    """
    left = {strategy: trial for strategy in findings.run.strategies if (trial := findings.best(strategy))}
    if not left:
        return None
    verdicts = {strategy: verdict for strategy in left if (verdict := findings.verdict(strategy))}
    if BASELINE not in left or not verdicts:
        lacking = (
            "no baseline left a model to compare with" if BASELINE not in left else "no verdict has been worked out"
        )
        trial = max(left.values(), key=lambda t: (t.score, -t.deployed.bytes))
        return _recommended(findings, trial, f"The best by validation macro F1, since {lacking}.")
    fit = [left[s] for s in verdicts if s != BASELINE and verdicts[s].outcome in _GOOD_ENOUGH]
    trial = min([left[BASELINE], *fit], key=lambda t: (t.deployed.bytes, -t.score))
    return _recommended(findings, trial, _why(trial, left[BASELINE], findings, bool(fit)))


def _recommended(findings: Findings, trial: TrialRecord, why: str) -> Recommendation:
    tested = {name: findings.tests[name].validation for name in CONTROLS if name in findings.tests}
    controls = {name: validation.f1 for name, validation in tested.items() if validation}
    above = [f"{name} ({f1:.3f} against {trial.score:.3f})" for name, f1 in controls.items() if f1 >= trial.score]
    mind = (
        f"Mind: without a language model, {' and '.join(above)} is as good or better on validation." if above else None
    )
    return Recommendation(trial, why, export_line(findings, trial), mind)


def _why(trial: TrialRecord, baseline: TrialRecord, findings: Findings, any_fit: bool) -> str:
    if trial is baseline:
        found = "no smaller strategy is" if any_fit else "no compressed strategy is"
        return f"The baseline: {found} known to be as good within the margin, with this much test data."
    verdict = findings.verdict(trial.strategy)
    assert verdict is not None
    outcome = verdict.outcome
    by = f" of {verdict.margin:g} macro F1" if outcome in (Outcome.EQUIVALENT, Outcome.NOT_WORSE) else ""
    smaller = baseline.deployed.bytes / trial.deployed.bytes
    return (
        f"{smaller:.1f} × smaller than the baseline ({megabytes(trial.deployed.bytes)} MB against "
        f"{megabytes(baseline.deployed.bytes)} MB), and {outcome}{by}."
    )


def export_line(findings: Findings, trial: TrialRecord) -> str:
    """The command that exports a trial, ready to be pasted into a shell."""
    folder = findings.run.folder
    run = folder.name if folder.uri == Folder("runs").child(folder.name).uri else folder.uri
    return shlex.join(["symptune", "export", run, "--trial", trial.name, "--to", f"models/{trial.name}"])
