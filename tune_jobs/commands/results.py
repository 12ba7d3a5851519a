"""Commands that show what a search found: status, leaderboard and report."""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from analysis.evaluation.evaluate import evaluate as evaluate_run
from analysis.evaluation.front import Cost, preferred, wished, write_fronts
from analysis.evaluation.gold import evaluate_gold, print_gold
from analysis.evaluation.leaderboard import build_leaderboard, print_leaderboard, write_leaderboard
from analysis.evaluation.predictions import TEST
from analysis.evaluation.robustness import print_robustness
from analysis.evaluation.run_statistics import margin_of, write_statistics
from analysis.evaluation.search_insight import write_insight
from analysis.evaluation.wishes import Wishes
from analysis.labels.audit import GoldText
from analysis.report.findings import read_findings
from analysis.report.recommend import recommend
from analysis.statistics.power import SHARES, patients_needed
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from run_folder.names import RESULTS
from run_folder.run import Run, open_run
from run_folder.settings import SearchSettings
from tune_jobs.commands.find_run import opened
from tune_jobs.commands.options import check_limits
from tune_jobs.searching.progress import status_table


def introduce(run: Run, console: Console, margin: float | None = None) -> None:
    """What a run is made of, and what its test set can show.

    Args:
        margin: of macro F1; None: as last given, or the default.
    """
    counts, patients = run.manifest.counts, run.manifest.patients
    examples, notes = run.examples_by_split, run.manifest.notes
    each_split = {s: f"{notes[s]:,} in {n:,} windows" if notes else f"{n:,}" for s, n in examples.items()}
    sizes = ", ".join(f"{split} {each_split[split]} ({patients[split]:,} patients)" for split in counts)
    console.print(f"Run {run.folder.name} in {run.folder}", highlight=False, soft_wrap=True)
    console.print(f"  {'note' if notes else run.example_word}s: {sizes}", highlight=False, soft_wrap=True)
    each = ", ".join(f"{name} {counts['train'].get(name, 0):,}" for name in run.symptoms)
    console.print(f"  symptoms (training {run.example_word}s): {each}", highlight=False, soft_wrap=True)
    if run.is_multilabel:
        line = f"  each {run.example_word} reports none, one or several of them"
        if run.settings.labels.in_windows:
            line += "; a note is read in windows, and figures are of whole notes"
        console.print(line, highlight=False, soft_wrap=True)
    if choice := run.manifest.choice:
        fix = "" if choice.is_firm else " (--symptoms NAMES fixes them)"
        console.print(f"  choice of symptoms: {choice.in_words()}{fix}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"  {power_line(run, margin_of(run) if margin is None else margin)}", highlight=False, soft_wrap=True)
    if run.settings.search.warm_start:
        count = sum(map(len, run.settings.search.warm_configurations.values()))
        line = f"  warm start from {run.settings.search.warm_start}: {count} configuration{'s' * (count != 1)}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if run.held_back:
        forms = "; ".join(f"{name}: {', '.join(forms) or 'none'}" for name, forms in run.held_back.items())
        console.print(f"  forms held back from training: {forms}", markup=False, highlight=False, soft_wrap=True)


def power_line(run: Run, margin: float) -> str:
    """How many test patients it takes to show that a model is no worse, and how many there are."""
    patients, counts = run.manifest.patients[TEST], run.manifest.counts[TEST]
    there = f"test patients: {patients:,}"
    if not all(counts.get(name) for name in run.symptoms):
        return f"{there}; some symptom is in none of their {run.example_word}s, so that little can be shown"
    each = [counts[name] / patients for name in run.symptoms]
    needed = [patients_needed(each, share, margin, one_each=not run.is_multilabel) for share in SHARES]
    few, many = (f"at least {number:,}" for number in needed)
    line = (
        f"{there}; to show that a model is no worse by more than {margin:g} macro F1 takes {few} if it changes "
        f"{SHARES[0]:.0%} of the answers, {many} if {SHARES[1]:.0%}"
    )
    advice = "; for more: more notes, a larger test part in --split, or a larger --margin"
    return line + (advice if patients < needed[0] else "")


def show_status(ledger: Ledger, settings: SearchSettings, console: Console, name: str) -> None:
    console.print(status_table(ledger.trials, settings.strategies, settings.trials, ledger.skipped, name))


@dataclass(frozen=True)
class Labelled:
    """Texts with people's labels, and the name of their table."""

    table: str
    texts: Sequence[GoldText]


def show_results(folder: Folder, options: argparse.Namespace, console: Console, gold: Labelled | None = None) -> int:
    run = open_run(folder)
    if not any(trial.state == "finished" for trial in run.trials.values()):
        console.print("No trial has finished, so there is nothing to evaluate yet.")
        for strategy, reason in build_leaderboard(run, options.top).without.items():
            console.print(f"{strategy}: no model ({reason})", markup=False, highlight=False, soft_wrap=True)
        _write_report(run, console)
        return 0 if any(trial.state == "running" for trial in run.trials.values()) else 1
    evaluate_run(
        run,
        options.top,
        _margin(run, options),
        options.smallest_group,
        _preferred(run, options),
        _wished(run, options),
    )
    judged = evaluate_gold(run, gold.texts, gold.table) if gold else None
    code = _write_and_print(run, options.top, console)
    if judged:
        print_gold(judged, console)
    _write_report(run, console)
    _print_recommendation(run, console)
    return code


def _margin(run: Run, options: argparse.Namespace) -> float:
    """As asked for, else as it was."""
    return margin_of(run) if options.margin is None else float(options.margin)


def _preferred(run: Run, options: argparse.Namespace) -> Cost:
    """As asked for, else as it was."""
    if options.prefer is None and (options.faster is not None or options.latency is not None):
        return "latency"
    return preferred(run) if options.prefer is None else options.prefer


def _wished(run: Run, options: argparse.Namespace) -> Wishes:
    """Each as asked for, else as it was."""
    given = {wish.name: getattr(options, wish.name) for wish in dataclasses.fields(Wishes)}
    return dataclasses.replace(wished(run), **{name: wish for name, wish in given.items() if wish is not None})


def _write_and_print(run: Run, top: int, console: Console) -> int:
    tables = build_leaderboard(run, top)
    write_leaderboard(run, tables)
    write_insight(run)
    print_leaderboard(tables, console)
    print_robustness(run, console)
    console.print(f"Written to {run.folder.child(RESULTS)}", highlight=False, soft_wrap=True)
    return 0


def _print_recommendation(run: Run, console: Console) -> None:
    """What to take, in a sentence, and the line that exports it."""
    found = recommend(read_findings(run))
    if found is None:
        return
    for line in (
        "",
        f"Recommended: {found.trial.name}. {found.why}",
        *([found.mind] if found.mind else []),
        found.line,
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _write_report(run: Run, console: Console) -> None:
    from analysis.report.build import write_report  # importing Matplotlib takes a second

    page = write_report(run)
    console.print(f"Report: {run.folder.child(page)}", highlight=False, soft_wrap=True)


def status(options: argparse.Namespace, console: Console) -> int:
    run = opened(options)
    introduce(run, console)
    show_status(Ledger(run.folder), run.settings.search, console, run.folder.name)
    return 0


def leaderboard(options: argparse.Namespace, console: Console) -> int:
    check_limits(options)
    run = opened(options)
    write_statistics(run, _margin(run, options))
    write_fronts(run, _margin(run, options), _preferred(run, options), _wished(run, options))
    code = _write_and_print(run, options.top, console)
    _write_report(run, console)
    _print_recommendation(run, console)
    return code


def report(options: argparse.Namespace, console: Console) -> int:
    _write_report(opened(options), console)
    return 0
