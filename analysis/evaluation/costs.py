"""What the deployed models cost to run, measured side by side on this machine."""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from analysis.evaluation.onnx_graphs import deployed_folder, has_graph, onnx_file, tokenised
from analysis.evaluation.predictions import TEST
from analysis.evaluation.result_files import read_result, write_result
from run_folder.names import RESULTS
from run_folder.run import Run
from trainables.parts.deployed import PREDICT_BATCH, OnnxRunner, Runner
from trainables.parts.open_deployed import load_deployed

COSTS = f"{RESULTS}/costs.json"
THREADS = 1
"""Intra-op threads of every model: one is steadier than many, and is what a service with a model per core runs."""

_TEXTS = 64
_LEAST_ROUNDS, _MOST_ROUNDS = 3, 30
_SECONDS_PER_MODEL = 1.5


@dataclass(frozen=True, kw_only=True)
class ModelCosts:
    """What a model costs to run on one device.

    Attributes:
        latency_median, latency_p95: seconds of one text.
        throughput: texts per second in batches of 32.
        peak_memory_bytes: of a process that loads it and predicts one batch; not measured on a GPU.
    """

    latency_median: float
    latency_p95: float
    throughput: float
    peak_memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What ``results/costs.json`` holds.

    Attributes:
        models: identities of the measured models, by trial.
        machine: the processor; gpu_machine: the GPU, where there was one.
        threads: of ONNX Runtime on the CPU.
        cpu, gpu: by trial; those that the device cannot run are left out.
    """

    models: Mapping[str, str]
    machine: str
    threads: int
    cpu: Mapping[str, ModelCosts]
    gpu_machine: str | None = None
    gpu: Mapping[str, ModelCosts] | None = None


def measure_costs(run: Run, names: Sequence[str], identity: Mapping[str, str]) -> None:
    """Write latency, throughput and peak memory of these trials' models, if they have not been measured already.

    All are FP32 or INT8 graphs run by ONNX Runtime with the same threads, in one process, in turn, on texts whose
    lengths are drawn from the test set; where there is a GPU, what trials deploy for it is timed there too.

    Args:
        identity: of each trial's model, so that figures of another are not taken for its own.
    """
    asked = {name: identity[name] for name in names}
    if read_costs(run).models == asked:
        return
    lengths = drawn_lengths(tokenised(run, TEST).lengths, _TEXTS)
    graphs = {name: onnx_file(run, name) for name in names if has_graph(run, name)}
    times = time_models({name: OnnxRunner(path, THREADS) for name, path in graphs.items()}, lengths)
    memory = {name: peak_memory(path, int(lengths.max())) for name, path in graphs.items()}
    figures = {name: replace(found, peak_memory_bytes=memory[name]) for name, found in times.items()}
    costs = Costs(models=asked, machine=machine(), threads=THREADS, cpu=figures)
    if torch.cuda.is_available():
        deployed = {name: load_deployed(deployed_folder(run, name), device="cuda") for name in names}
        on_gpu = {name: model for name, model in deployed.items() if model.card.runtime != "onnxruntime"}
        costs = replace(costs, gpu_machine=torch.cuda.get_device_name(), gpu=time_models(on_gpu, lengths))
    write_result(run, COSTS, costs)


def read_costs(run: Run) -> Costs:
    """What ``measure_costs`` wrote; no figures where nothing was measured, or the file is damaged."""
    return read_result(run, COSTS, Costs) or Costs(models={}, machine="", threads=THREADS, cpu={})


def drawn_lengths(lengths: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """``count`` lengths that represent all: evenly spaced quantiles, in a fixed random order."""
    quantiles = np.quantile(lengths, (np.arange(count) + 0.5) / count, method="nearest")
    return np.random.default_rng(0).permutation(quantiles.astype(np.int64))


def time_models(
    models: Mapping[str, Runner], lengths: NDArray[np.int64], seconds_per_model: float = _SECONDS_PER_MODEL
) -> dict[str, ModelCosts]:
    """Seconds of one text (median and 95th percentile) and texts per second in batches of 32, of each model.

    The models take turns text by text, so that a slow moment of the machine falls on all of them.

    Args:
        lengths: tokens of each text.
        seconds_per_model: how long to measure, within 3 to 30 rounds over the texts.
    """
    singles: dict[str, list[float]] = {name: [] for name in models}
    batched: dict[str, list[float]] = {name: [] for name in models}
    batches = [_batch(part) for part in _parts(np.sort(lengths), PREDICT_BATCH)]
    for model in models.values():  # the first run allocates
        for batch in (_batch(lengths[:1]), batches[-1]):
            model.logits(*batch)
    start, rounds = time.perf_counter(), 0
    while rounds < _LEAST_ROUNDS or (
        rounds < _MOST_ROUNDS and time.perf_counter() - start < seconds_per_model * len(models)
    ):
        for length in lengths:
            one = _batch(np.array([length]))
            for name, model in models.items():
                singles[name].append(_seconds(model, one))
        for name, model in models.items():
            batched[name].append(sum(_seconds(model, batch) for batch in batches))
        rounds += 1
    return {
        name: ModelCosts(
            latency_median=float(np.median(singles[name])),
            latency_p95=float(np.quantile(singles[name], 0.95)),
            throughput=len(lengths) / float(np.median(batched[name])),
        )
        for name in models
    }


def _parts(lengths: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [lengths[start : start + size] for start in range(0, len(lengths), size)]


def _batch(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids and mask of texts of these lengths; which tokens they are costs nothing."""
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    return mask, mask


def _seconds(model: Runner, batch: tuple[NDArray[np.int64], NDArray[np.int64]]) -> float:
    start = time.perf_counter()
    model.logits(*batch)
    return time.perf_counter() - start


def peak_memory(graph: Path, length: int) -> int:
    """Bytes that loading the graph and predicting 32 texts of this length take, in a separate process."""
    program = Path(__file__).with_name("peak_memory.py")  # by its file and with -P: nothing in this folder can hide it
    line = [sys.executable, "-P", str(program), str(graph), str(THREADS), str(length)]
    return int(subprocess.run(line, check=True, capture_output=True, text=True).stdout)


def machine() -> str:
    """The processor, and which of its instructions decide how fast INT8 is."""
    able = torch.cpu.get_capabilities()
    names = ("avx2", "avx512_f", "avx512_vnni", "avx_vnni", "amx_int8")
    return f"{able['cpu_name']} ({', '.join(name for name in names if able.get(name)) or able['architecture']})"
