"""What an INT8 graph computes in exact integers, and what x86 kernels without VNNI make of it, on any CPU."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from clinical_notes.batches import TrialData
from trainables.parts.agreement import validation_logits
from trainables.parts.deployed import OnnxRunner, int8_overflows

INT16 = np.iinfo(np.int16)


class MatMulInteger(OpRun):  # type: ignore[misc]
    """The operator by ``vpmaddubsw``: neighbouring products are added in pairs, whose sums saturate at 16 bits.

    Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2B, PMADDUBSW.
    """

    op_domain = ""

    def _run(
        self,
        inputs: NDArray[np.uint8],
        weight: NDArray[np.int8],
        input_zero: NDArray[np.uint8],
        weight_zero: NDArray[np.int8],
    ) -> tuple[NDArray[np.int32]]:
        assert not weight_zero.any()
        sums = pair_sums(inputs, weight).clip(INT16.min, INT16.max).sum(axis=-2, dtype=np.int32)
        return (sums - input_zero.astype(np.int32) * weight.sum(axis=0, dtype=np.int32),)


def pair_sums(inputs: NDArray[np.uint8], weight: NDArray[np.int8]) -> NDArray[np.int32]:
    """(..., pairs, out) sums of two neighbouring products each, of inputs (..., in) and a weight (in, out)."""
    left, right = inputs.astype(np.int32), weight.astype(np.int32)
    return left[..., 0::2, None] * right[0::2] + left[..., 1::2, None] * right[1::2]


class ReferenceRunner:
    """An INT8 graph run by ONNX's reference implementation, whose integer sums are exact.

    Args:
        saturating: a dynamically quantized graph's integer products are those of x86 kernels without VNNI.
    """

    def __init__(self, path: Path, *, saturating: bool = False) -> None:
        self._graph = ReferenceEvaluator(str(path), new_ops=[MatMulInteger] if saturating else [])

    def logits(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        return np.asarray(self._graph.run(["logits"], feed)[0])


def unsaturated_logits(path: Path, data: TrialData, *, reduce_range: bool) -> NDArray[np.float32]:
    """Logits of an INT8 graph by this CPU's kernels, or, where they saturate on its weights, in exact integers."""
    saturates = int8_overflows() and not reduce_range
    return validation_logits(ReferenceRunner(path) if saturates else OnnxRunner(path, threads=1), data)
