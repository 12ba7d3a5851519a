"""How many CPUs a trial gets, so that the trials of a node fit its memory."""

import io

import pytest
from rich.console import Console

from clinical_notes.batches import TrialData
from trainables.parts.model.encoder import EncoderWeights
from tune_jobs.check_settings import run_settings
from tune_jobs.cluster import cpu_memory
from tune_jobs.cluster.cpu_memory import activation_bytes, cpus_that_fit, fitting_resources, trial_bytes
from tune_jobs.execution import TrialResources
from tune_jobs.preparing.create_run import Prepared

GIB = 2**30


@pytest.mark.parametrize(
    ("need", "nodes", "cpus"),
    [
        (1, [(16, 24)], 1),  # room for more trials than cores
        (7, [(16, 24)], 5),  # three trials
        (7, [(2, 24)], 1),
        (7, [(4, 24)], 2),  # one core each would be four trials
        (5, [(10, 24)], 3),  # two would be five
        (30, [(16, 24)], 16),  # not even one; it halves its batches where it must
        (7, [(16, 24), (4, 7)], 5),
        (7, [(2, 24), (8, 14)], 4),  # the tightest node decides
        (7, [(0, 24), (4, 64)], 1),  # a head that runs no trials
    ],
)
def test_no_node_runs_more_trials_than_its_memory_holds(need: int, nodes: list[tuple[int, int]], cpus: int) -> None:
    resources = [{"CPU": float(cores), "memory": float(memory * GIB)} for cores, memory in nodes]
    assert cpus_that_fit(need * GIB, resources) == cpus


def test_a_node_that_says_nothing_of_memory_runs_a_trial_on_each_core() -> None:
    assert cpus_that_fit(GIB, [{"CPU": 8.0}]) == 1


def test_the_estimate_is_that_of_bert_base_as_measured(encoder_weights: EncoderWeights, trial_data: TrialData) -> None:
    """Batches of 32 texts of 64 and 128 tokens peaked at 4.8 and 7.0 GB, of which activations 1.5 and 3.0 or more."""
    config = {**encoder_weights.config, "num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12}
    longest = int(trial_data.train.lengths.max())
    assert activation_bytes(config, trial_data, 32 * 64 // longest) == pytest.approx(1.4e9, rel=0.1)


def test_a_large_trial_gets_more_cores_and_the_user_is_told(
    encoder_weights: EncoderWeights, trial_data: TrialData, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, prepared = run_settings(strategies=("baseline",)), Prepared(trial_data, encoder_weights)
    need = trial_bytes(settings, prepared)
    assert need < trial_bytes(run_settings(strategies=("baseline", "distillation")), prepared)
    node = {"CPU": 4.0, "memory": 2.5 * need}
    monkeypatch.setattr(cpu_memory, "node_resources", lambda: [node])
    console = Console(file=io.StringIO(), width=200)
    assert fitting_resources(TrialResources(), settings, prepared, console) == TrialResources(2.0)
    assert "2 cores and threads for each trial" in console.file.getvalue()  # type: ignore[attr-defined]
