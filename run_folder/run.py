"""A run: its folder, its settings and its trials."""

import dataclasses
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from run_folder.errors import InputError
from run_folder.events import Extended, read_chain, teacher_of, trials_of
from run_folder.folder import Folder
from run_folder.ledger_end import END_FILE, EventsMissingError, digest, read_end
from run_folder.names import DATA, FORMAT, LABEL, LEDGER, LEXICON_FILE, MODEL, NOTE, RESULTS, RUN_FILE, SPLITS, TRIALS
from run_folder.records import from_plain, to_json
from run_folder.results import Labels
from run_folder.settings import RunSettings
from run_folder.symptom_choice import SymptomChoice
from run_folder.trials import Objective, TrialRecord, best_of_strategy, repetitions_of


@dataclass(frozen=True, kw_only=True)
class RunManifest:
    """What ``run.json`` holds: what the run was created from, and what it was created with.

    Attributes:
        settings: as ``RunSettings.record`` gives them, when the run was created.
        objectives: by strategy, metric and direction, macro F1 first.
        symptoms: the classes, most frequent first.
        counts: by split, then symptom, the number of examples that report it.
        examples: by split; empty where each example reports one symptom.
        notes: by split, where the examples are windows of notes; None: they are not, or the run is older than this.
        patients: by split.
        fingerprint: SHA-256 of all examples, their labels and their splits.
        sources: SHA-256 of the notes' file and the lexicon's; None where there is none.
        choice: how firm the choice of the symptoms is; None: they were named, or the run is older than this.
        held_back: by symptom, the surface forms that training and validation examples never show.
        versions: of Python and the packages that a result depends on.
        files: SHA-256 of the files that the trials are made from.
        width: the encoder's hidden size, on which its search spaces depend; None: the run is older than this, and its
            do not.
        ends_noted: ``ledger.json`` belongs to the run, as to all that version 0.3 or newer created.
    """

    format: int = FORMAT
    settings: Mapping[str, Any]
    objectives: Mapping[str, tuple[Objective, ...]]
    symptoms: tuple[str, ...]
    choice: SymptomChoice | None = None
    held_back: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    counts: Mapping[str, Mapping[str, int]]
    examples: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, int] | None = None
    patients: Mapping[str, int]
    pad_token_id: int
    unknown_token_id: int
    fingerprint: str
    sources: Mapping[str, str | None]
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    width: int | None = None
    ends_noted: bool = False


@dataclass(frozen=True)
class Run:
    """A run's folder with what it says of itself.

    Attributes:
        settings: as last extended.
        teacher: the trial that the compressed models start from, once chosen.
    """

    folder: Folder
    settings: RunSettings
    manifest: RunManifest
    trials: Mapping[str, TrialRecord]
    teacher: str | None = None

    @cached_property
    def identity(self) -> str:
        """SHA-256 of all that the run was created with."""
        return digest(to_json(self.manifest))

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
        path = f"{DATA}/{split}.parquet"
        try:
            frame = pd.read_parquet(io.BytesIO(self.folder.read(path)))
        except (FileNotFoundError, pa.ArrowException):
            frame = pd.DataFrame()
        labels = {f"{LABEL}{name}" for name in self.symptoms} if self.is_multilabel else {"symptom"}
        labels |= {NOTE} if self.settings.labels.in_windows else set()
        if not {"id", "patient", *labels} <= set(frame):
            raise InputError(f"{self.folder}: {path} is missing or damaged; restore it from a copy of the run")
        return frame

    def texts(self, split: str) -> pd.DataFrame:
        """The texts of a split that have figures of their own: its examples, or the notes that they are windows of.

        A note has the columns of its first window, and its own id.
        """
        examples = self.examples(split)
        if not self.settings.labels.in_windows:
            return examples
        return examples.drop_duplicates(NOTE).assign(id=lambda found: found[NOTE]).reset_index(drop=True)

    def changed_files(self) -> list[str]:
        """Which files that the run was created with are gone or not as they were, in words."""
        files, found = self.manifest.files, content_hashes(self.folder)
        changed = [
            f"{name} {'has changed' if name in found else 'is missing'}"
            for name in files
            if found.get(name) != files[name]
        ]
        added = [name for name in found if name not in files and name != LEXICON_FILE]  # which version 0.2 left out
        return changed + [f"{name} was added" for name in added if files]

    def check_files(self) -> None:
        """Raises: InputError: a file that the run was created with is gone or not as it was."""
        changes = self.changed_files()
        if changes:
            raise InputError(
                f"{self.folder}: {', '.join(changes)} since the run was created; restore them from a copy of the run"
            )

    @property
    def examples_by_split(self) -> dict[str, int]:
        """Number of examples by split."""
        return {
            split: self.manifest.examples.get(split, sum(of.values())) for split, of in self.manifest.counts.items()
        }

    @property
    def example_word(self) -> str:
        """What its examples are called: the windows of a note are no examples to a reader."""
        return "window" if self.settings.labels.in_windows else "example"

    @property
    def text_word(self) -> str:
        """What those texts are called that have figures of their own; see ``texts``."""
        return "note" if self.settings.labels.in_windows else "example"

    @property
    def is_multilabel(self) -> bool:
        """Whether an example reports none, one or several symptoms, not exactly one."""
        return self.settings.labels.task == "multilabel"

    def labels(self, examples: pd.DataFrame) -> Labels:
        """Class indices (n,), or of a multilabel run how surely each symptom is reported (n, symptoms), from 0 to 1.

        Raises:
            InputError: the run has no such class.
        """
        if self.is_multilabel:
            return examples[[f"{LABEL}{name}" for name in self.symptoms]].to_numpy(np.float32)
        places = {name: place for place, name in enumerate(self.symptoms)}
        try:
            return np.array([places[name] for name in examples["symptom"]], np.int64)
        except KeyError as error:
            raise InputError(f"{self.folder}: its examples have a symptom that {RUN_FILE} lacks") from error

    def objectives(self, strategy: str) -> list[Objective]:
        """What the strategy's search aimed at: metric and direction, macro F1 first."""
        return list(self.manifest.objectives[strategy])

    def best(self, strategy: str, top: int) -> list[TrialRecord]:
        """The strategy's best finished trials; see ``best_of_strategy``."""
        return best_of_strategy(self.trials, strategy, top, self.objectives(strategy), self.teacher)

    def repetitions(self, name: str) -> list[TrialRecord]:
        """The finished trials that train a trial's configuration with other seeds, in order."""
        return repetitions_of(self.trials, name)


