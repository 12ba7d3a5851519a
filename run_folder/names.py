"""Names of the files and folders of a run."""

from run_folder.folder import Folder

FORMAT = 1
"""Version of the run folder's format; a newer program may raise it."""

RUN_FILE, LEDGER, TRIALS, RESULTS, DATA, MODEL = "run.json", "ledger", "trials", "results", "data", "model"
LOGS = "logs"
SPLITS = ("train", "validation", "test")
DEPLOYED = "deployed"
LEXICON_FILE = "lexicon.json"
LABEL = "label_"
"""Prefix of the columns that say of each symptom whether an example reports it: 1, 0, or a probability."""
NOTE = "note"
"""Column of examples that are windows: the note that each is of."""
EPOCH_PREFIX = "epoch-"
"""Prefix of the checkpoints in a trial's folder, which are deleted when the trial ends."""


def checkpoints_of(folder: Folder, trial: str) -> list[str]:
    """Paths of a trial's checkpoints in the run's folder, oldest first."""
    home = f"{TRIALS}/{trial}"
    return [f"{home}/{name}" for name in folder.names(home) if name.startswith(EPOCH_PREFIX)]
