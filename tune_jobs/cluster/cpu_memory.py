"""How many CPUs a trial gets: one, unless a node's memory would not hold as many trials as it has CPUs."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from rich.console import Console

from clinical_notes.batches import TrialData
from run_folder.settings import RunSettings
from trainables import trainable_class
from trainables.parts.model.encoder import config_from, layer_names
from tune_jobs.cluster.connection import node_resources
from tune_jobs.cluster.gpu_memory import demanding_configurations
from tune_jobs.execution import TrialResources
from tune_jobs.preparing.create_run import Prepared

_PROCESS = 700_000_000
"""Bytes of a trial's process with its libraries."""
_COPIES = 5
"""Copies of the weights: themselves, gradients, two moments, those of the epoch to deploy."""
_MARGIN = 1.2
"""Factor on the estimate; measured peaks are up to a fifth more."""


def trial_bytes(settings: RunSettings, prepared: Prepared) -> int:
    """Estimated peak of a trial that trains the whole encoder in the largest batch of its space, in float32."""
    weights = 4 * sum(array.size for array in prepared.encoder.arrays.values())
    teacher = any(trainable_class(strategy).needs_teacher for strategy in settings.search.strategies)
    batches = (
        values.get("batch_size", 1)
        for _, values in demanding_configurations(settings.search.strategies, settings.search.space)
    )
    activations = activation_bytes(prepared.encoder.config, prepared.data, max(batches))
    return int(_MARGIN * (_PROCESS + (_COPIES + teacher) * weights + activations))


def activation_bytes(config: Mapping[str, Any], data: TrialData, batch_size: int) -> int:
    """Bytes that one batch of the longest training examples keeps for its backward pass, in float32.

    Korthikanti et al. 2022, "Reducing activation recomputation in large transformer models", equation 1, doubled: they
    count 16-bit values.
    """
    length = int(data.train.lengths.max())
    model = config_from(config)
    depth = getattr(model, layer_names(model).depth_option)
    of_layer = length * batch_size * (34 * model.hidden_size + 5 * model.num_attention_heads * length)
    return int(2 * depth * of_layer)


def cpus_that_fit(need: int, nodes: Iterable[Mapping[str, float]]) -> int:
    """CPUs per trial, so that no node runs more trials of ``need`` bytes than its memory holds, but one at least.

    Args:
        nodes: resources of each as Ray counts them; ``memory`` is what it leaves to workers, in bytes.
    """
    cpus = 1
    for node in nodes:
        cores = int(node.get("CPU", 0.0))
        fit = max(1, int(node["memory"] // need)) if "memory" in node else cores
        if cores > fit:
            fewest = cores // (fit + 1) + 1  # with one less, fit + 1 trials would find cores
            cpus = max(cpus, cores // (cores // fewest))  # and those that would be left over
    return cpus


def fitting_resources(
    ask: TrialResources, settings: RunSettings, prepared: Prepared, console: Console
) -> TrialResources:
    """``ask`` with the CPUs of a trial of this run on the cluster that is connected; more than one are printed."""
    need = trial_bytes(settings, prepared)
    cpus = cpus_that_fit(need, node_resources())
    if cpus > 1:
        console.print(
            f"--cpus-per-trial auto: a trial may take {need / 2**30:.1f} GiB, more than there is for one on every "
            f"core: {cpus} cores and threads for each trial",
            highlight=False,
            soft_wrap=True,
        )
    return replace(ask, cpus=float(cpus))
