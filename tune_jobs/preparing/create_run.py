"""From settings to a run's folder: examples, encoder and ``run.json``, written once."""

import errno
import hashlib
import importlib.metadata
import io
import json
import platform
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.utils.class_weight import compute_class_weight
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from clinical_notes.annotate import Annotator, annotate_notes
from clinical_notes.batches import TrialData
from clinical_notes.examples import LabelledExamples, LabelSettings, make_examples, split_folds
from clinical_notes.lexicon import Lexicon
from clinical_notes.notes import NoteColumns, check_notes, read_notes
from clinical_notes.run_examples import tokenised_examples
from clinical_notes.synthetic import write_synthetic_notes
from clinical_notes.units import write_units
from run_folder.errors import InputError
from run_folder.folder import Folder
from run_folder.names import DATA, FORMAT, LEXICON_FILE, MODEL, RUN_FILE
from run_folder.run import Run, open_run
from search_spaces import objectives_of
from trainables.parts.deployed import sha256
from trainables.parts.model import stored
from trainables.parts.model.encoder import EncoderWeights
from tune_jobs.preparing.notes_on_cluster import annotate_on_cluster
from tune_jobs.preparing.pretrained import check_model, load_pretrained
from tune_jobs.settings import SYNTHETIC, RunSettings, near, problems_of, read_lexicon

_READ_ALONG_BYTES = 20_000_000
"""Notes up to this size are read even if the line is wrong elsewhere, so that all is reported together, and here."""

_OF_NOTES = tuple(
    f"--{name}"
    for name in ("notes", "patients", "sample", "seed", "window", "lexicon", "absorb", "symptoms", "split", "group-by")
)

_PACKAGES = ("symptune", "ray", "torch", "transformers", "peft", "optuna", "onnxruntime", "scikit-learn", "pandas")


@dataclass(frozen=True)
class Prepared:
    """What the trials of a run share; no test example is in it."""

    data: TrialData
    encoder: EncoderWeights


def problems_before(settings: RunSettings, found: Sequence[str] = ()) -> list[str]:
    """All that can be found wrong before any work is done, one line each, beside what has been found already."""
    problems = problems_of(settings)
    for find in (_split_problems, _model_problems, _lexicon_problems, _notes_problems):
        try:
            problems += find(settings)
        except InputError as error:
            problems.append(str(error))
    notes_are_sound = not any(line.startswith(_OF_NOTES) for line in problems)
    if (problems or found) and notes_are_sound and notes_are_small(settings):
        try:
            make_run_examples(settings, workers=1)
        except InputError as error:
            problems.append(str(error))
    return problems


def notes_are_small(settings: RunSettings) -> bool:
    return settings.notes == SYNTHETIC or Path(settings.notes).stat().st_size <= _READ_ALONG_BYTES


def _split_problems(settings: RunSettings) -> list[str]:
    split_folds(settings.split)
    return []


def _model_problems(settings: RunSettings) -> list[str]:
    return check_model(settings.model, settings.layers, settings.max_length)


def _notes_problems(settings: RunSettings) -> list[str]:
    if settings.notes != SYNTHETIC:
        check_notes(settings.notes, _columns(settings))
    return []


def _columns(settings: RunSettings) -> NoteColumns:
    return NoteColumns(
        text=settings.text_column,
        patient=settings.patient_column,
        category=settings.category_column,
        groups=settings.group_by,
    )


def _lexicon_problems(settings: RunSettings) -> list[str]:
    known = list(_lexicon(settings).concepts)
    named = settings.symptoms if isinstance(settings.symptoms, tuple) else ()
    return [f"--symptoms: the lexicon has no {name!r}{near(name, known)}" for name in named if name not in known]


def _lexicon(settings: RunSettings) -> Lexicon:
    return read_lexicon(settings.lexicon, settings.absorb)


