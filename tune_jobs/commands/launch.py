"""Commands that train: launch, resume, and evaluate, which may add seeds."""

import argparse
import dataclasses
import hashlib
import json
import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console

from analysis.evaluation.gold import read_labels
from analysis.paper.protocols import PROTOCOLS
from clinical_notes.synthetic import DEFAULT_PATIENTS
from run_folder.errors import InputError, Problem, SearchHaltedError
from run_folder.events import Extended
from run_folder.folder import Folder, refusing
from run_folder.ledger import Ledger
from run_folder.lock import only_process
from run_folder.logs import driver_log
from run_folder.names import LEDGER, RUN_FILE
from run_folder.run import Run, open_run
from run_folder.settings import NAMES, SYNTHETIC, RunSettings, SearchSettings
from trainables.parts.deployed import int8_overflows
from trainables.references import BASELINE, without_reference
from tune_jobs.check_settings import EMBEDDED_SPACE, read_space, run_settings
from tune_jobs.cluster.connection import cluster_problems, connected, local_problems
from tune_jobs.commands.find_run import (
    continue_without_lost_events,
    earlier_run,
    name_problems,
    opened,
    resume_line,
    writable_storage,
)
from tune_jobs.commands.options import AUTO, DEFAULT_SEEDS, check_limits, cluster_address, limit_problems
from tune_jobs.commands.results import Labelled, introduce, show_results, show_status
from tune_jobs.execution import AskedResources, Execution, TrialResources
from tune_jobs.preparing.create_run import (
    Prepared,
    changes_since,
    create_run,
    load_prepared,
    notes_are_small,
    problems_before,
    source_hashes,
    versions,
)
from tune_jobs.preparing.warm_start import warm_configurations
from tune_jobs.searching.dealer import to_continue
from tune_jobs.searching.forecast import forecast
from tune_jobs.searching.repetitions import missing_repetitions
from tune_jobs.searching.run_search import search
from tune_jobs.searching.study_storage import database_problems, shown_url
from tune_jobs.signals import INTERRUPTED, interruptible

_log = logging.getLogger(__name__)
_LOGGED = ("run_folder", "tune_jobs")
"""Packages whose messages are in the driver's log."""

_DEMONSTRATION_LINE = (
    "Demonstration: synthetic notes of {patients} patients, {trials} trials per strategy of {epochs} epochs. "
    "For your own notes: --notes TABLE, which has other defaults."
)
_RESOURCES = {option.name for option in dataclasses.fields(AskedResources)}

DEMO_LAYERS = 2
"""Layers of the encoder that runs on synthetic notes keep, for speed."""
DEMONSTRATION: Mapping[str, Any] = {
    "patients": 450,
    "split": (0.15, 0.1, 0.75),
    "layers": DEMO_LAYERS,
    "trials": 2,
    "epochs": 4,
    "cycles": 1,
}
"""Settings of a launch that asks for none: soon over, and with test patients enough for a verdict."""
TRIALS_OF_OWN_NOTES = 20
"""Trials per strategy by default where notes are given: TPE suggests after the first five."""


def _settings(options: argparse.Namespace) -> RunSettings:
    given = {name: value for name, value in vars(options).items() if value is not None}
    values: dict[str, Any] = dict(PROTOCOLS[options.protocol]) if options.protocol else {}
    if _asks_for_nothing(options):
        values |= DEMONSTRATION
    values |= {name: given[name] for names in NAMES.values() for name in names if name in given and name != "space"}
    for name in ("category", "absorb", "group_by"):
        values[name] = tuple(dict.fromkeys(values.get(name, ())))
    if options.notes is not None:  # one path is kept as itself, as in older runs
        values["notes"] = options.notes[0] if len(options.notes) == 1 else tuple(options.notes)
    if values.get("notes", SYNTHETIC) == SYNTHETIC:
        values.setdefault("patients", DEFAULT_PATIENTS)
        if "model" not in values:
            values.setdefault("layers", DEMO_LAYERS)
    else:
        values.setdefault("trials", TRIALS_OF_OWN_NOTES)
    values.setdefault("reduce_range", int8_overflows())
    return run_settings(**values)


def _asks_for_nothing(options: argparse.Namespace) -> bool:
    """Whether a launch is the demonstration: no setting of a run is given, but for the seed."""
    names = {name for of_part in NAMES.values() for name in of_part} - {"seed"}
    return options.protocol is None and all(getattr(options, name, None) is None for name in names)


def is_demonstration(settings: RunSettings) -> bool:
    """Whether a run has the settings of the demonstration."""
    record = settings.record()
    names = DEMONSTRATION.keys() - {"trials"}  # it may have been extended
    return settings.notes.is_synthetic and all(record[name] == DEMONSTRATION[name] for name in names)