def content_hashes(folder: Folder) -> dict[str, str]:
    """SHA-256 of what a run's trials start from: its examples, its encoder and its lexicon."""
    names = [f"{part}/{name}" for part in (DATA, MODEL) for name in folder.names(part) if not name.startswith(".")]
    if folder.exists(LEXICON_FILE):
        names.append(LEXICON_FILE)
    return {name: digest(folder.read(name)) for name in names}


def open_run(folder: Folder) -> Run:
    """A run with its settings as last extended.

    Raises:
        EventsMissingError: the ledger has lost its last events.
        InputError: the folder holds no run, a damaged one, or one of a newer version.
    """
    if not folder.exists(RUN_FILE):
        raise InputError(f"{folder}: not a run (it has no {RUN_FILE}); give a run's name or its folder")
    manifest = _read_manifest(folder)
    settings = RunSettings.of_run(manifest.settings, f"{folder}: {RUN_FILE}: settings")
    _check_agreement(manifest, settings, f"{folder}: {RUN_FILE}")
    chain = read_chain(folder)
    if not chain.events and chain.end is None:
        _check_nothing_was_done(folder)
    for event in chain.events:
        if isinstance(event, Extended):
            settings = settings.changed(trials=event.trials)
    return Run(folder, settings, manifest, trials_of(chain.events), teacher_of(chain.events))


def _read_manifest(folder: Folder) -> RunManifest:
    where = f"{folder}: {RUN_FILE}"
    data = folder.read(RUN_FILE)
    try:
        values = json.loads(data)
        written = values.get("format", FORMAT)
    except (ValueError, AttributeError, RecursionError):
        raise InputError(f"{where} is damaged; restore it from a copy of the run") from None
    if written != FORMAT:
        raise InputError(
            f"{folder}: a run of another version (format {written}, this one reads {FORMAT}); "
            "use the version that wrote it"
        )
    lacking = [f.name for f in dataclasses.fields(RunManifest) if _is_required(f) and f.name not in values]
    if lacking:
        raise InputError(f"{where} lacks {', '.join(lacking)}; restore it from a copy of the run")
    manifest = from_plain(values, RunManifest, where)
    end = read_end(folder)
    if end is None and manifest.ends_noted:
        raise InputError(f"{folder}: {END_FILE} is missing; restore it from a copy of the run")
    if end is not None and end.run != digest(data):
        raise InputError(f"{where} was changed after the run was created; restore it from a copy of the run")
    return manifest


def _check_agreement(manifest: RunManifest, settings: RunSettings, where: str) -> None:
    """Raises: InputError: parts of ``run.json`` do not belong together."""
    without = [name for name in settings.search.strategies if name not in manifest.objectives]
    if without:
        raise InputError(f"{where}: objectives lack {', '.join(without)}; restore it from a copy of the run")
    splits = {*manifest.counts, *manifest.patients}
    if not manifest.symptoms or (splits and not manifest.counts.keys() == manifest.patients.keys() == set(SPLITS)):
        raise InputError(f"{where}: symptoms, counts or patients are damaged; restore it from a copy of the run")


def _check_nothing_was_done(folder: Folder) -> None:
    """Raises: EventsMissingError: there are trials or results, so that the ledger cannot be empty."""
    left = [name for name in (TRIALS, f"{RESULTS}/trials", f"{RESULTS}/predictions") if folder.names(name)]
    if left:
        raise EventsMissingError(
            f"{folder}: all events of its {LEDGER}/ are missing, although there are {' and '.join(left)}; "
            "restore them from a copy of the run"
        )


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