@contextmanager
def _refusing_a_full_disk() -> Iterator[None]:
    """Raises: InputError: the folder of temporary files is full."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise InputError(
            f"--notes: {tempfile.gettempdir()} has no room for what is found in them; name a larger folder in TMPDIR"
        ) from None


def make_run_examples(settings: RunSettings, workers: int, *, on_cluster: bool = False) -> LabelledExamples:
    """Read, annotate and label the notes, by ``workers`` processes or by the connected cluster. Raises: InputError."""
    # A file without a name: whatever ends the process, no text of a note is left behind.
    with _refusing_a_full_disk(), tempfile.TemporaryDirectory() as temporary, tempfile.TemporaryFile() as units:
        notes = settings.notes
        if notes == SYNTHETIC:
            notes = str(Path(temporary) / "NOTEEVENTS.csv.gz")
            write_synthetic_notes(Path(notes), patients=settings.patients, seed=settings.seed)
        read = partial(
            read_notes,
            Path(notes).absolute() if on_cluster else notes,  # Ray's workers have folders of their own
            columns=_columns(settings),
            sample=settings.sample,
            seed=settings.seed,
            categories=settings.category,
        )
        annotator = Annotator(_lexicon(settings), settings.unit, settings.window_chars, settings.raw_window)
        tables = annotate_on_cluster(read, annotator) if on_cluster else annotate_notes(read(), annotator, workers)
        write_units(tables, units)
        return make_examples(
            units,
            LabelSettings(
                unit=settings.unit,
                symptoms=settings.symptoms,
                mentions=settings.mentions,
                negated=settings.negated,
                balance=settings.balance,
                split=settings.split,
                hold_back=settings.hold_back,
                group_by=settings.group_by,
                seed=settings.seed,
            ),
        )


def create_run(folder: Folder, settings: RunSettings, workers: int, *, on_cluster: bool = False) -> Prepared:
    """Write a new run's folder; ``run.json`` comes last and makes it a run.

    Args:
        workers: processes that annotate notes.
        on_cluster: the connected cluster's CPUs do so instead.

    Raises:
        InputError: bad notes, too few examples, or an unreadable model; nothing is written then.
    """
    examples = make_run_examples(settings, workers, on_cluster=on_cluster)
    model, tokenizer = load_pretrained(settings.model, settings.layers, examples.symptoms, settings.seed)
    for split, frame in examples.splits.items():
        folder.write(f"{DATA}/{split}.parquet", _parquet(frame))
    _write_model(folder, model, tokenizer)
    manifest = {
        "format": FORMAT,
        "settings": settings.record(),
        "objectives": {strategy: objectives_of(strategy) for strategy in settings.strategies},
        "symptoms": list(examples.symptoms),
        "held_back": {symptom: list(forms) for symptom, forms in examples.held_back.items()},
        "counts": {split: frame["symptom"].value_counts().to_dict() for split, frame in examples.splits.items()},
        "patients": {split: int(frame["patient"].nunique()) for split, frame in examples.splits.items()},
        "pad_token_id": tokenizer.pad_token_id,
        "unknown_token_id": tokenizer.unk_token_id if tokenizer.unk_token_id is not None else tokenizer.pad_token_id,
        "fingerprint": examples.fingerprint(),
        "sources": source_hashes(settings),
        "versions": versions(),
    }
    manifest["files"] = content_hashes(folder)
    folder.write(LEXICON_FILE, json.dumps(_lexicon(settings).record()).encode())
    folder.write(RUN_FILE, json.dumps(manifest, indent=2, allow_nan=False).encode())
    return load_prepared(folder)


def source_hashes(settings: RunSettings) -> dict[str, str | None]:
    """SHA-256 of the files that a run is made of, by option; None where there is none."""
    notes = None if settings.notes == SYNTHETIC else Path(settings.notes)
    lexicon = Path(settings.lexicon) if settings.lexicon else None
    return {name: sha256(file) if file else None for name, file in (("notes", notes), ("lexicon", lexicon))}


def content_hashes(folder: Folder) -> dict[str, str]:
    """SHA-256 of what a run's trials are made of: its examples and its encoder."""
    names = [f"{part}/{name}" for part in (DATA, MODEL) for name in folder.names(part)]
    return {name: hashlib.sha256(folder.read(name)).hexdigest() for name in names}


def changes_since(run: Run) -> list[str]:
    """What is not as it was when the run was made, so that its trials could not be compared any more."""
    recorded, now = dict(run.manifest.get("versions", {})), versions()
    changes = [
        f"{name} {recorded[name]} → {now[name]}" for name in now if _release(name, recorded) != _release(name, now)
    ]
    files, found = dict(run.manifest.get("files", {})), content_hashes(run.folder)
    changes += [
        f"{name} {'is another' if name in found else 'is missing'}" for name in files if found.get(name) != files[name]
    ]
    return changes


def _release(name: str, of: dict[str, str]) -> str | None:
    version = of.get(name)
    return ".".join(version.split(".")[:2]) if name == "python" and version else version


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in _PACKAGES}}


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _write_model(folder: Folder, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    scratch = folder.scratch()
    try:
        stored.save_model(model, scratch / MODEL)
        tokenizer.save_pretrained(scratch / MODEL)
        folder.put_folder(scratch / MODEL, MODEL)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def load_prepared(folder: Folder) -> Prepared:
    """What the trials need of a run's folder: never the test split."""
    run = open_run(folder)
    local = folder.local_copy(MODEL)
    tokenizer = stored.load_tokenizer(local)
    train, validation = tokenised_examples(run, "train", tokenizer), tokenised_examples(run, "validation", tokenizer)
    weights = None
    if run.settings["class_weights"] == "balanced":
        classes = np.arange(len(run.symptoms))
        weights = compute_class_weight("balanced", classes=classes, y=train.labels).astype(np.float32)
    pad, unknown = run.manifest["pad_token_id"], run.manifest["unknown_token_id"]
    data = TrialData(train, validation, run.symptoms, weights, pad, unknown)
    return Prepared(data, EncoderWeights.of(stored.load_model(local)))
