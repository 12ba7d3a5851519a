"""Whether another module hides one of the packages that are installed with this one.

They have plain names (``analysis``), and Python looks into the current folder first.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("run_folder", "clinical_notes", "search_spaces", "trainables", "analysis", "tune_jobs")


def check_own_packages() -> None:
    """Raises: ImportError: a package of ours would be imported from elsewhere; the message names it and the fix."""
    for name in PACKAGES:
        place = _place(name)
        if place is not None and place != _place("symptune"):
            found = place / name if (place / name).exists() else place / f"{name}.py"
            raise ImportError(
                f"symptune: {found} hides symptune's own package {name!r}; rename it, or start Python in another folder"
            )


def _place(name: str) -> Path | None:
    """The folder that holds a top-level module; None where it is not found, which its import then tells."""
    loaded = sys.modules.get(name)
    try:
        spec = loaded.__spec__ if loaded is not None else find_spec(name)
    except ValueError:
        spec = None
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).resolve()
    return file.parents[1] if spec.submodule_search_locations is not None else file.parent
