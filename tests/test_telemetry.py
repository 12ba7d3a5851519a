"""No library tells its makers what runs on a hospital's machine."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("imports", "collected"),
    [("onnxruntime", True), ("trainables, onnxruntime", False), ("tune_jobs.cli, analysis.models.label_texts", False)],
)
def test_onnx_runtime_collects_nothing_once_symptune_is_there(
    imports: str,
    collected: bool,
    start_python: Callable[..., "subprocess.Popen[str]"],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    code = f"import {imports}, onnxruntime; onnxruntime.SessionOptions()"
    process = start_python("-c", code, env={"HOME": str(tmp_path)})
    assert process.wait() == 0
    found = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    if collected and not found:
        pytest.skip("this ONNX Runtime collects nothing by itself")
    assert bool(found) == collected
