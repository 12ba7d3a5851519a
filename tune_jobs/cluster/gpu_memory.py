"""How many trials share a GPU: before the search, one trial's peak memory is measured on each kind of node."""

import gc
import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import ray
import torch
from optuna.distributions import CategoricalDistribution
from optuna.samplers import RandomSampler
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from clinical_notes.batches import TokenisedExamples, TrialData
from run_folder.errors import InputError, Problem
from run_folder.folder import Folder
from run_folder.settings import RunSettings
from search_spaces import paper_configuration
from search_spaces.overrides import distributions_of, narrow, narrowed_space, nearest
from trainables import trainable_class
from trainables.base import TrainSettings, TrialConfig
from trainables.parts.deployed import PREDICT_BATCH, deploy_torch
from trainables.parts.model.encoder import EncoderWeights
from tune_jobs.cluster.connection import RESOURCE_UNITS
from tune_jobs.execution import TrialResources
from tune_jobs.preparing.create_run import Prepared
from tune_jobs.searching.trial_actor import is_out_of_memory

MARGIN = 1.25
"""Ratio of a trial's share of memory to the measured peak: not every configuration is measured."""

_DRAWN = 3
_EPOCHS = 2
"""Epochs to measure, each of one step; the optimizer's moments exist from the second on."""
_SECONDS = 600

Configuration = tuple[str, dict[str, Any]]
"""Strategy and hyperparameters."""


@dataclass(frozen=True)
class GpuMemory:
    """Bytes of one GPU: at a trial's peak, its CUDA context included, and in all."""

    peak: int
    total: int


def trials_per_gpu(memory: GpuMemory, most: int) -> int:
    """How many trials fit, at most ``most``; at least one, which halves its batches where it must."""
    return max(1, min(int(memory.total / (MARGIN * memory.peak)), most))


def share_of(trials: int) -> float:
    """The GPUs of each trial where this many share one: 1 / trials, rounded down to what Ray can count."""
    return math.floor(RESOURCE_UNITS / trials) / RESOURCE_UNITS


def measured_resources(
    ask: TrialResources, settings: RunSettings, prepared: Prepared, console: Console
) -> TrialResources:
    """``ask`` with the share of a GPU that a trial of this run needs, on the cluster that is connected.

    The GPUs of different nodes may differ; the largest share that one of them asks for is taken. Where PyTorch can
    use none, trials run on the CPU. Either is printed.

    Raises:
        InputError: no GPU was free for so long that none could be measured.
    """
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0) >= 1]
    if not nodes:
        _say_cpu("the cluster has no GPU", console)
        return ask
    found = _measure(nodes, settings, prepared, threads=max(1, int(ask.cpus)))
    fits = [(trials_per_gpu(memory, _cpus_allow(node, ask)), memory, node) for node, memory in found]
    if not fits:
        _say_cpu(f"PyTorch {torch.__version__} can use none of the cluster's GPUs (no driver, or one too old)", console)
        return ask
    trials, memory, node = min(fits, key=lambda fit: fit[0])
    console.print(chosen_line(trials, memory, _cpus_allow(node, ask)), highlight=False, soft_wrap=True)
    return replace(ask, gpus=share_of(trials))


def chosen_line(trials: int, memory: GpuMemory, most: int) -> str:
    """What was measured and chosen, as it is printed."""
    if memory.peak >= memory.total:
        found, note = f"a trial takes more than the {memory.total / 2**30:.0f} GiB there are", ", in half batches"
    else:
        found = f"a trial peaks at {memory.peak / 2**30:.1f} GiB of {memory.total / 2**30:.0f} GiB"
        note = ", as many as the CPUs allow" if trials == most and trials < trials_per_gpu(memory, trials + 1) else ""
    return f"--gpus-per-trial auto: {found}: {trials} trial{'s' * (trials > 1)} per GPU ({share_of(trials):g}){note}"


def _say_cpu(reason: str, console: Console) -> None:
    console.print(
        f"symptune: warning: --gpus-per-trial auto: {reason}: THE TRIALS RUN ON THE CPU",
        style="bold red",
        highlight=False,
        soft_wrap=True,
    )


def _cpus_allow(node: Mapping[str, Any], ask: TrialResources) -> int:
    resources = node["Resources"]
    return max(1, int(resources.get("CPU", 0) / ask.cpus / resources["GPU"]))


