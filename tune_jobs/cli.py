"""The command line: launch, resume, status, evaluate, leaderboard."""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console

from analysis.evaluate import evaluate
from analysis.leaderboard import build_leaderboard, print_leaderboard, write_leaderboard
from analysis.run import RESULTS, RUN_FILE, Run, open_run
from clinical_notes.errors import InputError
from clinical_notes.storage import Folder
from clinical_notes.synthetic import DEFAULT_PATIENTS
from search_spaces import STRATEGIES
from tune_jobs.cluster import TrialResources, int8_overflows, local_problems
from tune_jobs.launch import Execution, search
from tune_jobs.ledger import Ledger
from tune_jobs.prepare import Prepared, create_run, load_prepared, problems_before
from tune_jobs.progress import status_table
from tune_jobs.settings import EMBEDDED_SPACE, PROTOCOL_PAPER, SYNTHETIC, RunSettings, read_space

DEMO_LAYERS = 2
"""The embedded demonstration cuts its encoder to this depth, for speed."""

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for bad input, 130 when interrupted."""
    console = Console(width=None if sys.stdout.isatty() else 110)
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options, console)
    except InputError as error:
        for line in str(error).splitlines():
            print(f"symptune: error: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("symptune: interrupted", file=sys.stderr)
        return _INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="symptune",
        description="Find the best way to compress a clinical language model for symptom classification.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    launch = commands.add_parser("launch", help="start a search, or continue the one that this very line started")
    _add_notes_options(launch)
    _add_model_options(launch)
    _add_search_options(launch)
    _add_execution_options(launch)
    launch.set_defaults(command=_launch)

    resume = commands.add_parser("resume", help="continue an interrupted search")
    resume.add_argument("run", metavar="RUN", help="the run's name or folder")
    _add_execution_options(resume)
    resume.set_defaults(command=_resume)

    for name, command, text in (
        ("status", _status, "how a run stands"),
        ("evaluate", _evaluate, "re-evaluate the best trials on the test set"),
        ("leaderboard", _leaderboard, "print and write the tables of what has been evaluated"),
    ):
        parser_of = commands.add_parser(name, help=text)
        parser_of.add_argument("run", metavar="RUN", help="the run's name or folder")
        _add_storage_option(parser_of)
        if name != "status":
            _add_top_option(parser_of)
        parser_of.set_defaults(command=command)
    return parser


def _fractions(text: str) -> tuple[float, ...]:
    parts = tuple(float(part) for part in text.split(","))
    if len(parts) != 3:
        raise argparse.ArgumentTypeError("give three fractions: train,validation,test")
    return parts


def _symptoms(text: str) -> int | tuple[str, ...]:
    return int(text) if text.isdigit() else _names(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _add_notes_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("notes")
    group.add_argument(
        "--notes", metavar="FILE", help="NOTEEVENTS as .csv, .csv.gz or .parquet (default: synthetic notes)"
    )
    group.add_argument("--patients", metavar="N", type=int, help=f"synthetic patients (default {DEFAULT_PATIENTS})")
    group.add_argument("--text-column", metavar="NAME", help="default TEXT")
    group.add_argument(
        "--patient-column", metavar="NAME", help="default SUBJECT_ID; without it every note is a patient of its own"
    )
    group.add_argument("--category-column", metavar="NAME", help="default CATEGORY")
    group.add_argument("--sample", type=float, metavar="FRACTION", help="draw this fraction of the notes by the seed")
    group.add_argument("--category", metavar="TYPE", action="append", help="only notes of this type; repeatable")
    group = parser.add_argument_group("examples")
    group.add_argument("--protocol", choices=["paper"], help="the author's run; single options still override it")
    group.add_argument("--unit", choices=["note", "sentence"], help="what one example is (default sentence)")
    group.add_argument(
        "--window-chars", metavar="N", type=int, help="characters of a note that are read (default 1000)"
    )
    group.add_argument(
        "--symptoms", type=_symptoms, metavar="K|NAMES", help="the K most frequent, or names (default 5)"
    )
    group.add_argument("--mentions", choices=["keep", "mask"], help="whether texts keep the symptom's name")
    group.add_argument("--negated", choices=["drop", "keep"], help="whether negated mentions count (default drop)")
    group.add_argument("--lexicon", metavar="FILE", help="symptom concepts and their surface forms, in YAML")
    group.add_argument(
        "--absorb",
        action="append",
        metavar="RULE",
        help='concepts merged into one: "pain=chest pain,back pain"; repeatable',
    )
    group.add_argument("--balance", action="store_true", default=None, help="cut classes down to the rarest one's size")
    group.add_argument("--split", type=_fractions, metavar="A,B,C", help="train,validation,test (default 0.7,0.1,0.2)")


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="NAME|FOLDER",
        help="hub name or folder of a BERT-type encoder (default: the embedded MiniLM)",
    )
    group.add_argument("--layers", metavar="N", type=int, help="cut the encoder to its first layers")
    group.add_argument("--max-length", metavar="N", type=int, help="word pieces of a text that are read (default 128)")
    group.add_argument("--class-weights", choices=["none", "balanced"], help="of the cross-entropy (default none)")


def _add_search_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("search")
    group.add_argument("--strategies", type=_names, metavar="NAMES", help=f"default {','.join(STRATEGIES)}")
    group.add_argument("--trials", metavar="N", type=int, help="per strategy (default 4)")
    group.add_argument("--epochs", metavar="N", type=int, help="per trial (default 5)")
    group.add_argument(
        "--reduction-factor", metavar="N", type=int, help="ASHA keeps 1 in so many at a rung; 0 stops none (default 2)"
    )
    group.add_argument("--space", metavar="FILE", help="narrow or fix parameters, in YAML")
    group.add_argument("--seed", metavar="N", type=int, help="of sample, split, suggestions and training (default 0)")
    group.add_argument("--name", metavar="NAME", help="of the run (default: made of its settings)")


def _add_execution_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("execution")
    group.add_argument(
        "--cpus-per-trial", metavar="N", type=float, default=1.0, help="fractions share a core (default 1)"
    )
    group.add_argument(
        "--gpus-per-trial", metavar="N", type=float, default=0.0, help="fractions share a GPU (default 0)"
    )
    group.add_argument(
        "--max-concurrent", metavar="N", type=int, help="trials at once (default: as many as the cluster holds)"
    )
    group.add_argument("--time-budget", type=float, metavar="SECONDS", help="stop searching then, and evaluate")
    group.add_argument(
        "--address", metavar="ADDRESS", help="of an existing Ray cluster, or auto (default: start one here)"
    )
    group.add_argument("--keep", metavar="N", type=int, default=3, help="finished models kept per strategy (default 3)")
    group.add_argument("--verbose", action="store_true", help="show Ray's own output")
    _add_storage_option(parser)
    _add_top_option(parser)


def _add_storage_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--storage", metavar="FOLDER|URI", default="runs", help="folder or URI that holds the runs (default ./runs)"
    )


def _add_top_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--top", metavar="N", type=int, default=1, help="best trials of each strategy to evaluate (default 1)"
    )


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
