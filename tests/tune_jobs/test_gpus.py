"""How trials share GPUs: Ray's logical ones, which PyTorch can't use; what needs a real one is arithmetic here."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.cluster_utils import Cluster
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from rich.console import Console

from clinical_notes.batches import TrialData
from run_folder.events import Warned, read_events
from run_folder.folder import Folder
from run_folder.settings import RunSettings
from search_spaces import STRATEGIES
from tests.tiny_runs import quiet, settings_for
from tests.waiting import GUARD_SECONDS
from trainables.base import TrainSettings
from trainables.parts.model.encoder import EncoderWeights
from tune_jobs.cluster.connection import _slots, connected, slots
from tune_jobs.cluster.gpu_memory import (
    GpuMemory,
    chosen_line,
    demanding_configurations,
    fits_in_memory,
    longest_examples,
    measured_resources,
    share_of,
    trials_per_gpu,
)
from tune_jobs.execution import Execution, TrialResources
from tune_jobs.preparing.create_run import Prepared, create_run
from tune_jobs.searching.run_search import search
from tune_jobs.searching.trial_actor import RunTrainable, is_out_of_memory

GIB = 2**30

no_real_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch can use the GPU that Ray gives here")


@pytest.mark.parametrize(
    ("peak", "total", "most", "trials"),
    [
        (0.1, 80, 6, 6),  # tiny: as many as the CPUs allow
        (0.1, 80, 500, 500),
        (3.1, 78, 64, 20),
        (8, 80, 64, 8),  # exactly, with the margin
        (8.1, 80, 64, 7),
        (20, 24, 64, 1),
        (24, 24, 64, 1),  # larger than the GPU
        (1, 80, 1, 1),
    ],
)
def test_as_many_trials_share_a_gpu_as_fit_with_the_margin(peak: float, total: float, most: int, trials: int) -> None:
    memory = GpuMemory(int(peak * GIB), int(total * GIB))
    assert trials_per_gpu(memory, most) == trials
    ask = TrialResources(1.0, share_of(trials))
    assert _slots({"CPU": 1000.0, "GPU": 1.0}, ask) == trials
    assert f"{trials} trial" in chosen_line(trials, memory, most)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.25, 0.3, 0.5, 0.7, 1.0])
def test_shares_of_a_gpu_are_counted_as_ray_counts_them(share: float) -> None:
    assert _slots({"CPU": 64.0, "GPU": 1.0}, TrialResources(1.0, share)) == int(1000 // round(1000 * share))
    assert _slots({"CPU": 1.0}, TrialResources(share)) == int(1000 // round(1000 * share))


def test_what_is_measured_are_the_largest_batches_of_the_narrowed_spaces(trial_data: TrialData) -> None:
    space = {"pruning": {"batch_size": {"choices": [8, 16]}}, "low_rank": {"batch_size": 8, "rank": 64}}
    configurations = demanding_configurations(STRATEGIES, space)
    sizes = {
        strategy: {values.get("batch_size") for name, values in configurations if name == strategy}
        for strategy in STRATEGIES
    }
    assert sizes["baseline"] == {32}
    assert sizes["pruning"] == {16}
    assert sizes["low_rank"] == {8}
    longest = longest_examples(trial_data, 10).train
    assert len(longest) == 10
    assert longest.lengths.min() >= sorted(trial_data.train.lengths)[-10]
    first = int(trial_data.train.lengths.argmax())
    start, end = trial_data.train.offsets[first : first + 2]
    assert (longest.tokens[: longest.offsets[1]] == trial_data.train.tokens[start:end]).all()
    assert longest_examples(trial_data, 1).training_tokens == trial_data.training_tokens  # whose rows are trained


def test_every_measured_configuration_trains(trial_data: TrialData, encoder_weights: EncoderWeights) -> None:
    data = longest_examples(trial_data, 16)
    for configuration in demanding_configurations(("distillation", "combined"), {}):
        assert fits_in_memory(configuration, data, encoder_weights, TrainSettings(epochs=2))


def printed_on(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head of two CPUs and no GPU; the tests that follow one another here add GPUs."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 0, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, settings: RunSettings) -> tuple[Folder, Prepared]:
    folder = Folder(tmp_path_factory.mktemp("gpus") / "run")
    return folder, create_run(folder, settings, workers=1)


@pytest.fixture(scope="module")
def settings(model_folder: Path) -> RunSettings:
    return settings_for(model_folder, trials=1, epochs=1, strategies=("baseline",))


def test_auto_without_a_gpu_is_the_cpu_and_said_loudly(
    cluster: Cluster, settings: RunSettings, prepared: tuple[Folder, Prepared]
) -> None:
    console = quiet()
    with connected(cluster.address, verbose=False):
        assert measured_resources(TrialResources(0.5), settings, prepared[1], console) == TrialResources(0.5)
    assert "the cluster has no GPU: THE TRIALS RUN ON THE CPU" in printed_on(console)


@no_real_gpu
def test_auto_with_gpus_that_pytorch_cannot_use_is_the_cpu_and_said_loudly(
    cluster: Cluster, settings: RunSettings, prepared: tuple[Folder, Prepared]
) -> None:
    cluster.add_node(num_cpus=4, num_gpus=2)
    console = quiet()
    with connected(cluster.address, verbose=False):
        assert measured_resources(TrialResources(), settings, prepared[1], console) == TrialResources()
    assert "can use none of the cluster's GPUs" in printed_on(console)


def held_by(group: PlacementGroup, share: float) -> Any:
    """What a trial's process is given, held as long as it lives."""

    @ray.remote(num_cpus=0.5, num_gpus=share, scheduling_strategy=PlacementGroupSchedulingStrategy(group))
    class Held:  # in here, so that its process need not import this module
        def visible(self) -> str:
            return os.environ["CUDA_VISIBLE_DEVICES"]

    return Held.remote()