def _with_seeds(execution: Execution, options: argparse.Namespace, settings: RunSettings) -> Execution:
    """With as many seeds as asked for, else as a run of these settings has by default."""
    if options.seeds is not None:
        return execution
    return replace(execution, seeds=1 if is_demonstration(settings) else DEFAULT_SEEDS)


def _with_space(settings: RunSettings, options: argparse.Namespace) -> RunSettings:
    """The settings with the space file asked for, or the one that goes with the embedded encoder."""
    space = options.space or (EMBEDDED_SPACE if options.model is None else None)
    return settings.changed(space=read_space(space, settings.search.strategies)) if space else settings


def _execution(options: argparse.Namespace) -> Execution:
    measured = options.gpus_per_trial == AUTO
    gpus = 0.0 if measured else options.gpus_per_trial
    fitted = options.cpus_per_trial == AUTO
    return Execution(
        resources=TrialResources(1.0 if fitted else options.cpus_per_trial, gpus),
        fit_cpus=fitted and not measured and not gpus,  # on a GPU a trial's memory is the GPU's
        measure_gpus=measured,
        max_concurrent=options.max_concurrent,
        time_budget=options.time_budget,
        epoch_limit=options.epoch_limit,
        address=cluster_address(options),
        keep=max(options.keep, options.top),
        verbose=options.verbose,
        log_level=options.log_level,
        retry_failed=getattr(options, "retry_failed", False),
        train_to=options.epochs if options.command == "resume" else None,
        seeds=options.seeds or DEFAULT_SEEDS,
        only_seeds=options.command == "evaluate",
        optuna_storage=options.optuna_storage,
    )


def _execution_problems(options: argparse.Namespace, execution: Execution) -> list[Problem]:
    problems = limit_problems(options)
    if not execution.address:
        problems += local_problems(execution.resources, [problem.field for problem in problems])
    return problems + database_problems(execution.optuna_storage)


def _cluster_problems(execution: Execution, found: Sequence[Problem]) -> list[Problem]:
    """What an existing cluster lacks; it has to be joined for that, so this is the last thing to look at."""
    if execution.address is None or any(problem.field in _RESOURCES for problem in found):
        return []
    return cluster_problems(execution.address, execution.resources, execution.verbose, growing=execution.growing)


def _default_name(settings: RunSettings, options: argparse.Namespace) -> str:
    """Made from what was asked for: the same command has the same name on any machine."""
    record = settings.record() | {"reduce_range": options.reduce_range}
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    return f"{settings.labels.unit}-{digest[:8]}"


def launch(options: argparse.Namespace, console: Console) -> int:
    execution = _execution(options)
    problems = _execution_problems(options, execution)
    if wrong_name := name_problems(options.name):
        problems += wrong_name
        options.name = None
    if options.patients is not None and options.notes is not None:
        problems.append(Problem("patients", "is for synthetic notes", "leave it out where --notes is given"))
    settings = _settings(options)
    try:
        settings = _with_space(settings, options)
    except InputError as error:
        problems += error.problems
    problems += problems_before(settings, problems, continues_run=_continues_run(settings, options))
    exists = False
    try:
        storage = writable_storage(options)
        options.name = options.name or _default_name(settings, options)
        folder = storage.child(options.name)
        with refusing("storage"):
            exists = folder.exists(RUN_FILE)
            if exists:
                run = open_run(folder)
                settings = settings.changed(**_left_to_the_run(run, options))
                settings = settings.changed(warm_configurations=run.settings.search.warm_configurations)
                command = resume_line(folder, options.storage)
                problems += _differences(run, settings, command, with_files=not problems)
        if options.warm_start is not None:
            settings = _warmed(settings, options.warm_start, storage, folder, exists)
    except InputError as error:
        problems += error.problems
    problems += _cluster_problems(execution, problems)
    if problems:
        raise InputError(*problems)
    execution = _with_seeds(execution, options, settings)
    if is_demonstration(settings):
        console.print(_DEMONSTRATION_LINE.format(**DEMONSTRATION), markup=False, highlight=False, soft_wrap=True)
    if exists:
        settings = settings.changed(trials=run.settings.search.trials)  # it may have been extended
        with refusing("storage"):
            prepared = load_prepared(folder)
    else:
        source = ", ".join(settings.notes.paths) or "synthetic notes"
        console.print(f"Reading {source} …", markup=False, highlight=False, soft_wrap=True)
        with refusing("storage"), only_process(folder):
            _check_still_new(folder)
            folder.discard_unfinished()
            prepared = _create(folder, settings, execution, console)
    return _search_and_evaluate(folder, settings, prepared, execution, options, console)


