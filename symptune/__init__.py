"""Find the smallest and fastest model that tells as well as the full one which symptoms a clinical text reports.

::

    import symptune

    run = symptune.search("NOTEEVENTS.csv.gz", sample=0.1, trials=8, storage="runs", name="first")
    run.leaderboard()
    model = run.export(run.best("quantization"), "models/int8")
    model.predict(["Patient reports severe chest pain."])

Later, or on another machine::

    symptune.open_run("runs/first").leaderboard()
    symptune.load("models/int8").predict(texts)

Names that begin with an underscore, and the other packages that are installed with this one, may change.
"""

from symptune._shadowing import check_own_packages

check_own_packages()

from run_folder.errors import InputError  # noqa: E402  (a package of the same name must be told first)
from symptune._launch import SearchError  # noqa: E402
from symptune._model import Model, load  # noqa: E402
from symptune._run import Run, Trial, open_run  # noqa: E402
from symptune._search import SearchOptions, search  # noqa: E402

__version__ = "0.2.0"

__all__ = [
    "InputError",
    "Model",
    "Run",
    "SearchError",
    "SearchOptions",
    "Trial",
    "__version__",
    "load",
    "open_run",
    "search",
]