@no_real_gpu
@pytest.mark.parametrize(("share", "trials"), [(1.0, ["0", "1"]), (0.5, ["0", "0", "1", "1"])])
def test_trials_get_whole_gpus_of_their_own_and_fractions_of_shared_ones(
    cluster: Cluster, share: float, trials: list[str]
) -> None:
    request = RunTrainable.default_resource_request({"cpus": 0.5, "gpus": share})
    with connected(cluster.address, verbose=False):
        assert slots(TrialResources(0.5, share)) == len(trials)
        groups = [request.to_placement_group() for _ in range(len(trials) + 1)]
        granted, waiting = ray.wait([group.ready() for group in groups], num_returns=len(trials), timeout=GUARD_SECONDS)
        assert (len(granted), len(waiting)) == (len(trials), 1)
        processes = [held_by(group, share) for group in ray.get(granted)]
        assert sorted(ray.get([process.visible.remote() for process in processes], timeout=GUARD_SECONDS)) == trials


@no_real_gpu
def test_a_trial_whose_gpu_pytorch_cannot_use_says_so_and_ends_on_the_cpu(
    cluster: Cluster, settings: RunSettings, prepared: tuple[Folder, Prepared]
) -> None:
    folder, console = prepared[0], quiet()
    execution = Execution(TrialResources(1.0, 0.5), address=cluster.address)
    ledger = search(folder, settings, prepared[1], execution, console)
    assert [trial.state for trial in ledger.trials.values()] == ["finished"]
    warnings = {event.trial: event.message for event in read_events(folder) if isinstance(event, Warned)}
    assert list(warnings) == list(ledger.trials)
    assert all(re.search(r"CUDA_VISIBLE_DEVICES=[01]\).*trains on the CPU", text) for text in warnings.values())
    assert all(f"{name}: warning: {text}" in printed_on(console) for name, text in warnings.items())


def test_a_trial_on_a_shared_gpu_is_held_to_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", shares.append)
    trial = RunTrainable.__new__(RunTrainable)
    trial._settings, trial._warnings = TrainSettings(epochs=1, device="cuda"), []
    for share in (0.25, 1.0):
        trial.config = {"gpus": share}
        assert trial._device() == "cuda"
    assert shares == [0.25]
    assert not trial._warnings


def test_memory_that_runs_out_beside_pytorchs_allocator_is_recognised() -> None:
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB"))
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))
