"""From settings to a run's folder: examples, encoder and ``run.json``, written once."""

import errno
import hashlib
import importlib.metadata
import io
import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from clinical_notes.annotate import Annotate, Annotator, annotate_notes
from clinical_notes.batches import TrialData
from clinical_notes.examples import LabelledExamples, make_examples, split_folds
from clinical_notes.labellers import check_labeller
from clinical_notes.lexicon import Lexicon, read_lexicon
from clinical_notes.notes import check_notes, read_notes
from clinical_notes.own_labels import RowAnnotator
from clinical_notes.run_examples import tokenised_examples
from clinical_notes.synthetic import write_synthetic_notes
from clinical_notes.tables.columns import NoteColumns
from clinical_notes.tables.read import files_of
from clinical_notes.tables.tally import Tally
from clinical_notes.units import write_units
from clinical_notes.windows import WindowMaker
from run_folder.errors import InputError, Problem
from run_folder.folder import Folder
from run_folder.ledger_end import LedgerEnd, digest, write_end
from run_folder.names import DATA, LABEL, LEXICON_FILE, MODEL, NOTE, RUN_FILE
from run_folder.records import to_json
from run_folder.run import Run, RunManifest, content_hashes, open_run
from run_folder.settings import NAMES, NO_PATIENTS, LabelSettings, NotesSettings, RunSettings
from search_spaces import objectives_of
from trainables.parts.deployed import sha256
from trainables.parts.model import stored
from trainables.parts.model.encoder import EncoderWeights, start_at_shares
from trainables.parts.tasks import TASKS
from tune_jobs.check_settings import problems_of
from tune_jobs.preparing.first_models import model_problems
from tune_jobs.preparing.notes_on_cluster import annotate_on_cluster
from tune_jobs.preparing.pretrained import check_model, load_pretrained, tokenizer_of

_READ_ALONG_BYTES = 20_000_000
"""Notes up to this size are read even where other settings are wrong, so that all problems are reported together."""

_WHOLE_BYTES = 200_000_000
"""Notes' files up to this size are kept whole in a multilabel task; of larger ones, the texts of fewer patients."""

_DECIDE_EXAMPLES = NAMES["notes"] | NAMES["labels"] | {"seed"}
"""Settings that decide the examples."""

_PACKAGES = ("symptune", "ray", "torch", "transformers", "peft", "optuna", "onnxruntime", "scikit-learn", "pandas")


Tell = Callable[[str], None]
"""Is given a line for the user."""


@dataclass(frozen=True)
class Prepared:
    """What the trials of a run share; no test example is in it.

    Attributes:
        width: see ``RunManifest``.
    """

    data: TrialData
    encoder: EncoderWeights
    width: int | None = None


def problems_before(
    settings: RunSettings, found: Sequence[Problem] = (), *, continues_run: bool = False
) -> list[Problem]:
    """All that can be found wrong before any work is done, besides what has been found already.

    Args:
        continues_run: the run has a model of its own, which was tried when it was created.
    """
    problems = problems_of(settings)
    for find in (_split_problems, _model_problems, _labeller_problems, _lexicon_problems, _notes_problems):
        try:
            problems += find(settings)
        except InputError as error:
            problems += error.problems
    if (
        not problems and not found and not continues_run
    ):  # last: it may have to be downloaded, and a large one takes seconds
        try:
            problems += model_problems(settings)
        except InputError as error:
            problems += error.problems
    notes_are_sound = not any(problem.field in _DECIDE_EXAMPLES for problem in problems)
    if (problems or found) and notes_are_sound and notes_are_small(settings.notes):
        try:
            make_run_examples(settings, workers=1)
        except InputError as error:
            problems += error.problems
    return problems


def notes_are_small(notes: NotesSettings) -> bool:
    return sum(file.stat().st_size for file in files_of(notes.paths)) <= _READ_ALONG_BYTES


def _split_problems(settings: RunSettings) -> list[Problem]:
    split_folds(settings.labels.split)
    return []


def _labeller_problems(settings: RunSettings) -> list[Problem]:
    check_labeller(settings.labels.labeller)
    return []


def _model_problems(settings: RunSettings) -> list[Problem]:
    return check_model(settings.model)


def _notes_problems(settings: RunSettings) -> list[Problem]:
    if not settings.notes.is_synthetic:
        check_notes(settings.notes.paths, _columns(settings.notes, settings.labels))
    elif settings.labels.columns:
        return [Problem("labels", "synthetic notes have no columns of labels", "give notes that have")]
    return []


def _columns(notes: NotesSettings, labels: LabelSettings) -> NoteColumns:
    return NoteColumns(
        text=notes.text_column,
        patient=None if notes.patient_column == NO_PATIENTS else notes.patient_column,
        category=notes.category_column,
        groups=notes.group_by,
        labels=labels.columns,
    )


