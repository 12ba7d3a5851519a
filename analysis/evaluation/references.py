"""Which baseline each model of a run is compared with."""

from run_folder.run import Run
from run_folder.trials import TrialRecord
from trainables.references import BASELINE, reference_of


def reference_in(run: Run, trial: TrialRecord) -> TrialRecord | None:
    """As ``reference_of``, among a run's trials."""
    best = run.best(BASELINE, 1) if BASELINE in run.strategies else []
    return reference_of(trial, run.trials, next(iter(best), None))
