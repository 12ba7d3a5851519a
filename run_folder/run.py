"""A run: its folder, its settings and its trials."""

import dataclasses
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from run_folder.errors import InputError
from run_folder.events import Extended, read_events, trials_of
from run_folder.folder import Folder
from run_folder.names import DATA, FORMAT, RUN_FILE
from run_folder.records import from_plain
from run_folder.settings import RunSettings
from run_folder.trials import Objective, TrialRecord, best_trials, repetitions_of


@dataclass(frozen=True, kw_only=True)
class RunManifest:
    """What ``run.json`` holds: what the run was created from, and what it was created with.

    Attributes:
        settings: as ``RunSettings.record`` gives them, when the run was created.
        objectives: by strategy, metric and direction, macro F1 first.
        symptoms: the classes, most frequent first.
        counts: by split, then symptom, the number of examples.
        patients: by split.
        fingerprint: SHA-256 of all examples, their labels and their splits.
        sources: SHA-256 of the notes' file and the lexicon's; None where there is none.
        held_back: by symptom, the surface forms that training and validation examples never show.
        versions: of Python and the packages that a result depends on.
        files: SHA-256 of the files that the trials are made from.
    """

    format: int = FORMAT
    settings: Mapping[str, Any]
    objectives: Mapping[str, tuple[Objective, ...]]
    symptoms: tuple[str, ...]
    held_back: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    counts: Mapping[str, Mapping[str, int]]
    patients: Mapping[str, int]
    pad_token_id: int
    unknown_token_id: int
    fingerprint: str
    sources: Mapping[str, str | None]
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A run's folder with what it says of itself.

    Attributes:
        settings: as last extended.
    """

    folder: Folder
    settings: RunSettings
    manifest: RunManifest
    trials: Mapping[str, TrialRecord]

    @property
    def strategies(self) -> tuple[str, ...]:
        return self.settings.search.strategies

    @property
    def symptoms(self) -> tuple[str, ...]:
        return self.manifest.symptoms

    @property
    def held_back(self) -> Mapping[str, tuple[str, ...]]:
        """By symptom, the surface forms that training and validation examples never show."""
        return self.manifest.held_back

    def examples(self, split: str) -> pd.DataFrame:
        """The labelled examples of a split: id, text, symptom, patient, category, ``group_<column>`` of each group."""
        return pd.read_parquet(io.BytesIO(self.folder.read(f"{DATA}/{split}.parquet")))

    def labels(self, examples: pd.DataFrame) -> list[int]:
        """Class indices of examples."""
        return [self.symptoms.index(name) for name in examples["symptom"]]

    def objectives(self, strategy: str) -> list[Objective]:
        """What the strategy's search aimed at: metric and direction, macro F1 first."""
        return list(self.manifest.objectives[strategy])

    def best(self, strategy: str, top: int) -> list[TrialRecord]:
        """The strategy's best finished trials; see ``best_trials``."""
        mine = (trial for trial in self.trials.values() if trial.strategy == strategy)
        return best_trials(mine, top, self.objectives(strategy))

    def repetitions(self, name: str) -> list[TrialRecord]:
        """The finished trials that train a trial's configuration with other seeds, in order."""
        return repetitions_of(self.trials, name)


def open_run(folder: Folder) -> Run:
    """A run with its settings as last extended.

    Raises:
        InputError: the folder holds no run, a damaged one, or one of a newer version.
    """
    if not folder.exists(RUN_FILE):
        raise InputError(f"{folder}: not a run (it has no {RUN_FILE}); give a run's name or its folder")
    manifest = _read_manifest(folder)
    settings = RunSettings.from_record(manifest.settings, f"{folder}: {RUN_FILE}: settings")
    events = read_events(folder)
    for event in events:
        if isinstance(event, Extended):
            settings = settings.changed(trials=event.trials)
    return Run(folder, settings, manifest, trials_of(events))


def _read_manifest(folder: Folder) -> RunManifest:
    where = f"{folder}: {RUN_FILE}"
    try:
        values = json.loads(folder.read(RUN_FILE))
        written = values.get("format", FORMAT)
    except (ValueError, AttributeError):
        raise InputError(f"{where} is damaged; restore it from a copy of the run") from None
    if written != FORMAT:
        raise InputError(
            f"{folder}: a run of another version (format {written}, this one reads {FORMAT}); "
            "use the version that wrote it"
        )
    lacking = [f.name for f in dataclasses.fields(RunManifest) if _is_required(f) and f.name not in values]
    if lacking:
        raise InputError(f"{where} lacks {', '.join(lacking)}; restore it from a copy of the run")
    return from_plain(values, RunManifest, where)


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