def _lexicon_problems(settings: RunSettings) -> list[Problem]:
    lexicon = _lexicon(settings.labels)
    by_rules = isinstance(settings.labels.symptoms, tuple) and not settings.labels.columns
    named = settings.labels.symptoms if by_rules and isinstance(settings.labels.symptoms, tuple) else ()
    return [lexicon.missing("symptoms", name) for name in named if name not in lexicon.concepts]


def _lexicon(labels: LabelSettings) -> Lexicon:
    return read_lexicon(labels.lexicon, labels.absorb)


@contextmanager
def _refusing_a_full_disk() -> Iterator[None]:
    """Raises: InputError: the folder of temporary files is full."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        message = f"{tempfile.gettempdir()} is too small for the texts found in the notes"
        raise InputError(Problem("notes", message, "set TMPDIR to a larger folder")) from None


def _tell_nobody(line: str) -> None:
    pass


def make_run_examples(
    settings: RunSettings, workers: int, *, on_cluster: bool = False, tell: Tell = _tell_nobody
) -> LabelledExamples:
    """Read, annotate and label the notes, by ``workers`` processes or by the connected cluster.

    Args:
        tell: is given lines about the notes.

    Raises:
        InputError: bad notes, or too few examples.
    """
    # A file without a name: whatever ends the process, no text of a note is left behind.
    with _refusing_a_full_disk(), tempfile.TemporaryDirectory() as temporary, tempfile.TemporaryFile() as units:
        notes, labels, seed = settings.notes, settings.labels, settings.search.seed
        paths = [Path(path) for path in notes.paths]
        if notes.is_synthetic:
            paths = [Path(temporary) / "NOTEEVENTS.csv.gz"]
            write_synthetic_notes(paths[0], patients=notes.patients, seed=seed)
        tally = Tally()
        read = partial(
            read_notes,
            [path.absolute() for path in paths] if on_cluster else paths,  # Ray's workers have folders of their own
            columns=_columns(notes, labels),
            sample=notes.sample,
            seed=seed,
            categories=notes.category,
        )
        share = 0.0
        if labels.task == "multilabel":
            share = 1.0 if labels.unit == "row" else _whole_share(paths)
        annotator: Annotate = (
            RowAnnotator(_lexicon(labels), labels.columns, one_each=labels.task == "multiclass")
            if labels.unit == "row"
            else Annotator(
                _lexicon(labels),
                labels.unit,
                labels.window_chars,
                labels.raw_window,
                labels.labeller,
                share,
                WindowMaker(tokenizer_of(settings.model.name), settings.model.max_length, labels.stride)
                if labels.in_windows
                else None,
            )
        )
        tables = (
            annotate_on_cluster(read, annotator, tally)
            if on_cluster
            else annotate_notes(read(tally=tally), annotator, workers)
        )
        write_units(tables, units)
        for line in tally.lines():
            tell(line)
        return make_examples(units, labels, group_by=notes.group_by, seed=seed, whole_share=share)


def _whole_share(paths: Sequence[Path]) -> float:
    """Share of the patients all of whose texts are kept, so that they fit in memory however many notes there are."""
    return min(1.0, _WHOLE_BYTES / max(1, sum(file.stat().st_size for file in files_of([str(path) for path in paths]))))


def create_run(
    folder: Folder, settings: RunSettings, workers: int, *, on_cluster: bool = False, tell: Tell = _tell_nobody
) -> Prepared:
    """Write a new run's folder; ``run.json`` comes last and makes it a run.

    Args:
        workers: processes that annotate notes.
        on_cluster: the connected cluster's CPUs do so instead.
        tell: is given lines about the notes.

    Raises:
        InputError: bad notes, too few examples, or an unreadable model; nothing is written then.
    """
    examples = make_run_examples(settings, workers, on_cluster=on_cluster, tell=tell)
    if examples.standard_texts:
        tell(f"Texts of too many patients to keep their copies on one side of the split: {examples.standard_texts:,}")
    encoder = settings.model
    model, tokenizer = load_pretrained(encoder.name, encoder.layers, examples.symptoms, settings.search.seed)
    if settings.labels.task == "multilabel":
        model.config.problem_type = TASKS["multilabel"].problem_type
        if encoder.class_weights == "none":  # with weights, both answers count alike from the start
            start_at_shares(model, _shares(examples))
    for split, frame in examples.splits.items():
        folder.write(f"{DATA}/{split}.parquet", _parquet(frame), private=True)
    _write_model(folder, model, tokenizer)
    folder.write(LEXICON_FILE, json.dumps(_lexicon(settings.labels).record()).encode())
    pad, unknown = tokenizer.pad_token_id, tokenizer.unk_token_id
    manifest = RunManifest(
        settings=settings.record(),
        objectives={strategy: objectives_of(strategy) for strategy in settings.search.strategies},
        symptoms=examples.symptoms,
        choice=examples.choice,
        held_back=examples.held_back,
        counts={split: _counts(frame, examples.symptoms) for split, frame in examples.splits.items()},
        examples={split: len(frame) for split, frame in examples.splits.items() if "symptom" not in frame},
        notes=_notes(examples, settings.labels),
        patients={split: int(frame["patient"].nunique()) for split, frame in examples.splits.items()},
        pad_token_id=pad,
        unknown_token_id=unknown if unknown is not None else pad,
        fingerprint=examples.fingerprint(),
        sources=source_hashes(settings),
        versions=versions(),
        files=content_hashes(folder),
        width=model.config.hidden_size,
        ends_noted=True,
    )
    record = to_json(manifest, indent=2)
    write_end(folder, LedgerEnd(events=0, last="", run=digest(record)))
    folder.write(RUN_FILE, record)
    return load_prepared(folder)


def _shares(examples: LabelledExamples) -> NDArray[np.float64]:
    """(symptoms,) share of the training examples that report each, never 0 or 1."""
    train = examples.splits["train"]
    counts = np.array([train[f"{LABEL}{name}"].sum() for name in examples.symptoms], np.float64)
    return (counts + 1) / (len(train) + 2)


def _counts(examples: pd.DataFrame, symptoms: Sequence[str]) -> dict[str, int]:
    """Number of examples that report each symptom, most frequent first."""
    if "symptom" in examples:
        return {str(name): int(count) for name, count in examples["symptom"].value_counts().items()}
    counts = {name: int((examples[f"{LABEL}{name}"] >= 0.5).sum()) for name in symptoms}
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _notes(examples: LabelledExamples, labels: LabelSettings) -> dict[str, int] | None:
    """By split, of how many notes its windows are; None: the examples are no windows."""
    return {s: int(frame[NOTE].nunique()) for s, frame in examples.splits.items()} if labels.in_windows else None


def source_hashes(settings: RunSettings) -> dict[str, str | None]:
    """SHA-256 of the files that a run is created from, by setting; None where there is none."""
    lexicon = settings.labels.lexicon
    return {"notes": _hash_of(files_of(settings.notes.paths)), "lexicon": _hash_of([Path(lexicon)] if lexicon else [])}


def _hash_of(files: Sequence[Path]) -> str | None:
    """SHA-256 of a file, or of the hashes of several in their order."""
    hashes = [sha256(file) for file in files]
    return hashlib.sha256("".join(hashes).encode()).hexdigest() if len(hashes) > 1 else next(iter(hashes), None)


def changes_since(run: Run) -> list[str]:
    """What has changed since the run was created, so that new trials could not be compared with its own."""
    recorded, now = run.manifest.versions, versions()
    changes = [
        f"{name} {recorded.get(name, 'unknown')} → {now[name]}"
        for name in now
        if _release(name, recorded) != _release(name, now)
    ]
    return changes + run.changed_files()


_SAME_FIGURES = ("0.1.0", "0.2.0")
"""Releases of symptune whose trials give the same figures, so that each continues the others' runs."""


