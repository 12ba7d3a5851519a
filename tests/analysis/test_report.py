"""The report of a run: what it says, what it lacks, and how it reads in a browser."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from analysis.paper.protocols import PROTOCOLS
from analysis.report.build import build_report, write_report
from analysis.report.findings import read_findings
from analysis.report.first_screen import launch_line
from analysis.report.recommend import recommend
from analysis.statistics.verdict import Outcome
from run_folder.run import Run
from run_folder.settings import RunSettings
from tests.report_runs import OUTCOMES, Builder
from tune_jobs.check_settings import run_settings
from tune_jobs.commands.launch import _settings
from tune_jobs.commands.options import parser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with all analyses, and its report."""
    builder = Builder(tmp_path_factory.mktemp("runs") / "whole")
    builder.search(4)
    builder.trial("pruning", 9, "failed", "<b>out of memory</b>")
    write_report(builder.analyse())
    return Path(builder.folder.uri)


@pytest.fixture(scope="module")
def html(written: Path) -> str:
    return (written / "results/report.html").read_text()


def test_the_page_says_what_to_take_and_how(html: str) -> None:
    assert "Recommended" in html
    assert re.search(r"symptune export \S+/whole</span> <span class=\"option\">--trial quantization-0003", html)
    assert str(OUTCOMES["low_rank"]) in html
    assert "1e6ce689a6e1" in html  # fingerprint
    for words in ("out of memory", "Expected best", "Parameter importances", "still says it", "can&#39;t be said"):
        assert words in html


def test_a_control_that_is_as_good_is_told(tmp_path: Path) -> None:
    builder = small(tmp_path)
    builder.trial("baseline", 0, f1=0.3)
    found = recommend(read_findings(builder.evaluate()))
    assert found is not None
    assert "control-tfidf (0.600 against 0.300)" in str(found.mind)


def test_names_from_outside_are_text_and_never_code(html: str, written: Path) -> None:
    assert html.count("<script>") == 1
    assert "<b>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "=cost $5 &amp; more" in html
    rows = (written / "results/report/subgroups-0.csv").read_text()
    assert ",'=Physician," in rows
    latex = (written / "results/report/counts.tex").read_text()
    assert r"=cost \$5 \& more" in latex


def test_every_link_leads_to_a_file_of_the_run_or_a_part_of_the_page(html: str, written: Path) -> None:
    links = set(re.findall(r' href="([^"]*)"', html)) - {"data:,"}
    assert any("ledger/" in link for link in links)
    for link in links:
        place, _, part = link.partition("#")
        if part and not place:
            assert f'id="{part}"' in html, link
        else:
            assert (written / "results" / place).is_file(), link


def test_the_page_is_small_names_no_host_and_repeats_no_id(html: str) -> None:
    assert len(html.encode()) < 3_000_000
    assert not re.search(r"""(?:src|href|action)=["']?(?:https?:)?//""", html)
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids))


def test_figures_and_tables_stand_beside_it_in_all_their_forms(written: Path) -> None:
    names = {path.name for path in (written / "results/report").iterdir()}
    for slug in ("quality-bytes", "quality-latency", "forest", "heat", "history", "curves", "expected", "importances",
                 "reliability", "confusions", "readings"):  # fmt: skip
        assert {f"{slug}.png", f"{slug}.svg"} <= names
    for slug in ("trials", "differences", "symptoms", "calibration", "robustness", "subgroups-0", "paper-claims"):
        assert {f"{slug}.csv", f"{slug}.tex", f"{slug}.md"} <= names


def small(folder: Path, strategies: tuple[str, ...] = ("baseline", "quantization")) -> Builder:
    return Builder(folder / "small", strategies, ("pain", "edema"))


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    builder = small(tmp_path)
    builder.trial("baseline", 0)
    run = builder.evaluate()
    assert build_report(run) == build_report(run)


def _nothing(builder: Builder) -> Run:
    return builder.run()


