"""The command that compares a run with the paper."""

import argparse
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.evaluation.run_statistics import STATISTICS, read_statistics
from analysis.paper.claims import CLAIM_NOTE, FOLLOWS, NOTES, TABLES, JudgedClaim, shown_rows
from analysis.paper.claims import compare_paper as compare_with_paper
from analysis.text_tables import Row
from run_folder.errors import InputError, Problem
from run_folder.names import RESULTS
from tune_jobs.commands.find_run import opened


def compare_paper(options: argparse.Namespace, console: Console) -> int:
    run = opened(options)
    if not any(trial.state == "finished" for trial in run.trials.values()):
        raise InputError(
            Problem("run", f"no trial of {run.folder.name} has finished, so there is nothing to compare yet")
        )
    found = compare_with_paper(run)
    console.print(FOLLOWS[found.follows], highlight=False)
    if read_statistics(run) is None:
        line = (
            f"The run's intervals have not been worked out (there is no {STATISTICS}): `symptune evaluate` does that."
        )
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for note in NOTES:
        console.print(note, markup=False, highlight=False)
    console.print()
    for table, (title, _) in TABLES.items():
        printed = [row for row in found.tables[table] if table == "table1" or row.metric == "f1"]
        more = "" if table == "table1" else " (F1; the rest is in the files)"
        _print_table(title + more, shown_rows(printed), console)
    console.print(CLAIM_NOTE, markup=False, highlight=False)
    console.print()
    for number, claim in enumerate(found.claims, start=1):
        _print_claim(number, claim, console)
    console.print(f"Written to {run.folder.child(RESULTS)}/paper.*", highlight=False, soft_wrap=True)
    return 0


def _print_table(title: str, rows: Sequence[Row], console: Console) -> None:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1), title_style="bold")
    words = ("symptom", "strategy", "metric")
    for name in rows[0]:
        table.add_column(name, justify="left" if name in words else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row.values()))
    console.print(table)


def _print_claim(number: int, claim: JudgedClaim, console: Console) -> None:
    for line in (
        f"{number}. {claim.claim}",
        f"   this run: {claim.verdict}. {claim.ours}; {claim.why}",
        f"   the paper's own data: {claim.paper_verdict}. {claim.paper}",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
