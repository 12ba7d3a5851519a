"""How long each model was trained in all, and which baseline it is compared with: none that was trained for less."""

from collections.abc import Mapping, Sequence

from run_folder.trials import TrialRecord, teacher_name
from trainables import trainable_class

BASELINE = "baseline"
"""The strategy that the others are compared with."""


def epochs_in_all(trials: Mapping[str, TrialRecord], trial: TrialRecord) -> int:
    """Epochs of a trial and of every model that it starts from."""
    epochs = len(trial.epochs)
    teacher = trials.get(teacher_name(trial) or "")
    if teacher is None:
        return epochs
    starts = trial.strategy == BASELINE or trainable_class(trial.strategy).starts_from_teacher(trial.hyperparameters)
    return epochs + epochs_in_all(trials, teacher) if starts else epochs


def without_reference(trials: Mapping[str, TrialRecord], longer: Sequence[TrialRecord], epochs: int) -> list[str]:
    """Names of the trials that no baseline would be trained for as long as, once they and it have these epochs.

    Args:
        longer: trials that are to be trained for longer.
        epochs: of their own.
    """
    baselines = [trial for trial in trials.values() if trial.strategy == BASELINE and trial.state == "finished"]
    longest = max([epochs, *(epochs_in_all(trials, baseline) for baseline in baselines if not baseline.repeats)])
    then = {trial.name: epochs_in_all(trials, trial) - len(trial.epochs) + epochs for trial in longer}
    return [trial.name for trial in longer if trial.strategy != BASELINE and then[trial.name] > longest]


def reference_of(trial: TrialRecord, trials: Mapping[str, TrialRecord], best: TrialRecord | None) -> TrialRecord | None:
    """The best baseline, by validation macro F1, that was trained for at least as many epochs in all.

    Of equally good ones the one that was trained for less. None where every baseline was trained for less.

    Args:
        best: the run's best baseline.
    """
    baselines = [other for other in trials.values() if other.trains_on and not other.repeats]
    baselines += [best] if best is not None and best not in baselines else []
    least = epochs_in_all(trials, trial)
    long_enough = [b for b in baselines if b.state == "finished" and epochs_in_all(trials, b) >= least]
    return max(long_enough, key=lambda b: (b.score, -epochs_in_all(trials, b)), default=None)
