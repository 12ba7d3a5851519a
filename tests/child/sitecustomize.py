"""Further Python processes of a test session use its cache of exports: Python imports this file when it starts."""

import importlib.util
import os
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = os.environ.get("SYMPTUNE_TEST_EXPORTS")
CACHE = Path(__file__).parents[1] / "export_cache.py"


def through_cache(real: Callable[..., Any], folder: str) -> Callable[..., Any]:
    def export(*arguments: Any, **options: Any) -> Any:
        spec = importlib.util.spec_from_file_location("export_cache", CACHE)
        assert spec is not None
        assert spec.loader is not None
        cache = importlib.util.module_from_spec(spec)
        sys.modules["export_cache"] = cache
        spec.loader.exec_module(cache)
        return cache.ExportCache(Path(folder), real).export(*arguments, **options)

    return export


class Finder(MetaPathFinder):
    """Replaces the exporter as soon as it is imported; PyTorch is not imported for it."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != "torch.onnx" or FOLDER is None:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute, folder = spec.loader.exec_module, FOLDER

        def execute_and_replace(module: ModuleType) -> None:
            execute(module)
            module.export = through_cache(module.export, folder)  # type: ignore[attr-defined]

        spec.loader.exec_module = execute_and_replace  # type: ignore[method-assign]
        return spec


if FOLDER is not None:
    sys.meta_path.insert(0, Finder())
