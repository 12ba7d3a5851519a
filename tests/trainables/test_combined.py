"""The combined strategy: a small student, cut, with a trimmed vocabulary, as an INT8 graph."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from clinical_notes.batches import TrialData
from trainables.parts.model import stored, surgery
from trainables.parts.model.encoder import EncoderWeights
from trainables.parts.model.surgery import trim_vocabulary

from .conftest import COMBINED_ALL, configuration, logits, run_to_end, start


def test_trimming_the_vocabulary_changes_nothing_for_texts_of_its_tokens(
    model: PreTrainedModel, trial_data: TrialData, tmp_path: Path
) -> None:
    before = logits(model, trial_data)
    kept = np.unique(trial_data.validation.tokens)[:-3]
    trim_vocabulary(model, [*kept.tolist(), trial_data.pad_token_id], trial_data.unknown_token_id)
    stored.save_model(model, tmp_path)
    trimmed = stored.load_model(tmp_path)
    embedding = trimmed.get_input_embeddings()
    assert isinstance(embedding, surgery.TrimmedEmbedding)
    assert embedding.rows.num_embeddings == len({*kept.tolist(), trial_data.pad_token_id, trial_data.unknown_token_id})
    validation = trial_data.validation
    spans = zip(validation.offsets[:-1], validation.offsets[1:], strict=True)
    known = np.array([np.isin(validation.tokens[start:end], kept).all() for start, end in spans])
    assert 0 < known.sum() < len(known)
    after = logits(trimmed, trial_data)
    np.testing.assert_allclose(after[known], before[known], atol=1e-6)
    assert not np.allclose(after[~known], before[~known], atol=1e-6)


def test_tokens_that_are_not_kept_are_read_as_the_unknown_one(model: PreTrainedModel) -> None:
    trim_vocabulary(model, [1, 7, 8], unknown=3)
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, surgery.TrimmedEmbedding)
    rows = embedding(torch.tensor([[3, 7, 50, 8]]))[0]
    assert torch.equal(rows[0], rows[2])
    assert not torch.equal(rows[0], rows[1])


@pytest.mark.parametrize("scheme", ["ptq_dynamic", "ptq_static"])
def test_each_part_makes_the_deployed_graph_smaller(
    scheme: str, trial_data: TrialData, encoder_weights: EncoderWeights, teacher: str, tmp_path: Path
) -> None:
    sizes = {}
    changes = {
        "whole": {"depth_ratio": 1.0, "ratio": 0.0, "vocabulary": "whole", "quantize_embeddings": False},
        "shallow": {"depth_ratio": 0.5, "ratio": 0.0, "vocabulary": "whole", "quantize_embeddings": False},
        "pruned": {"depth_ratio": 0.5, "ratio": 0.5, "vocabulary": "whole", "quantize_embeddings": False},
        "trimmed": {"depth_ratio": 0.5, "ratio": 0.5, "vocabulary": "corpus", "quantize_embeddings": False},
        "all": {"depth_ratio": 0.5, "ratio": 0.5, "vocabulary": "corpus", "quantize_embeddings": True},
    }
    tokens = trial_data.train.tokens
    fewer = np.where(tokens > 40, tokens - 20, tokens)  # leaves tokens that no training text has
    few = dataclasses.replace(trial_data, train=dataclasses.replace(trial_data.train, tokens=fewer))
    shutil.copytree(Path(teacher, "deployed"), tmp_path / "teacher" / "deployed")  # its logits are of these texts
    teacher = str(tmp_path / "teacher")
    for name, change in changes.items():
        changed = COMBINED_ALL | {"fp32_layers": 0.0, "scheme": scheme} | change
        config = configuration("combined-all", teacher, **changed)
        final = run_to_end(start("combined-all", config, few, encoder_weights), tmp_path / name)
        sizes[name] = final.parameters
        assert final.runtime == "onnxruntime"
        assert final.agreement is not None
        assert 0 <= final.agreement.same_predictions <= 1
    assert sizes["whole"] > sizes["shallow"] > sizes["pruned"] > sizes["trimmed"]
    graphs = {name: (tmp_path / name / "deployed" / "model.onnx").stat().st_size for name in ("trimmed", "all")}
    assert graphs["all"] != graphs["trimmed"]
    structure = json.loads((tmp_path / "all" / "deployed" / "config.json").read_text())[stored.STRUCTURE_KEY]
    assert structure["widths"] == [{"heads": 2, "neurons": 24}]
    assert structure["rows"] < 60