def _release(name: str, versions: Mapping[str, str]) -> str | None:
    """The part of a version on which a trial's figures depend."""
    version = versions.get(name)
    if name == "symptune" and version in _SAME_FIGURES:
        return _SAME_FIGURES[0]
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
    weights = _balanced_weights(train.labels) if run.settings.model.class_weights == "balanced" else None
    data = TrialData(
        train=train,
        validation=validation,
        symptoms=run.symptoms,
        class_weights=weights,
        pad_token_id=run.manifest.pad_token_id,
        unknown_token_id=run.manifest.unknown_token_id,
        task=run.settings.labels.task,
        sensitivity=run.settings.model.sensitivity,
        note_rule=run.settings.labels.note_rule,
    )
    return Prepared(data, EncoderWeights.of(stored.load_model(local)), run.manifest.width)


def _balanced_weights(labels: NDArray[np.generic]) -> NDArray[np.float32]:
    """(symptoms,) weights that make the classes count alike; in a multilabel task, reporting a symptom and not."""
    if labels.ndim == 1:
        return compute_class_weight("balanced", classes=np.unique(labels), y=labels).astype(np.float32)  # type: ignore[no-any-return]
    reported = np.maximum(labels.sum(axis=0), 1)
    return ((len(labels) - reported) / reported).astype(np.float32)  # type: ignore[no-any-return]