def _measure(
    nodes: Iterable[Mapping[str, Any]], settings: RunSettings, prepared: Prepared, threads: int
) -> list[tuple[Mapping[str, Any], GpuMemory]]:
    """What a trial takes on a GPU of each node, all at once; nodes whose GPUs PyTorch can't use are left out."""
    configurations = demanding_configurations(settings.search.strategies, settings.search.space)
    data = longest_examples(prepared.data, max(values.get("batch_size", 1) for _, values in configurations))
    train = TrainSettings(_EPOCHS, threads, "cuda", settings.model.reduce_range, settings.model.precision)
    measure = ray.remote(num_cpus=0, num_gpus=1, max_calls=1)(measure_peak)  # one call: its process frees the GPU
    encoder = ray.put(prepared.encoder)
    asked = [
        measure.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            configurations, data, encoder, train
        )
        for node in nodes
    ]
    try:
        found: list[GpuMemory | None] = ray.get(asked, timeout=_SECONDS)
    except ray.exceptions.RayError as error:
        message = (
            f"auto: no trial could be measured ({type(error).__name__}: a GPU was not free within {_SECONDS} s, "
            "or the process died)"
        )
        raise InputError(Problem("gpus_per_trial", message, "give a number")) from error
    return [(node, memory) for node, memory in zip(nodes, found, strict=True) if memory is not None]


def demanding_configurations(strategies: Iterable[str], space: Mapping[str, Mapping[str, Any]]) -> list[Configuration]:
    """Each strategy's paper configuration and a few random ones, all with the largest batch of its space."""
    configurations = []
    for strategy in strategies:
        overrides = dict(space.get(strategy, {}))
        batch = distributions_of(strategy).get("batch_size")
        if isinstance(batch, CategoricalDistribution):
            if "batch_size" in overrides:
                batch = narrow("batch_size", batch, overrides["batch_size"])
            assert isinstance(batch, CategoricalDistribution)
            overrides["batch_size"] = max(batch.choices)  # type: ignore[type-var]
        study = optuna.create_study(sampler=RandomSampler(seed=0))
        study.enqueue_trial(nearest(strategy, paper_configuration(strategy), overrides))
        ask = narrowed_space(strategy, overrides)
        configurations += [(strategy, dict(ask(study.ask()))) for _ in range(1 + _DRAWN)]
    return configurations


def longest_examples(data: TrialData, batch_size: int) -> TrialData:
    """The run's data cut to its longest batch of training, and of validation, examples.

    The tokens of the other training examples stay, as no example's: their embeddings take memory too.
    """
    train = _longest(data.train, batch_size)
    train = replace(train, tokens=np.concatenate([train.tokens, np.unique(data.train.tokens)]))
    return replace(data, train=train, validation=_longest(data.validation, PREDICT_BATCH))


def _longest(examples: TokenisedExamples, count: int) -> TokenisedExamples:
    index = np.argsort(-examples.lengths, kind="stable")[:count]
    return TokenisedExamples(
        ids=examples.ids[index],
        tokens=np.concatenate([examples.tokens[examples.offsets[i] : examples.offsets[i + 1]] for i in index]),
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(examples.lengths[index])]),
        labels=examples.labels[index],
    )


def measure_peak(
    configurations: Iterable[Configuration], data: TrialData, encoder: EncoderWeights, settings: TrainSettings
) -> GpuMemory | None:
    """Train each configuration for a few steps on this process's GPU; None where PyTorch can't use it."""
    if not torch.cuda.is_available():
        return None
    peak = 0
    _, total = torch.cuda.mem_get_info()
    for configuration in configurations:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        if not fits_in_memory(configuration, data, encoder, settings):
            return GpuMemory(total, total)
        peak = max(peak, torch.cuda.max_memory_reserved())
    free, total = torch.cuda.mem_get_info()
    context = total - free - torch.cuda.memory_reserved()  # and what else is on the GPU, which takes room as well
    return GpuMemory(peak + context, total)


def fits_in_memory(
    configuration: Configuration, data: TrialData, encoder: EncoderWeights, settings: TrainSettings
) -> bool:
    """Train a trial for ``settings.epochs``; a teacher, where it has one, is the encoder as it is."""
    strategy, hyperparameters = configuration
    cls = trainable_class(strategy)
    with tempfile.TemporaryDirectory() as teacher:
        if cls.needs_teacher:
            (Path(teacher) / "deployed").mkdir()
            deploy_torch(encoder.build(), Path(teacher) / "deployed", data)
        try:
            started_from = Folder(teacher) if cls.needs_teacher else None
            trial = cls(TrialConfig(hyperparameters, 0, started_from), data, encoder, settings)
            while not trial.is_trained:
                trial.epoch()
        except Exception as error:  # any other error will end its trial with a reason
            return not is_out_of_memory(error)
    return True