def _one_trial(builder: Builder) -> Run:
    builder.trial("baseline", 0)
    return builder.analyse()


def _not_evaluated(builder: Builder) -> Run:
    builder.search(2)
    return builder.run()


def _failed(builder: Builder) -> Run:
    builder.trial("baseline", 0)
    builder.trial("quantization", 0, "failed", "no INT8 here")
    return builder.evaluate()


def _all_failed(builder: Builder) -> Run:
    builder.trial("baseline", 0, "failed", "disk full")
    return builder.run()


def _running(builder: Builder) -> Run:
    builder.trial("baseline", 0, "running")
    return builder.run()


def _absent(builder: Builder) -> Run:
    builder.search(1)
    return builder.analyse(absent="edema")


def _without_analyses(builder: Builder) -> Run:
    builder.search(1)
    return builder.evaluate()


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (_nothing, "No trial has started yet."),
        (_one_trial, "There is nothing to compare the baseline with."),
        (_not_evaluated, "Nothing has been evaluated on the test set yet"),
        (_failed, "quantization: no model (all 1 trials failed: no INT8 here)"),
        (_all_failed, "baseline: no model (all 1 trials failed: disk full)"),
        (_running, "baseline: no model (no trial has finished yet)"),
        (_absent, "not defined"),
        (_without_analyses, "Intervals and verdicts have not been worked out for this run"),
    ],
)
def test_a_run_that_lacks_something_has_a_page_that_says_so(tmp_path: Path, make: Any, line: str) -> None:
    assert line in build_report(make(small(tmp_path))).page


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (PROTOCOLS["author"], "This run follows the author"),
        ({}, "This run follows neither the paper as written nor"),  # it has six epochs
    ],
)
def test_the_page_says_which_protocol_the_run_follows(tmp_path: Path, settings: dict[str, Any], line: str) -> None:
    of_run = {name: value for name, value in settings.items() if name != "symptoms"}
    builder = Builder(tmp_path / "small", ("baseline", "quantization"), ("pain", "edema"), **of_run)
    builder.search(1)
    assert line in build_report(builder.analyse()).page


def test_a_run_without_a_baseline_has_a_page(tmp_path: Path) -> None:
    builder = small(tmp_path, ("low_rank",))
    builder.search(1)
    page = build_report(builder.analyse()).page
    assert "no baseline left a model to compare with" in page
    assert "There is no baseline to compare with." in page


@pytest.mark.parametrize(
    ("outcomes", "chosen"),
    [
        ({"pruning": Outcome.EQUIVALENT, "quantization": Outcome.NOT_WORSE}, "quantization"),  # the smallest
        ({"pruning": Outcome.EQUIVALENT, "quantization": Outcome.WORSE}, "pruning"),
        ({"pruning": Outcome.BETTER, "quantization": Outcome.NOT_KNOWN}, "pruning"),
        ({"pruning": Outcome.NOT_KNOWN, "quantization": Outcome.NOT_KNOWN}, "baseline"),
        ({"pruning": Outcome.WORSE, "quantization": Outcome.SAME}, "baseline"),  # the larger one is tested first
    ],
)
def test_the_smallest_that_is_known_to_be_good_enough_is_recommended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcomes: dict[str, Outcome], chosen: str
) -> None:
    monkeypatch.setattr("tests.report_runs.OUTCOMES", outcomes)
    builder = small(tmp_path, ("baseline", "pruning", "quantization"))
    builder.search(1)
    found = recommend(read_findings(builder.analyse()))
    assert found is not None
    assert found.trial.strategy == chosen


