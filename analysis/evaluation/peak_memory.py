"""Peak memory of a process that does nothing but predict.

Run as ``python peak_memory.py GRAPH THREADS LENGTH``.

Prints the bytes that loading the graph and labelling one batch of 32 texts took on top of the bare interpreter with
ONNX Runtime imported.
"""

import resource
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

BATCH = 32


def _peak_bytes() -> int:
    """The process's own peak; ``getrusage`` would count that of the process which started it, too."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(graph: str, threads: int, length: int) -> int:
    before = _peak_bytes()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(
        graph, options, providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
    )
    ids = np.ones((BATCH, length), np.int64)
    session.run(["logits"], {"input_ids": ids, "attention_mask": ids})
    return _peak_bytes() - before


if __name__ == "__main__":
    print(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
