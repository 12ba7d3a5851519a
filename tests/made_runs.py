"""Runs that no search made: their records as types, with defaults for what a test does not look at."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from run_folder.folder import Folder
from run_folder.ledger_end import END_FILE
from run_folder.names import RUN_FILE
from run_folder.records import to_json
from run_folder.run import Run, RunManifest
from run_folder.settings import RunSettings
from run_folder.trials import TrialRecord
from tune_jobs.check_settings import run_settings


def manifest_of(settings: RunSettings, symptoms: Sequence[str] = ("pain",), **more: Any) -> RunManifest:
    """What ``run.json`` would hold; every strategy aims at macro F1 alone."""
    manifest = RunManifest(
        settings=settings.record(),
        objectives={strategy: (("f1", "maximize"),) for strategy in settings.search.strategies},
        symptoms=tuple(symptoms),
        counts={},
        patients={},
        pad_token_id=0,
        unknown_token_id=1,
        fingerprint="f",
        sources={"notes": None, "lexicon": None},
    )
    return replace(manifest, **more)


def made_run(
    folder: Folder, strategies: Iterable[str], trials: Iterable[TrialRecord], symptoms: Sequence[str] = ("pain",)
) -> Run:
    """A run of these trials, as the paper's protocol has it; nothing is written."""
    settings = run_settings(strategies=tuple(strategies), task="multiclass", patience=0)
    return Run(folder, settings, manifest_of(settings, symptoms), {trial.name: trial for trial in trials})


def write_run_file(folder: Folder, **settings: Any) -> None:
    """``run.json`` of a run with these settings and one symptom, pain."""
    folder.write(RUN_FILE, to_json(manifest_of(run_settings(**settings))))


def change_run_file(folder: Folder, **values: Any) -> None:
    """Other values in ``run.json`` of a run that has no ``ledger.json``, as version 0.2 made them."""
    record = json.loads(folder.read(RUN_FILE)) | values | {"ends_noted": False}
    folder.write(RUN_FILE, json.dumps(record).encode())
    folder.delete_file(END_FILE)
