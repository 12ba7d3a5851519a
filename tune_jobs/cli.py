"""The command line: launch, resume, status, evaluate, leaderboard, export, predict."""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from analysis.evaluate import evaluate
from analysis.export import export
from analysis.leaderboard import build_leaderboard, print_leaderboard, write_leaderboard
from analysis.predict import ExportedModel, label, rows_of_file, rows_of_lines, writer_to
from analysis.run import RESULTS, RUN_FILE, Run, open_run
from clinical_notes.errors import InputError
from clinical_notes.notes import NoteColumns
from clinical_notes.storage import Folder
from clinical_notes.synthetic import DEFAULT_PATIENTS
from tune_jobs.cluster import TrialResources, int8_overflows, local_problems
from tune_jobs.launch import Execution, search
from tune_jobs.ledger import Ledger
from tune_jobs.options import parser
from tune_jobs.prepare import Prepared, create_run, load_prepared, problems_before
from tune_jobs.progress import status_table
from tune_jobs.settings import EMBEDDED_SPACE, PROTOCOL_PAPER, SYNTHETIC, RunSettings, near, read_space

DEMO_LAYERS = 2
"""The embedded demonstration cuts its encoder to this depth, for speed."""

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for bad input, 130 when interrupted."""
    console = Console(width=None if sys.stdout.isatty() else 110)
    options = parser().parse_args(arguments)
    try:
        code = _COMMANDS[options.command](options, console)
    except InputError as error:
        for line in str(error).splitlines():
            print(f"symptune: error: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("symptune: interrupted", file=sys.stderr)
        return _INTERRUPTED
    return code


def _settings(options: argparse.Namespace) -> RunSettings:
    given = {name: value for name, value in vars(options).items() if value is not None}
    values: dict[str, Any] = dict(PROTOCOL_PAPER) if given.get("protocol") else {}
    values |= {name: given[name] for name in RunSettings.__dataclass_fields__ if name in given and name != "space"}
    for name in ("category", "absorb"):
        values[name] = tuple(values.get(name, ()))
    synthetic, embedded = values.get("notes", SYNTHETIC) == SYNTHETIC, "model" not in values
    if synthetic:
        values.setdefault("patients", DEFAULT_PATIENTS)
    if synthetic and embedded:
        values.setdefault("layers", DEMO_LAYERS)
    space = options.space or (EMBEDDED_SPACE if embedded else None)
    settings = RunSettings(**values, reduce_range=int8_overflows())
    return replace(settings, space=read_space(space, settings.strategies)) if space else settings


def _execution(options: argparse.Namespace) -> Execution:
    return Execution(
        resources=TrialResources(options.cpus_per_trial, options.gpus_per_trial),
        max_concurrent=options.max_concurrent,
        time_budget=options.time_budget,
        address=options.address,
        keep=max(options.keep, options.top),
        verbose=options.verbose,
    )


def _execution_problems(options: argparse.Namespace, execution: Execution) -> list[str]:
    resources = execution.resources
    problems = resources.problems() if execution.address else local_problems(resources)
    for name in ("max_concurrent", "time_budget", "keep", "top"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            problems.append(f"--{name.replace('_', '-')}: must be more than 0, got {value:g}")
    return problems


def _default_name(settings: RunSettings) -> str:
    digest = hashlib.sha256(json.dumps(settings.record(), sort_keys=True).encode()).hexdigest()
    return f"{settings.unit}-{digest[:8]}"


def _launch(options: argparse.Namespace, console: Console) -> int:
    execution = _execution(options)
    problems = _execution_problems(options, execution)
    if options.name is not None and not _is_plain_name(options.name):
        problems.append(f"--name: {options.name!r} is not a plain folder name (letters, digits, '.', '_', '-')")
    try:
        settings = _settings(options)
        problems += problems_before(settings)
        folder = Folder(options.storage).child(options.name or _default_name(settings))
        exists = folder.exists(RUN_FILE)
        if exists:
            problems += _differences(open_run(folder), settings)
    except InputError as error:
        problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
    if exists:
        prepared = load_prepared(folder)
    else:
        source = "synthetic notes" if settings.notes == SYNTHETIC else settings.notes
        console.print(f"Reading {source} …", highlight=False, soft_wrap=True)
        prepared = create_run(folder, settings, os.cpu_count() or 1)
    return _search_and_evaluate(folder, settings, prepared, execution, options, console)


def _is_plain_name(name: str) -> bool:
    return bool(name) and name[0] not in ".-" and all(c.isalnum() or c in "._-" for c in name)


def _differences(run: Run, settings: RunSettings) -> list[str]:
    """Why this launch is not the one that made the run, if so."""
    recorded, asked = RunSettings.from_record(dict(run.settings)).record(), settings.record()
    changed = [name for name in asked if asked[name] != recorded[name] and name != "reduce_range"]
    if not changed:
        return []
    differences = ", ".join(f"{name} {recorded[name]!r} → {asked[name]!r}" for name in changed)
    return [
        f"--name: run {run.folder.name} exists with other settings ({differences}); "
        f"continue it with `symptune resume {run.folder.name}`, or choose another name"
    ]


def _open(options: argparse.Namespace) -> Run:
    """The run named on the command line: under the storage, or a folder by itself."""
    storage = Folder(options.storage)
    if _is_plain_name(options.run) and storage.exists(f"{options.run}/{RUN_FILE}"):
        return open_run(storage.child(options.run))
    folder = Folder(options.run)
    if not folder.exists(RUN_FILE):
        known = [name for name in storage.names() if storage.exists(f"{name}/{RUN_FILE}")]
        there = f"runs there: {', '.join(known)}" if known else "there are none"
        raise InputError(f"RUN: no run {options.run!r} in {storage} ({there}); give a run's name or its folder")
    return open_run(folder)


def _resume(options: argparse.Namespace, console: Console) -> int:
    execution = _execution(options)
    problems = _execution_problems(options, execution)
    if problems:
        raise InputError("\n".join(problems))
    run = _open(options)
    settings = RunSettings.from_record(dict(run.settings))
    return _search_and_evaluate(run.folder, settings, load_prepared(run.folder), execution, options, console)


def _search_and_evaluate(
    folder: Folder,
    settings: RunSettings,
    prepared: Prepared,
    execution: Execution,
    options: argparse.Namespace,
    console: Console,
) -> int:
    run = open_run(folder)
    _introduce(run, console)
    try:
        ledger = search(folder, settings, prepared, execution, console)
    except KeyboardInterrupt:
        console.print(f"Stopped. Continue with: symptune resume {_run_argument(options, folder)}", soft_wrap=True)
        return _INTERRUPTED
    _show_status(ledger, settings, console, folder.name)
    if any(trial.state == "running" for trial in ledger.trials.values()):
        console.print(f"Time is up. Continue with: symptune resume {_run_argument(options, folder)}", soft_wrap=True)
    return _results(folder, options, console)


def _run_argument(options: argparse.Namespace, folder: Folder) -> str:
    return folder.name if options.storage == "runs" else f"{folder.name} --storage {options.storage}"


def _introduce(run: Run, console: Console) -> None:
    counts, patients = run.manifest["counts"], run.manifest["patients"]
    sizes = ", ".join(f"{split} {sum(counts[split].values()):,} ({patients[split]:,} patients)" for split in counts)
    console.print(f"Run {run.folder.name} in {run.folder}", highlight=False, soft_wrap=True)
    console.print(f"  examples: {sizes}", highlight=False, soft_wrap=True)
    each = ", ".join(f"{name} {counts['train'].get(name, 0):,}" for name in run.symptoms)
    console.print(f"  symptoms (training examples): {each}", highlight=False, soft_wrap=True)


def _show_status(ledger: Ledger, settings: RunSettings, console: Console, name: str) -> None:
    console.print(status_table(ledger.trials, settings.strategies, settings.trials, ledger.skipped, name))


def _results(folder: Folder, options: argparse.Namespace, console: Console) -> int:
    run = open_run(folder)
    if not any(trial.state == "finished" for trial in run.trials.values()):
        console.print("No trial has finished, so there is nothing to evaluate yet.")
        return 0
    evaluate(run, options.top)
    return _write_and_print(run, options.top, console)


def _write_and_print(run: Run, top: int, console: Console) -> int:
    leaderboard = build_leaderboard(run, top)
    write_leaderboard(run, leaderboard)
    print_leaderboard(leaderboard, console)
    console.print(f"Written to {run.folder}/{RESULTS}", highlight=False, soft_wrap=True)
    return 0


def _status(options: argparse.Namespace, console: Console) -> int:
    run = _open(options)
    _introduce(run, console)
    _show_status(Ledger(run.folder), RunSettings.from_record(dict(run.settings)), console, run.folder.name)
    return 0


def _evaluate(options: argparse.Namespace, console: Console) -> int:
    return _results(_open(options).folder, options, console)


def _leaderboard(options: argparse.Namespace, console: Console) -> int:
    return _write_and_print(_open(options), options.top, console)


def _export(options: argparse.Namespace, console: Console) -> int:
    run, to = _open(options), Path(options.to)
    name = _trial_to_export(run, options.strategy, options.trial)
    export(run, name, to)
    console.print(f"{name} is in {to}. Try: symptune predict {to} NOTES.csv", highlight=False, soft_wrap=True)
    return 0


def _trial_to_export(run: Run, strategy: str | None, trial: str | None) -> str:
    finished = {t.name: t for t in run.trials.values() if t.state == "finished"}
    if trial is not None:
        if trial not in run.trials:
            raise InputError(f"--trial: the run has no {trial!r}{near(trial, sorted(finished))}")
        if trial not in finished:
            raise InputError(
                f"--trial: {trial} {run.trials[trial].state}, so it left no model; see `symptune leaderboard`"
            )
        return trial
    if strategy is not None and strategy not in run.strategies:
        raise InputError(f"--strategy: the run has no {strategy!r}{near(strategy, run.strategies)}")
    wanted = [strategy] if strategy else run.strategies
    best = [found for name in wanted for found in run.best(name, 1)[:1]]
    if not best:
        raise InputError(f"{run.folder.name}: no trial of {', '.join(wanted)} has finished, so there is no model yet")
    return max(best, key=lambda t: (t.score, -t.final["bytes"])).name


def _predict(options: argparse.Namespace, console: Console) -> int:
    if options.threads < 1:
        raise InputError(f"--threads: must be at least 1, got {options.threads}")
    model = ExportedModel(options.model, options.threads)
    rows = (
        rows_of_lines(sys.stdin)
        if options.file == "-"
        else rows_of_file(options.file, NoteColumns(text=options.text_column))
    )
    with writer_to(options.out) as writer:
        summary = label(model, rows, writer, by_sentence=options.sentences)
    print(
        f"symptune: {summary.texts:,} texts labelled, {summary.empty:,} of them empty, "
        f"{summary.cut:,} longer than the {model.max_length} word pieces that the model reads",
        file=sys.stderr,
    )
    return 0


_COMMANDS: Mapping[str, Callable[[argparse.Namespace, Console], int]] = {
    "launch": _launch,
    "resume": _resume,
    "status": _status,
    "evaluate": _evaluate,
    "leaderboard": _leaderboard,
    "export": _export,
    "predict": _predict,
}