_LEFT_TO_THE_RUN = ("reduce_range", "trials", "cycles", "patience", "at_most")
"""Settings whose defaults depend on the CPU, or were others in earlier versions."""


def _left_to_the_run(run: Run, options: argparse.Namespace) -> dict[str, Any]:
    """What a run that exists was created with, where the command says nothing of it."""
    recorded = run.settings.record()
    return {name: recorded[name] for name in _LEFT_TO_THE_RUN if getattr(options, name) is None}


def _continues_run(settings: RunSettings, options: argparse.Namespace) -> bool:
    try:
        name = options.name or _default_name(settings, options)
        return writable_storage(options).child(name).exists(RUN_FILE)
    except (InputError, OSError):  # which is told later
        return False


def _warmed(settings: RunSettings, start: str, storage: Folder, folder: Folder, exists: bool) -> RunSettings:
    """With the earlier run's configurations; a run that exists has its own already, and needs the earlier one no more.

    Raises:
        InputError: as ``earlier_run`` and ``warm_configurations``, or the run names itself.
    """
    if start == folder.name:
        raise InputError(Problem("warm_start", f"{start} is the run itself", "name an earlier one"))
    if exists:
        return settings
    earlier = earlier_run(storage, start)
    return settings.changed(warm_configurations=warm_configurations(earlier, settings.search))


def _check_still_new(folder: Folder) -> None:
    """Raises: InputError: the folder has become a run since it was looked at, or is what is left of one."""
    if folder.exists(RUN_FILE):
        raise InputError(Problem("name", f"another process has just created {folder.name}", "run this again"))
    if folder.names(LEDGER):
        message = f"{folder} has a {LEDGER}/ and no {RUN_FILE}"
        raise InputError(Problem("name", message, "restore it from a copy of the run, or choose another name"))


def _create(folder: Folder, settings: RunSettings, execution: Execution, console: Console) -> Prepared:
    def tell(line: str) -> None:
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)

    if execution.address is None or notes_are_small(settings.notes):
        return create_run(folder, settings, os.cpu_count() or 1, tell=tell)
    with connected(execution.address, execution.verbose), interruptible():  # in this order, as in a search
        return create_run(folder, settings, 1, on_cluster=True, tell=tell)


def _differences(run: Run, settings: RunSettings, resume_command: str, *, with_files: bool) -> list[Problem]:
    """Why this launch does not continue the run, if so."""
    recorded, asked = RunSettings.of_run(run.manifest.settings).record(), settings.record()
    changed = [name for name in asked if asked[name] != recorded[name]]
    if changed:
        differences = ", ".join(f"{name} {recorded[name]!r} → {asked[name]!r}" for name in changed)
        message = f"run {run.folder.name} exists with other settings ({differences})"
        return [Problem("name", message, f"continue it with `{resume_command}`, or choose another name")]
    if not with_files:
        return []
    moved = [name for name, digest in source_hashes(settings).items() if digest != run.manifest.sources[name]]
    if moved:
        message = f"the file has changed since run {run.folder.name} was created"
        return [Problem(name, message, "choose another --name") for name in moved]
    return _changes(run, f"restore them, or continue with `{resume_command} --force`")


def resume(options: argparse.Namespace, console: Console) -> int:
    check_limits(options)
    if options.force and not options.dry_run:
        continue_without_lost_events(options)
    run = opened(options)  # before the database is: a look at a new one makes it
    execution = _with_seeds(_execution(options), options, run.settings)
    problems = _execution_problems(options, execution)
    with refusing("run"):
        changes = [] if options.force else _changes(run, "restore them, or continue with --force")
    settings = run.settings
    budget = settings.search
    if options.trials is not None and options.trials < budget.trials:
        problems.append(Problem("trials", f"the run has {budget.trials} per strategy and can only be extended"))
    if options.epochs is not None and options.epochs <= budget.epochs:
        message = f"the run's trials have {budget.epochs}"
        problems.append(Problem("epochs", message, "give more to train the best ones for longer"))
    problems += changes
    problems += _cluster_problems(execution, problems)
    if problems:
        raise InputError(*problems)
    settings = settings.changed(trials=options.trials or budget.trials)
    if options.dry_run:
        introduce(run, console, options.margin)
        _print_plan(run, settings.search, execution, console)
        return 0
    with refusing("run"):
        prepared = load_prepared(run.folder)
    return _search_and_evaluate(run.folder, settings, prepared, execution, options, console)


