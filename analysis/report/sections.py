"""The sections of the page below its first screen; what a run lacks is a line that says so."""

from analysis.report.findings import Findings
from analysis.report.gold_section import gold
from analysis.report.model_sections import calibration, confusions, differences, quality, symptoms
from analysis.report.page import Section
from analysis.report.recommend import Recommendation
from analysis.report.robustness_sections import paper, robustness, subgroups
from analysis.report.search_sections import leaderboard, search


def sections(findings: Findings, chosen: Recommendation | None) -> list[Section]:
    """In the order of the page."""
    return [
        quality(findings, chosen),
        differences(findings),
        symptoms(findings),
        search(findings),
        calibration(findings),
        confusions(findings),
        robustness(findings),
        subgroups(findings),
        gold(findings),
        paper(findings),
        leaderboard(findings),
    ]
