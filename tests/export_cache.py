"""Exports of a model that this session has exported before are copies: an export costs seconds of the processor."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

_export = torch.onnx.export
_PLAIN = (bool, float, int, str, tuple, type(None))


@dataclass(frozen=True)
class ExportCache:
    """Graphs that ``torch.onnx.export`` wrote, by the digest of all that it was given."""

    folder: Path

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Exports of this process go through the cache."""
        with mock.patch.object(torch.onnx, "export", self.export):
            yield

    def export(self, model: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path, **options: Any) -> None:
        if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):
            _export(model, inputs, path, **options)  # what a hook does no digest tells
            return
        kept = self.folder / digest(model, inputs, options)
        if not kept.exists():
            _export(model, inputs, path, **options)
            written = kept.with_suffix(f".{os.getpid()}")  # workers write here next to each other
            shutil.copyfile(path, written)
            written.replace(kept)
        else:
            shutil.copyfile(kept, path)


def digest(model: nn.Module, inputs: tuple[torch.Tensor, ...], options: dict[str, Any]) -> str:
    """SHA-256 of the modules' settings, configuration, weights and buffers, the example inputs and the options."""
    found = hashlib.sha256(repr((model, inputs, sorted(options.items()))).encode())
    for name, module in model.named_modules():
        settings = {key: value for key, value in sorted(vars(module).items()) if isinstance(value, _PLAIN)}
        config = getattr(module, "config", None)
        described = config.to_dict() | {"attention": config._attn_implementation} if config is not None else None
        found.update(repr((name, type(module), settings, described)).encode())
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        found.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()
