"""What is installed: all packages, what they need, and documentation that names what there is."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from setuptools import find_packages

import symptune
from symptune._shadowing import PACKAGES

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NEEDED = {found.name.lower(): found for found in map(Requirement, PROJECT["project"]["dependencies"])}
OURS = (*PACKAGES, "symptune")
DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "ahocorasick": "pyahocorasick",
    "huggingface_hub": "huggingface-hub",
}
OPTIONAL = {"torchao", "openpyxl", "medspacy", "loguru"}


def test_all_packages_are_installed() -> None:
    finding = PROJECT["tool"]["setuptools"]["packages"]["find"]
    found = set(find_packages(ROOT, include=finding["include"]))
    folders = {path.parent for name in OURS for path in (ROOT / name).rglob("*.py")}
    assert found == {".".join(folder.relative_to(ROOT).parts) for folder in folders}


def test_all_kinds_of_files_are_installed() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    for name in OURS:
        for path in (ROOT / name).rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                assert any(path.match(pattern) for pattern in patterns), path


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_everything_that_is_imported_is_needed_by_name() -> None:
    names = {name.partition(".")[0] for of in OURS for path in (ROOT / of).rglob("*.py") for name in imported(path)}
    others = {DISTRIBUTIONS.get(name, name).lower() for name in names - set(OURS) - set(sys.stdlib_module_names)}
    assert others - OPTIONAL <= set(NEEDED)


def test_the_tested_versions_are_allowed_and_installed_here() -> None:
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pinned = {name.lower().replace("_", "-"): tested for name, tested in pinned.items()}
    for name, requirement in NEEDED.items():
        assert requirement.specifier.contains(pinned[name]), requirement
        assert requirement.specifier.contains(version(name).partition("+")[0]), requirement
    assert all(">=" in str(requirement.specifier) for requirement in NEEDED.values())


def test_the_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## \[?([\d.]+|Unreleased)\]?(?: - (\S+))?$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    released = [(number, date) for number, date in headings if number != "Unreleased"]
    assert released[0][0] == symptune.__version__
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", date) for _, date in released)


PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_page_names_what_there_is(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", text):
        assert (page.parent / target).exists(), target
    packages = "|".join((*OURS, "benchmarks", "deploy", "tests", "docs"))
    for path in re.findall(rf"`((?:{packages})/[\w./-]*\w/?)", text):
        places = (ROOT / path, *ROOT.glob(f"tests/{path}"))
        assert any(place.exists() for place in places), path
    for dotted in re.findall(rf"\b((?:{'|'.join(OURS)}|benchmarks)(?:\.[a-z_]\w*)+)\b", text):
        parts = dotted.split(".")
        module = next((n for n in range(len(parts), 0, -1) if is_module(parts[:n])), 0)
        assert len(parts) - module <= (2 if parts[0] == "symptune" else 1), dotted


def is_module(parts: list[str]) -> bool:
    place = ROOT.joinpath(*parts)
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()
