"""Imports go one way: between packages, inside each of them, and wherever in a file they stand."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MAY_IMPORT = {
    "run_folder": set(),
    "clinical_notes": {"run_folder"},
    "search_spaces": set(),
    "trainables": {"clinical_notes", "run_folder"},
    "analysis": {"trainables", "clinical_notes", "run_folder"},
    "tune_jobs": {"analysis", "trainables", "search_spaces", "clinical_notes", "run_folder"},
    "symptune": {"tune_jobs", "analysis", "trainables", "search_spaces", "clinical_notes", "run_folder"},
}
"""Package to the packages of ours that it may import; ``benchmarks`` may import them all."""


def modules() -> dict[str, Path]:
    found = {}
    for package in MAY_IMPORT:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(path: Path) -> Iterator[str]:
    """Names of the project's modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            while name and name not in MODULES:
                name = name.rpartition(".")[0]
            if name:
                yield name


GRAPH = {name: {other for other in imported(path) if other != name} for name, path in MODULES.items()}


def test_the_walk_sees_the_imports() -> None:
    assert "run_folder.errors" in GRAPH["run_folder.folder"]
    assert "trainables.parts.model.encoder" in GRAPH["trainables.base"]
    assert set(MAY_IMPORT) == {name.partition(".")[0] for name in GRAPH}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    upwards = {
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        if name.partition(".")[0] == package
        for other in others
        if other.partition(".")[0] not in MAY_IMPORT[package] | {package}
    }
    assert not upwards


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert not circle(GRAPH)


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert not circle({"a": {"b", "c"}, "b": {"c"}, "c": set()})


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """A path of modules that ends where it began, or none."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph[name]):
            if found := visit(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := visit(name, []))), [])
