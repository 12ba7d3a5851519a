"""The parts of the page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from analysis.report.html_table import Table


@dataclass(frozen=True)
class Drawing:
    """A figure of the page.

    Attributes:
        title: what it shows; also its name for screen readers.
        caption: what to see in it.
        draw: makes it.
        table: its data, for those who cannot see it.
    """

    slug: str
    title: str
    caption: str
    draw: Callable[[], Figure]
    table: Table | None = None


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        missing: lines about what is not there, and which command brings it.
    """

    slug: str
    title: str
    lead: str
    blocks: Sequence[Drawing | Table] = ()
    missing: Sequence[str] = ()
