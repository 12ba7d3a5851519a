"""The inputs of each Linear layer on a few training examples, from which quantization takes its ranges."""

from collections.abc import Callable, Collection, Iterator

import numpy as np
import torch
from onnxruntime.quantization.calibrate import HistogramCollector
from torch import nn
from transformers import PreTrainedModel

from clinical_notes.batches import TrialData, collate
from trainables.parts.quiet import quiet

EXAMPLES = 128
"""Number of training examples used, always the same ones; all where there are fewer."""
PERCENTILE = 99.999
"""Percent of the values in a range; high, since BERT's few large ones matter (Wu et al. 2020, arXiv:2004.09602)."""

_BATCH = 16
_BINS, _LEVELS = 1024, 256  # the search for the least entropy takes quadratically longer with more bins

Range = tuple[float, float]


def linear_paths(module: nn.Module, prefix: str = "") -> list[str]:
    """Paths of all Linear modules in a module, in order; ``prefix`` is the module's own path."""
    start = f"{prefix}." if prefix else ""
    return [start + path for path, part in module.named_modules() if isinstance(part, nn.Linear)]


def calibration_batches(data: TrialData, examples: int = EXAMPLES) -> Iterator[dict[str, torch.Tensor]]:
    """``input_ids`` and ``attention_mask`` of the chosen training examples, in batches of similar length."""
    chosen = np.random.default_rng(0).permutation(len(data.train))[:examples]
    chosen = chosen[np.argsort(data.train.lengths[chosen], kind="stable")]
    for start in range(0, len(chosen), _BATCH):
        batch = collate(data.train, chosen[start : start + _BATCH], data.pad_token_id)
        del batch["labels"]
        yield batch


@torch.no_grad()
def observe(
    model: PreTrainedModel,
    paths: Collection[str],
    data: TrialData,
    see: Callable[[str, torch.Tensor], None],
    examples: int = EXAMPLES,
) -> None:
    """Run the calibration batches and give ``see`` each Linear's path and inputs (tokens, features), without padding.

    Inputs without a length, as the classifier's, are (texts, features).

    Args:
        examples: how many training texts; always the same ones.
    """
    inside = torch.empty(0)

    def hook_of(path: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        return lambda _, inputs: see(path, inputs[0][inside] if inputs[0].ndim == 3 else inputs[0])

    model.eval()
    hooks = [model.get_submodule(path).register_forward_pre_hook(hook_of(path)) for path in paths]
    try:
        for batch in calibration_batches(data, examples):
            on_device = {name: tensor.to(model.device) for name, tensor in batch.items()}
            inside = on_device["attention_mask"].bool()
            model(**on_device)
    finally:
        for hook in hooks:
            hook.remove()


def activation_ranges(model: PreTrainedModel, data: TrialData, calibration: str) -> dict[str, Range]:
    """Lowest and highest input of each Linear that its static INT8 grid must represent, by path.

    Args:
        calibration: "minmax"; "percentile", which leaves out the rarest values; or "entropy", the range whose
            grid loses least information (Migacz 2017). ONNX Runtime's algorithms choose the latter two.
    """
    paths = linear_paths(model)
    ranges: dict[str, Range] = {}

    def widen(path: str, inputs: torch.Tensor) -> None:
        low, high = ranges.get(path, (0.0, 0.0))  # a grid holds 0
        ranges[path] = min(low, float(inputs.min())), max(high, float(inputs.max()))

    observe(model, paths, data, widen)
    if calibration == "minmax":
        return ranges
    collector = HistogramCollector(
        method=calibration,
        symmetric=False,
        num_bins=_BINS,
        num_quantized_bins=_LEVELS,
        percentile=PERCENTILE,
        scenario="same",
    )
    with quiet():
        # The extremes first: bins that grow later make the search for the least entropy quadratically longer.
        collector.collect({path: np.array(extremes, np.float32) for path, extremes in ranges.items()})
        observe(model, paths, data, lambda path, inputs: collector.collect({path: inputs.cpu().numpy()}))
        thresholds = collector.compute_collection_result()
    return {path: (float(low), float(high)) for path, (low, high, *_) in thresholds.items()}
