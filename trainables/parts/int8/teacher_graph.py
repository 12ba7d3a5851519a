"""The FP32 graph of the run's best baseline, with which every trial starts that quantizes it without training."""

import functools
import tempfile
from pathlib import Path

from transformers import PreTrainedModel

from run_folder.folder import Folder
from trainables.parts.deployed import ONNX_FILE, sha256
from trainables.parts.int8.onnx_export import export_onnx

GRAPH = "graph"
"""Folder in the teacher trial's folder: what ``export_onnx`` wrote of its model, once per run, and its SHA-256."""
HASH_FILE = "sha256"


def teacher_graph(folder: Folder, teacher: PreTrainedModel) -> Path:
    """Local path of the teacher's FP32 graph: as kept in its trial's folder, or exported now and kept there.

    Several trials may export it at the same time; a damaged graph is exported again.
    """
    if not _is_whole(folder):
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / ONNX_FILE
            export_onnx(teacher, path)
            folder.write(f"{GRAPH}/{ONNX_FILE}", path.read_bytes())
            folder.write(f"{GRAPH}/{HASH_FILE}", sha256(path).encode())
        _local.cache_clear()
    return _local(folder.uri) / ONNX_FILE


def _is_whole(folder: Folder) -> bool:
    if not all(folder.exists(f"{GRAPH}/{name}") for name in (ONNX_FILE, HASH_FILE)):
        return False
    return folder.read(f"{GRAPH}/{HASH_FILE}") == sha256(_local(folder.uri) / ONNX_FILE).encode()


@functools.lru_cache(maxsize=1)
def _local(uri: str) -> Path:
    """Copied from a remote storage once per process."""
    return Folder(uri).local_copy(GRAPH)
