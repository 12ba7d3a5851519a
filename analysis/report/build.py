"""Write the report of a run: one page that needs nothing else, its figures and its tables."""

import base64
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.report.findings import read_findings
from analysis.report.first_screen import overview, reproduction
from analysis.report.html_table import Table, plain
from analysis.report.page import Drawing, Section
from analysis.report.sections import sections
from analysis.report.svg import images, inline
from analysis.text_tables import csv_text, latex, markdown
from run_folder.names import RESULTS
from run_folder.run import Run

PAGE = f"{RESULTS}/report.html"
_FILES = f"{RESULTS}/report"


@dataclass(frozen=True)
class ReportPage:
    """The page, and by path in the run's folder the files that come with it."""

    page: str
    files: dict[str, bytes]


def build_report(run: Run) -> ReportPage:
    """The report of what the run has so far. Raises: InputError: a file of the run is damaged."""
    findings = read_findings(run)
    first = overview(findings)
    again = reproduction(findings)
    parts = sections(findings, first.recommendation)
    others = {f"{_FILES}/space.yaml": again.space.encode()} if run.settings.search.space else {}
    for table in [first.counts, *_tables(parts), again.settings, again.versions]:
        others |= _table_files(table)
    drawn = {}
    for drawing in (block for part in parts for block in part.blocks if isinstance(block, Drawing)):
        forms = images(drawing.draw())
        others |= {f"{_FILES}/{drawing.slug}.{ending}": content for ending, content in forms.items()}
        drawn[drawing.slug] = inline(forms["svg"], drawing.slug, drawing.title, drawing.caption)
    script = _asset("table.js")
    page = _environment().get_template("page.html.j2").render(
        run=run, first=first, again=again, sections=parts, drawn=drawn, style=Markup(_asset("style.css")),
        script=Markup(script), script_hash=_hash(script), symptune=run.manifest.versions.get("symptune", ""),
    )  # fmt: skip
    return ReportPage(page, others)


def write_report(run: Run) -> str:
    """Write the report under the run's ``results/``; returns the page's path in the run's folder."""
    report = build_report(run)
    for path, content in report.files.items():
        run.folder.write(path, content)
    run.folder.write(PAGE, report.page.encode())
    return PAGE


def _tables(parts: list[Section]) -> list[Table]:
    found = [block.table if isinstance(block, Drawing) else block for part in parts for block in part.blocks]
    return [table for table in found if table is not None]


def _table_files(table: Table) -> dict[str, bytes]:
    frame = plain(table.frame)
    texts = {"csv": csv_text(frame), "tex": latex(frame), "md": markdown(frame)}
    return {f"{_FILES}/{table.slug}.{ending}": text.encode() for ending, text in texts.items()}


def _environment() -> Environment:
    loader = PackageLoader("analysis.report", ".")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.tests["drawing"] = lambda block: isinstance(block, Drawing)
    environment.filters["coded"] = _coded
    environment.filters["command"] = _command
    return environment


def _coded(text: str) -> Markup:
    """Words between backquotes as code."""
    parts = [Markup.escape(part) for part in text.split("`")]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts)
    )


def _command(line: str) -> Markup:
    """A command that breaks between its options alone."""
    options = re.split(r" (?=--)", line)
    return Markup(" ").join(Markup('<span class="option">{}</span>').format(option) for option in options)


def _asset(name: str) -> str:
    return files("analysis.report").joinpath(name).read_text("utf-8")


def _hash(script: str) -> str:
    """As a content security policy names a script that may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