@pytest.mark.parametrize(
    "settings",
    [
        run_settings(notes="a b.csv", absorb=("pain=chest pain,back pain", "fever=chills"), symptoms=("pain", "fever")),
        run_settings(notes=("a.csv", "b.csv"), unit="row", labels=("a", "b"), task="multilabel", sensitivity=0.9),
        run_settings(patients=50, balance=True, layers=4, category=("Nursing",), group_by=("WARD",), warm_start="old"),
        run_settings(patients=50, layers=2, **PROTOCOLS["author"]),
        run_settings(patients=50, layers=2, deploy="last", **PROTOCOLS["paper"]),
    ],
)
def test_the_launch_line_gives_the_same_settings(settings: RunSettings) -> None:
    options = parser().parse_args(shlex.split(launch_line("again", settings))[1:])
    assert _settings(options) == settings


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser: Browser, folder: Path, **options: Any) -> Page:
    page = browser.new_page(**options)
    page.goto((folder / "results/report.html").as_uri())
    return page


def column(page: Page, number: int) -> list[str]:
    cells = page.locator(f"#table-trials tbody tr:visible > :nth-child({number})")
    return [text.split(" ")[0] for text in cells.all_text_contents()]


def test_it_opens_without_an_error_or_a_request(browser: Browser, written: Path) -> None:
    page = browser.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((written / "results/report.html").as_uri(), wait_until="networkidle")
    assert said == []
    assert asked == [(written / "results/report.html").as_uri()]


def test_the_leaderboard_sorts_by_mouse_and_keyboard_and_filters(browser: Browser, written: Path) -> None:
    page = opened(browser, written)
    size = page.locator("#table-trials thead th", has_text="MB")
    size.get_by_role("button").click()
    assert size.get_attribute("aria-sort") == "descending"
    shown = column(page, 6)
    sizes = [float(text) for text in shown if text != "–"]
    assert sizes == sorted(sizes, reverse=True)
    assert shown[: len(sizes)] == [text for text in shown if text != "–"]  # gaps last
    size.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert size.get_attribute("aria-sort") == "ascending"
    assert [float(text) for text in column(page, 6) if text != "–"] == sorted(sizes)
    assert column(page, 6)[-1] == "–"
    page.get_by_label("State").select_option("failed")
    page.get_by_label("Filter").fill("PRUNING memory")
    assert column(page, 1) == ["pruning-0009"]
    assert page.locator("#table-trials output").text_content() == "1 of 27 shown"


def test_a_phone_scrolls_the_page_one_way_only(browser: Browser, written: Path) -> None:
    page = opened(browser, written, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.scrollingElement.scrollWidth") == 360


_SMALLEST = """() => Math.min(...[...document.querySelectorAll("body *")]
    .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) && e.getClientRects().length)
    .map((e) => {
        const size = parseFloat(getComputedStyle(e).fontSize), svg = e.ownerSVGElement;
        return svg ? size * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : size;
    }))"""


@pytest.mark.parametrize("width", [360, 1360])
def test_no_text_is_too_small_to_read(browser: Browser, written: Path, width: int) -> None:
    page = opened(browser, written, viewport={"width": width, "height": 800})
    assert page.evaluate(_SMALLEST) >= 14


_CONTRASTS = """() => {
    const light = (color) => {
        const [r, g, b] = color.match(/[\\d.]+/g).map((v) => v / 255)
            .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const paper = light(getComputedStyle(document.body).backgroundColor);
    const inks = [...document.querySelectorAll("p, td, th, dt, a, summary, .badge, .interval, h1, h2, pre, output")];
    return inks.filter((e) => e.getClientRects().length).map((e) => light(getComputedStyle(e).color))
        .map((ink) => (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_in_light_and_dark(browser: Browser, written: Path, scheme: str) -> None:
    page = opened(browser, written, color_scheme=scheme)
    assert min(page.evaluate(_CONTRASTS)) >= 4.5
    red = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
    assert (int(red) < 60) is (scheme == "dark")


def test_figures_follow_light_and_dark(browser: Browser, written: Path) -> None:
    title = "getComputedStyle(document.querySelector('.drawing svg text')).fill"
    fills = {scheme: opened(browser, written, color_scheme=scheme).evaluate(title) for scheme in ("light", "dark")}
    assert fills["light"] != fills["dark"]
