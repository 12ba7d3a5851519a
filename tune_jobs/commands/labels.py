"""The command that audits labels."""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.labels.audit import Audit, GoldText, audit, folded, read_gold
from analysis.labels.label_sheet import blank_sheet, sample_sentences
from analysis.text_tables import csv_text
from clinical_notes.labellers import labeller_of
from clinical_notes.lexicon import LabelNames, Lexicon, read_lexicon
from clinical_notes.notes import read_notes
from clinical_notes.tables.columns import DEFAULT, NoteColumns
from clinical_notes.tables.tally import Tally
from run_folder.errors import InputError, Problem
from run_folder.folder import Folder
from run_folder.settings import NO_PATIENTS, STATUSES
from tune_jobs.commands.new_file import new_file
from tune_jobs.commands.options import check_limits

_FIGURES = {"precision": "precision", "recall": "recall", "f1": "F1"}


def audit_labels(options: argparse.Namespace, console: Console) -> int:
    check_limits(options)
    if (options.labelled is None) == (options.export_sample is None):
        raise InputError(Problem("labelled", "give either this file, or --export-sample N with --notes and --out"))
    for name in ("notes", "key", "seed", "text_column", "patient_column"):
        if options.labelled is not None and getattr(options, name) is not None:
            raise InputError(Problem(name, "is for --export-sample", "leave it out where GOLD is given"))
    lexicon = read_lexicon(options.lexicon, options.absorb)
    if options.export_sample is not None:
        return _export(options, lexicon, console)
    _check_files(options, (".csv", ".json"), [options.labelled])
    gold = read_gold(options.labelled, LabelNames(lexicon, options.absorb))
    named = _named(gold)
    merges = {} if options.absorb or options.keep_apart else folded(lexicon, named)
    for wide, narrow in merges.items():
        verb = "counts" if len(narrow) == 1 else "count"
        console.print(
            f"{options.labelled} names {wide} alone, so {', '.join(narrow)} {verb} as {wide} (not with --keep-apart)",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
    symptoms = _known(options.symptoms, lexicon) if options.symptoms else named
    lexicon = lexicon.absorb(merges)
    result = audit(gold, lexicon, symptoms, labeller_of(options.labeller, lexicon))
    _print(result, gold, options, console)
    if options.out:
        _write(Path(options.out), result)
        console.print(f"Written to {options.out}", markup=False, highlight=False, soft_wrap=True)
    return 0


def _named(gold: Sequence[GoldText]) -> tuple[str, ...]:
    return tuple(sorted({concept for text in gold for concepts in text.labels.values() for concept in concepts}))


def _known(names: Sequence[str], lexicon: Lexicon) -> tuple[str, ...]:
    concepts = []
    for name in names:
        concept = lexicon.concept_of(name)
        if concept is None:
            raise InputError(lexicon.missing("symptoms", name))
        concepts.append(concept)
    return tuple(dict.fromkeys(concepts))


def _check_files(options: argparse.Namespace, endings: Sequence[str], read: Sequence[str]) -> None:
    """Raises: InputError: a file cannot be written, or is one that is read or written otherwise."""
    taken = set(map(os.path.realpath, read))
    for field in ("out", "key"):
        name = getattr(options, field)
        if name is None:
            continue
        if os.path.realpath(name) in taken:
            raise InputError(Problem(field, f"{name} is the file of another option", "name another"))
        taken.add(os.path.realpath(new_file(name, field, endings, overwrite=options.overwrite)))


def _print(result: Audit, gold: Sequence[GoldText], options: argparse.Namespace, console: Console) -> None:
    table = Table(
        title=f"Labeller {escape(options.labeller)} against {result.texts:,} labelled texts (95 % limits)",
        title_justify="left", box=SIMPLE_HEAD, padding=(0, 1), title_style="bold",
    )  # fmt: skip
    for name in ("status", "concept"):
        table.add_column(name, no_wrap=True)
    for name in ("tp", "fp", "fn", *_FIGURES.values()):
        table.add_column(name, justify="right", no_wrap=True)
    for row in result.scores.to_dict("records"):
        figures = (_with_limits(row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in _FIGURES)
        table.add_row(row["status"], row["concept"], *(f"{row[name]:,}" for name in ("tp", "fp", "fn")), *figures)
    console.print(table)
    for concept, others in result.elsewhere.items():
        rule = f'--absorb "{concept}={",".join(others)}"'
        console.print(
            f"The rules read some labels of {concept} as {', '.join(others)}; {rule} counts them as {concept}",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
    for hint in result.parents:
        console.print(
            f"Of {hint.texts} texts with {hint.concept} and without {hint.parent}, people label {hint.labelled} "
            f"{hint.parent}; 'parents: [{hint.parent}]' of {hint.concept} in a --lexicon counts it so too",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
    _print_mistakes(result, gold, options.show_errors, console)


def _with_limits(value: float, low: float, high: float) -> str:
    return "–" if pd.isna(value) else escape(f"{value:.3f} [{low:.3f}, {high:.3f}]")


def _print_mistakes(result: Audit, gold: Sequence[GoldText], with_text: bool, console: Console) -> None:
    rows = list(dict.fromkeys(mistake.row for mistake in result.mistakes))
    if not rows:
        console.print("Rules and labels agree on every text.")
        return
    if not with_text:
        listed = ", ".join(map(str, rows[:30])) + (", …" if len(rows) > 30 else "")
        line = f"Rules and labels differ on rows {listed}. --show-errors prints their texts, which may be private."
        console.print(line, highlight=False, soft_wrap=True)
        return
    texts = {text.row: text.text for text in gold}
    for mistake in result.mistakes:
        labelled, found = (" and ".join(statuses) or "nothing" for statuses in (mistake.labelled, mistake.found))
        line = f"row {mistake.row}: {mistake.concept}: labelled {labelled}, found {found}: {texts[mistake.row]}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _write(path: Path, result: Audit) -> None:
    if path.suffix == ".csv":
        content = csv_text(result.scores)
    else:
        scores = result.scores.astype(object).where(result.scores.notna(), None).to_dict("records")
        mistakes = [vars(mistake) for mistake in result.mistakes]
        content = json.dumps({"texts": result.texts, "scores": scores, "mistakes": mistakes}, indent=2, allow_nan=False)
    Folder(path.absolute().parent).write(path.name, content.encode(), private=True)


def _export(options: argparse.Namespace, lexicon: Lexicon, console: Console) -> int:
    for name in ("notes", "out"):
        if getattr(options, name) is None:
            raise InputError(Problem(name, "needed with --export-sample"))
    _check_files(options, (".tsv", ".csv"), options.notes)
    text, patient = options.text_column or DEFAULT.text, options.patient_column or DEFAULT.patient
    columns = NoteColumns(text, None if patient == NO_PATIENTS else patient, without_patients=True)
    tally = Tally()
    notes = read_notes(options.notes, columns=columns, tally=tally)
    symptoms = _known(options.symptoms or (), lexicon)
    labeller = labeller_of(options.labeller, lexicon)
    sample, symptoms = sample_sentences(notes, labeller, symptoms, options.export_sample, options.seed or 0)
    for line in tally.choices():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if tally.alone:
        line = f"{tally.alone:,} notes have no patient (--patient-column), and each counts as one"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    _write_sheet(Path(options.out), blank_sheet(list(sample["text"]), list(sample["patient"]), symptoms))
    if options.key:
        key = sample[list(STATUSES)].copy()
        key.insert(0, "row", range(1, len(key) + 1))
        _write_sheet(Path(options.key), key)
    console.print(
        f"{options.out}: {len(sample):,} sentences to label. It holds note text: keep it where the notes may be kept.\n"
        f"Then: symptune audit-labels {options.out}",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


def _write_sheet(path: Path, sheet: pd.DataFrame) -> None:
    content = csv_text(sheet, separator="\t" if path.suffix == ".tsv" else ",")
    Folder(path.absolute().parent).write(path.name, content.encode(), private=True)
