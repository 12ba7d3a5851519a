"""Tables as CSV, Markdown and LaTeX."""

import io
from typing import Any

import pandas as pd

Cell = str | float | int | bool | None
"""Value of a table's cell; None leaves the cell empty."""
Row = dict[str, Cell]
"""A row of a table, by column."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def csv_text(table: pd.DataFrame, separator: str = ",") -> str:
    """CSV in which no cell is a formula."""
    buffer = io.StringIO()
    cells = table.rename(columns=defused).map(defused)
    whole = cells.map(
        lambda value: str(value) if isinstance(value, int) else value
    )  # pandas writes 3.0 where a column has a gap
    whole.to_csv(buffer, index=False, sep=separator)
    return buffer.getvalue()


def defused(value: Any) -> Any:
    """A text cell that a spreadsheet would run as a formula, made plain."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def markdown(table: pd.DataFrame) -> str:
    """A Markdown table."""
    lines = [list(table.columns), ["---"] * len(table.columns), *([*row] for row in table.itertuples(index=False))]
    cells = (" | ".join(cell_text(value).replace("|", "\\|") for value in line) for line in lines)
    return "".join(f"| {row} |\n" for row in cells)


def cell_text(value: Cell) -> str:
    """A figure as people read it: four decimals, commas between thousands, a dash for a gap."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.2e}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def latex(table: pd.DataFrame) -> str:
    """A LaTeX table of the ``booktabs`` package; every cell is plain text."""
    return str(table.map(cell_text).to_latex(index=False, escape=True))


def short(value: float) -> str:
    """Three decimals without the leading zero, as papers print shares."""
    return f"{value:.3f}".replace("0.", ".", 1)
