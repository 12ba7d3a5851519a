"""Words that training doesn't show keep their embeddings, and cost nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from clinical_notes.batches import TrialData
from trainables import base
from trainables.base import Trial
from trainables.parts.model.encoder import EncoderWeights
from trainables.parts.model.stored import load_model

from .conftest import configuration, run_to_end, start


def trained_words(
    variant: str, decay: float, teacher: str, data: TrialData, weights: EncoderWeights, home: Path
) -> tuple[Trial, torch.Tensor]:
    """A trial that has ended, and the word embeddings that it deployed."""
    trial = start(variant, configuration(variant, teacher, weight_decay=decay), data, weights)
    run_to_end(trial, home)
    return trial, load_model(home / "deployed").get_input_embeddings().weight.detach()


@pytest.mark.parametrize("variant", ["baseline", "distillation", "pruning-taylor"])
def test_a_trial_ends_as_if_the_whole_table_were_trained(
    variant: str,
    teacher: str,
    trial_data: TrialData,
    encoder_weights: EncoderWeights,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of_run = teacher, trial_data, encoder_weights
    ours, words = trained_words(variant, 0.0, *of_run, tmp_path / "ours")
    monkeypatch.setattr(base, "train_seen_words", lambda model, tokens: None)
    whole, all_words = trained_words(variant, 0.0, *of_run, tmp_path / "whole")
    torch.testing.assert_close(words, all_words, rtol=0, atol=1e-6)
    assert [r.f1 for r in ours.results] == [r.f1 for r in whole.results]
    assert [r.train_loss for r in ours.results] == pytest.approx([r.train_loss for r in whole.results], rel=1e-5)


def test_words_that_training_lacks_stay_as_they_were_and_have_no_moments(
    teacher: str, trial_data: TrialData, encoder_weights: EncoderWeights, tmp_path: Path
) -> None:
    trial, words = trained_words("baseline", 0.1, teacher, trial_data, encoder_weights, tmp_path)
    before = encoder_weights.build().get_input_embeddings().weight.detach()
    seen = np.unique(trial_data.train.tokens)
    unseen = np.setdiff1d(np.arange(len(before)), trial_data.training_tokens)
    assert len(unseen) > 0
    assert torch.equal(words[unseen], before[unseen])
    moved = (words != before).any(1).numpy()
    assert moved[np.setdiff1d(seen, [trial_data.pad_token_id])].all()
    moments = [values["exp_avg"].shape for values in trial.optimizer.state.values()]
    assert before.shape not in moments
    assert (len(trial_data.training_tokens), before.shape[1]) in moments