def evaluate(options: argparse.Namespace, console: Console) -> int:
    check_limits(options)
    execution = _execution(options)
    problems = _execution_problems(options, execution)
    run = opened(options)
    execution = _with_seeds(execution, options, run.settings)
    with refusing("run"):
        run.check_files()
    settings = run.settings
    missing = [] if problems else missing_repetitions(Ledger(run.folder), settings.search.strategies, execution.seeds)
    if missing:
        problems += _cluster_problems(execution, problems)
    if problems:
        raise InputError(*problems)
    gold = None if options.gold is None else Labelled(os.path.basename(options.gold), read_labels(run, options.gold))
    if not missing:
        with only_process(run.folder):
            run.folder.discard_unfinished()
            return show_results(run.folder, options, console, gold)
    with refusing("run"):
        prepared = load_prepared(run.folder)
    return _search_and_evaluate(run.folder, settings, prepared, execution, options, console, gold)


def _changes(run: Run, fix: str) -> list[Problem]:
    changes = changes_since(run)
    message = f"data, model or versions have changed since {run.folder.name} was created ({', '.join(changes)})"
    return [Problem("run", message, fix)] if changes else []


def _print_plan(run: Run, settings: SearchSettings, execution: Execution, console: Console) -> None:
    """One line: what a resume keeps, continues, runs again and adds."""
    ledger = Ledger(run.folder)
    running = [trial for trial in ledger.trials.values() if trial.state == "running"]
    parts = [f"{len(ledger.trials) - len(running)} trials ended and are kept"]
    if running:
        parts.append("continued: " + ", ".join(f"{trial.name}, {len(trial.epochs)} epochs known" for trial in running))
    if execution.retry_failed:
        parts.append("run again: " + (", ".join(trial.name for trial in ledger.to_retry()) or "none"))
    if execution.train_to:
        longer = to_continue(ledger, settings.strategies, execution.train_to)
        parts.append(
            f"trained for longer, to {execution.train_to} epochs: " + (", ".join(t.name for t in longer) or "none")
        )
        if lacking := without_reference(ledger.trials, longer, execution.train_to):
            parts.append(
                f"of these no verdict, since no baseline will have been trained for as long: {', '.join(lacking)}"
            )
    new = sum(max(settings.trials - ledger.asked(strategy), 0) for strategy in settings.strategies)
    parts.append(f"new: {new}")
    if BASELINE in settings.strategies and settings.cycles and ledger.teacher is None:
        parts.append(f"further cycles of the best baseline: at most {settings.cycles + 1}")
    if execution.seeds > 1:
        parts.append(f"then each strategy's best with {execution.seeds} seeds")
    console.print(f"  {'; '.join(parts)}", highlight=False, soft_wrap=True, markup=False)


def _log_start(options: argparse.Namespace) -> None:
    """What was asked for, and with which versions; a database's URL may hold a password."""
    hidden = {"command", "optuna_storage"}
    given = ", ".join(f"{name} {value}" for name, value in vars(options).items() if value and name not in hidden)
    _log.info("%s: %s", options.command, given)
    _log.info("versions: %s", ", ".join(f"{name} {version}" for name, version in versions().items()))


def _search_and_evaluate(
    folder: Folder,
    settings: RunSettings,
    prepared: Prepared,
    execution: Execution,
    options: argparse.Namespace,
    console: Console,
    gold: Labelled | None = None,
) -> int:
    run = open_run(folder)
    introduce(run, console, options.margin)
    if run.trials and not execution.only_seeds:
        _print_plan(run, settings.search, execution, console)
    if not execution.only_seeds and (found := forecast(prepared, settings.search, Ledger(folder), execution)):
        console.print(f"  {found.in_words()}", highlight=False, soft_wrap=True)
    again = resume_line(folder, options.storage, "evaluate" if execution.only_seeds else "resume")
    if execution.optuna_storage is not None:
        again += f" --optuna-storage {shlex.quote(shown_url(execution.optuna_storage))}"
    with only_process(folder), driver_log(folder, execution.log_level, _LOGGED):
        _log_start(options)
        folder.discard_unfinished()
        if settings.search.trials != run.settings.search.trials:
            Ledger(folder).append(Extended(settings.search.trials))
        try:
            ledger = search(folder, settings, prepared, execution, console)
        except KeyboardInterrupt:
            _log.info("stopped by the user")
            console.print(f"Stopped. Continue with: {again}", markup=False, soft_wrap=True)
            return INTERRUPTED
        except SearchHaltedError as halt:
            _log.error("stopped: %s", halt)
            raise SearchHaltedError(f"{halt}. Fix this, then run: {again}") from None
        _log.info("the search has ended")
        show_status(ledger, settings.search, console, folder.name)
        if any(trial.state == "running" for trial in ledger.trials.values()) and not execution.only_seeds:
            console.print(f"Time is up. Continue with: {again}", markup=False, soft_wrap=True)
        return show_results(folder, options, console, gold)
