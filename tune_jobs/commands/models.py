"""Commands about models: export and predict."""

import argparse
import io
import os
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from analysis.models.export import export as export_trial
from analysis.models.label_texts import (
    ENDINGS,
    ExportedModel,
    LabelFormat,
    label,
    rows_of_file,
    rows_of_lines,
    writer_to,
)
from clinical_notes.tables.columns import TEXTS_ALONE
from clinical_notes.tables.tally import Tally
from run_folder.errors import InputError, Problem, quoted
from run_folder.run import Run
from tune_jobs.check_settings import near
from tune_jobs.commands.find_run import opened
from tune_jobs.commands.new_file import new_file
from tune_jobs.commands.options import check_limits

_STATES = {"running": "has not finished", "stopped": "was stopped early", "failed": "failed"}


def export(options: argparse.Namespace, console: Console) -> int:
    run, to = opened(options), Path(options.to)
    try:
        to.exists()
    except OSError as error:
        raise InputError(
            Problem("to", f"{quoted(options.to)} cannot be made ({error.strerror})", "name another")
        ) from None
    name = _trial_to_export(run, options.strategy, options.trial)
    export_trial(run, name, to)
    console.print(f"{name} is in {to}. Try: symptune predict {to} NOTES.csv", highlight=False, soft_wrap=True)
    return 0


def _trial_to_export(run: Run, strategy: str | None, trial: str | None) -> str:
    finished = {t.name: t for t in run.trials.values() if t.state == "finished"}
    if trial is not None:
        if trial not in run.trials:
            raise InputError(Problem("trial", f"the run has no {trial!r}{near(trial, sorted(finished))}"))
        if trial not in finished:
            message = f"{trial} {_STATES[run.trials[trial].state]}, so it has no model"
            raise InputError(Problem("trial", message, "see `symptune leaderboard`"))
        return trial
    if strategy is not None and strategy not in run.strategies:
        raise InputError(Problem("strategy", f"the run has no {strategy!r}{near(strategy, run.strategies)}"))
    wanted = [strategy] if strategy else run.strategies
    best = [found for name in wanted for found in run.best(name, 1)[:1]]
    if not best:
        raise InputError(Problem("run", f"no trial of {', '.join(wanted)} has finished, so there is no model yet"))
    return max(best, key=lambda t: (t.score, -t.deployed.bytes)).name


def predict(options: argparse.Namespace, console: Console) -> int:
    check_limits(options)
    if options.id_column is not None and options.file == "-":
        raise InputError(Problem("id_column", "standard input has no columns", "omit it, or give a table"))
    if options.out and os.path.realpath(options.out) == os.path.realpath(options.file):
        raise InputError(Problem("out", f"{options.out} is the file to be read", "name another"))
    out = new_file(options.out, "out", ENDINGS, overwrite=options.overwrite) if options.out else None
    model = ExportedModel(options.model, options.threads or os.cpu_count() or 1)
    if model.overflows_here():
        print(
            "symptune: warning: this CPU has no VNNI, which the model's INT8 weights need: sums may overflow; "
            "export a model that was searched with --reduce-range",
            file=sys.stderr,
        )
    if options.unsure and model.thresholds is None:
        message = "the model names exactly one symptom of each text, and has no thresholds"
        raise InputError(Problem("unsure", message, "omit it, or export a model of a multilabel run"))
    tally = Tally()
    columns = replace(TEXTS_ALONE, text=options.text_column, id=options.id_column)
    rows = rows_of_lines(sys.stdin.buffer) if options.file == "-" else rows_of_file(options.file, columns, tally)
    form = LabelFormat(options.sentences, options.id_column, options.unsure)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # a table for programs, as in a file
    try:
        with writer_to(out) as writer:
            summary = label(model, rows, writer, form)
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    for line in tally.choices():
        print(f"symptune: {line}", file=sys.stderr)
    what = "sentences" if options.sentences else "texts"
    print(
        f"symptune: {summary.texts - summary.empty:,} {what} labelled, {summary.empty:,} empty, "
        f"{summary.cut:,} truncated at {model.max_length} tokens",
        file=sys.stderr,
    )
    for line in summary.warnings:
        print(f"symptune: warning: {line}", file=sys.stderr)
    return 0
