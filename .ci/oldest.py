"""Print the oldest versions that the package allows, as constraints: python .ci/oldest.py > oldest.txt"""

import re
import tomllib
from pathlib import Path

for line in tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["dependencies"]:
    name, oldest = re.match(r"([\w-]+)(?:\[.*?\])?>=([\w.]+)", line).groups()  # type: ignore[union-attr]
    print(f"{name}=={oldest}")
