"""Tables of the page: figures as people read them, sortable by what they are."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

Form = str
"""How a column reads: a key of ``_FORMS``."""

Link = Callable[[Mapping[str, Any]], str | None]
"""A row of a table to the address that one of its cells leads to, or None."""
Links = Mapping[str, Link]
"""By column, the file that a row's figure comes from, relative to the page."""

_FORMS: Mapping[Form, Callable[[Any], str]] = {
    "text": str,
    "words": str,
    "count": lambda value: f"{value:,.0f}",
    "score": lambda value: f"{value:.3f}",
    "signed": lambda value: f"{value:+.3f}".replace("-", "−"),
    "percent": lambda value: f"{100 * value:.1f} %",
    "MB": lambda value: megabytes(value),
    "ms": lambda value: f"{value * 1e3:.2f}",
    "times": lambda value: f"{value:.2f} ×",
    "seconds": lambda value: f"{value:,.1f}",
    "p": lambda value: f"{value:.3f}" if value >= 0.001 else f"{value:.0e}",
    "yes": lambda value: "yes" if value else "",
}


def megabytes(size: float) -> str:
    """Bytes as MB (10⁶), to two digits or more."""
    return f"{size / 1e6:.1f}" if size >= 1e7 else f"{size / 1e6:.2f}"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        form: a key of ``_FORMS``; ``words`` are long and may wrap.
        name: in the frame; ``name_low`` and ``name_high`` are its 95 % interval.
        title: what it is, where its label does not say.
    """

    name: str
    label: str
    form: Form = "score"
    title: str = ""

    @property
    def numeric(self) -> bool:
        """Whether its cells are numbers."""
        return self.form not in ("text", "words", "yes")


@dataclass(frozen=True)
class Cell:
    """A cell as the page shows it.

    Attributes:
        order: what it is sorted by.
        href: the file that it comes from.
    """

    text: str
    order: str | None = None
    interval: str | None = None
    href: str | None = None


@dataclass(frozen=True)
class Table:
    """A table of the page, also written as CSV, LaTeX and Markdown.

    Attributes:
        slug: of its id and its files.
        caption: what it shows, and what to see.
        sources: files in the run that its figures come from: words and address relative to the page.
    """

    slug: str
    caption: str
    frame: pd.DataFrame
    columns: Sequence[Column]
    sources: Sequence[tuple[str, str]] = ()
    links: Links = field(default_factory=dict)
    most_cells: int = 6000

    @property
    def shown(self) -> int:
        """Rows that the page has room for; the files have all."""
        return min(len(self.frame), max(1, self.most_cells // len(self.columns)))

    @property
    def rows(self) -> list[list[Cell]]:
        """The shown rows, a cell for each column."""
        return [[self._cell(row, column) for column in self.columns] for row in _records(self.frame[: self.shown])]

    def _cell(self, row: Mapping[str, Any], column: Column) -> Cell:
        value = row.get(column.name)
        link = self.links.get(column.name)
        href = link(row) if link else None
        if value is None or (isinstance(value, str) and column.numeric):
            return Cell(value or "–", order="" if column.numeric else None, href=href)
        text = _FORMS[column.form](value)
        low, high = row.get(f"{column.name}_low"), row.get(f"{column.name}_high")
        interval = None if low is None or high is None else f"{_plain(low, column)} to {_plain(high, column)}"
        return Cell(text, repr(value) if column.numeric else None, interval, href)


def _plain(value: float, column: Column) -> str:
    return _FORMS[column.form](value)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): None if _is_gap(v) else v for k, v in row.items()} for row in frame.to_dict("records")]


def _is_gap(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """With None for gaps, as the writers of files take it."""
    return frame.astype(object).where(frame.notna(), None)
