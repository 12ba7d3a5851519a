"""Training ends once it gains nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.simulated_cluster import epoch_result
from clinical_notes.batches import TrialData
from run_folder.results import EpochResult
from tests.trainables.conftest import configuration, run_to_end, start
from trainables.base import has_learned
from trainables.parts.model.encoder import EncoderWeights


def results(*figures: tuple[float, float | None], not_selectable: int = 0) -> list[EpochResult]:
    """Epochs of these macro F1 and validation losses, of which the first few cannot be deployed."""
    return [
        replace(epoch_result(number, f1), validation_loss=loss, selectable=number > not_selectable)
        for number, (f1, loss) in enumerate(figures, 1)
    ]


STILL = [(0.8, 0.5), (0.8, 0.5), (0.7, 0.6)]

SLOWLY = {"start": "pretrained", "schedule_end": 0.5}


@pytest.mark.parametrize(
    ("figures", "patience", "learned"),
    [
        (STILL, 2, True),
        (STILL, 3, False),
        (STILL, 0, False),
        ([(0.8, 0.5), (0.8, 0.5), (0.8, 0.4)], 2, False),  # the loss still falls
        ([(0.8, 0.5), (0.8005, 0.499), (0.8009, 0.4985)], 2, True),  # by less than counts
        ([(0.8, 0.5), (0.7, 0.6), (0.9, 0.6), (0.9, 0.6)], 2, False),  # it gained in between
        ([(0.8, None), (0.8, None), (0.8, None)], 2, True),
        ([(0.8, 0.5), (0.8006, 0.496), (0.8012, 0.494), (0.8018, 0.491)], 2, False),  # small gains add up
        ([], 1, False),
    ],
)
def test_epochs_without_a_gain_are_counted(
    figures: list[tuple[float, float | None]], patience: int, learned: bool
) -> None:
    assert has_learned(results(*figures), patience) is learned


def test_epochs_count_only_once_the_compression_is_whole() -> None:
    falling = [(0.9, 0.3), (0.8, 0.4), (0.7, 0.5), (0.7, 0.5)]
    assert has_learned(results(*falling), 2)
    assert not has_learned(results(*falling, not_selectable=2), 2)


def test_epochs_count_only_once_the_learning_rate_has_risen() -> None:
    still = [(0.1, 0.6)] * 4
    assert has_learned(results(*still), 3)
    assert not has_learned(results(*still), 3, warm_up=2.5)
    assert has_learned(results(*still, *still), 3, warm_up=2.5)


def test_a_trial_ends_early_and_deploys_its_best_epoch_also_after_a_kill(
    trial_data: TrialData, encoder_weights: EncoderWeights, tmp_path: Path
) -> None:
    config = configuration("baseline", "", learning_rate=1e-9)  # learns nothing
    trial = start("baseline", config, trial_data, encoder_weights, epochs=9, patience=2)
    (tmp_path / "checkpoint").mkdir()
    while not trial.is_trained:
        trial.epoch()
        trial.save(tmp_path / "checkpoint")
    assert len(trial.results) == 3
    assert run_to_end(trial, tmp_path).epoch == 1
    again = start("baseline", config, trial_data, encoder_weights, epochs=9, patience=2)
    again.load(tmp_path / "checkpoint")
    assert again.is_trained
    longer = start("baseline", config, trial_data, encoder_weights, epochs=9)
    longer.load(tmp_path / "checkpoint")
    assert not longer.is_trained


def test_a_pruned_trial_is_pruned_before_patience_ends_it(
    trial_data: TrialData, encoder_weights: EncoderWeights, teacher: str
) -> None:
    config = configuration("pruning", teacher, learning_rate=1e-9, recovery="labels", **SLOWLY)
    trial = start("pruning", config, trial_data, encoder_weights, epochs=8, patience=1)
    while not trial.is_trained:
        trial.epoch()
    assert trial.results[-1].selectable
    assert 4 < len(trial.results) < 8
