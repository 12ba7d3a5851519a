"""Fail unless a wheel has every file of the packages: python .ci/wheel_files.py WHEEL"""

import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATTERNS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]

wanted = {
    path.relative_to(ROOT).as_posix()
    for pattern in PATTERNS
    for path in (ROOT / pattern.rstrip("*")).rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}
there = {name for name in zipfile.ZipFile(sys.argv[1]).namelist() if ".dist-info/" not in name}
if not wanted or wanted != there:
    missing, more = ", ".join(sorted(wanted - there)) or "nothing", ", ".join(sorted(there - wanted)) or "nothing"
    sys.exit(f"the wheel lacks {missing}; it has, and the packages do not, {more}")
print(f"the wheel has all {len(wanted)} files of the packages")
