"""A run: its folder, its settings and its trials."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from run_folder.errors import InputError
from run_folder.events import Extended, read_events, trials_of
from run_folder.folder import Folder
from run_folder.names import DATA, FORMAT, RUN_FILE
from run_folder.trials import Objective, TrialRecord, best_trials, repetitions_of


@dataclass(frozen=True)
class Run:
    """A run's folder with what it says of itself."""

    folder: Folder
    settings: Mapping[str, Any]
    manifest: Mapping[str, Any]
    trials: Mapping[str, TrialRecord]

    @property
    def strategies(self) -> tuple[str, ...]:
        return tuple(self.settings["strategies"])

    @property
    def symptoms(self) -> tuple[str, ...]:
        return tuple(self.manifest["symptoms"])

    @property
    def held_back(self) -> Mapping[str, tuple[str, ...]]:
        """By symptom, the surface forms that training and validation examples never show."""
        return {symptom: tuple(forms) for symptom, forms in self.manifest.get("held_back", {}).items()}

    def examples(self, split: str) -> pd.DataFrame:
        """The labelled examples of a split: id, text, symptom, patient, category, ``group_<column>`` of --group-by."""
        return pd.read_parquet(io.BytesIO(self.folder.read(f"{DATA}/{split}.parquet")))

    def labels(self, examples: pd.DataFrame) -> list[int]:
        """Class indices of examples."""
        return [self.symptoms.index(name) for name in examples["symptom"]]

    def objectives(self, strategy: str) -> list[Objective]:
        """What the strategy's search aimed at: metric and direction, macro F1 first."""
        return [(metric, direction) for metric, direction in self.manifest["objectives"][strategy]]

    def best(self, strategy: str, top: int) -> list[TrialRecord]:
        """The strategy's best finished trials; see ``best_trials``."""
        mine = (trial for trial in self.trials.values() if trial.strategy == strategy)
        return best_trials(mine, top, self.objectives(strategy))

    def repetitions(self, name: str) -> list[TrialRecord]:
        """The finished trials that train a trial's configuration with other seeds, in order."""
        return repetitions_of(self.trials, name)


_REQUIRED = ("objectives", "symptoms", "counts", "patients", "fingerprint", "sources")


def open_run(folder: Folder) -> Run:
    """A run with its settings as last extended.

    Raises:
        InputError: the folder holds no run, a damaged one, or one of a newer version.
    """
    if not folder.exists(RUN_FILE):
        raise InputError(f"{folder}: not a run (it has no {RUN_FILE}); give a run's name or its folder")
    try:
        manifest = json.loads(folder.read(RUN_FILE))
        written, settings = manifest.get("format", FORMAT), dict(manifest["settings"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{folder}: {RUN_FILE} is damaged; restore it from a copy of the run") from None
    lacking = [] if written != FORMAT else [name for name in _REQUIRED if name not in manifest]
    if lacking:
        raise InputError(f"{folder}: {RUN_FILE} lacks {', '.join(lacking)}; restore it from a copy of the run")
    if written != FORMAT:
        raise InputError(
            f"{folder}: a run of another version (format {written}, this one reads {FORMAT}); "
            "use the version that wrote it"
        )
    events = read_events(folder)
    for event in events:
        if isinstance(event, Extended):
            settings["trials"] = event.trials
    return Run(folder, settings, manifest, trials_of(events))
