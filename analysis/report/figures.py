"""The report's figures, each drawn from plain data. No display is needed."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ParamSpec

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

THEME = {
    "ink": "#1b2430", "muted": "#5c6672", "rule": "#d5dae0", "paper": "#fefefe", "band": "#e8edf3",
    "series-0": "#1b2431", "series-1": "#d98e04", "series-2": "#3a9fd8", "series-3": "#009e73",
    "series-4": "#d55e00", "series-5": "#c0659a", "series-6": "#0072b2", "series-7": "#6b6b6b",
}  # fmt: skip
"""Colour by its role; a page gives other colours for dark. The series are Okabe and Ito's (2008), three of them
darkened to stand out from white; markers and dashes tell them apart as well."""

INK, MUTED, RULE, PAPER, BAND = (THEME[name] for name in ("ink", "muted", "rule", "paper", "band"))
SERIES = [colour for name, colour in THEME.items() if name.startswith("series")]
MARKERS = "os^DvPX*"
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (4, 4)), (0, (1, 3)), (0, (8, 2)))

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 10.5, "axes.titlesize": 11, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.labelsize": 10.5, "xtick.labelsize": 10, "ytick.labelsize": 10,
    "legend.fontsize": 10.5, "legend.frameon": False, "text.parse_math": False, "text.color": INK,
    "axes.labelcolor": INK, "axes.titlecolor": INK, "axes.edgecolor": MUTED, "xtick.color": MUTED,
    "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK, "grid.color": RULE, "grid.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.unicode_minus": True,
    "axes.facecolor": PAPER, "figure.facecolor": PAPER, "lines.linewidth": 1.8, "lines.markersize": 6.5,
    "errorbar.capsize": 3, "svg.fonttype": "none", "svg.hashsalt": "symptune", "figure.constrained_layout.use": True,
}  # fmt: skip

WIDTH = 8.6
"""Width of a figure in inches; one inch is 72 units of a page's drawing."""

_BLUES = LinearSegmentedColormap.from_list("blues", ["#f4f8fc", "#9fc7e6", "#3a86c0", "#0b3c6f"])
_GAP = "#c9c9c9"
_MOST_NUMBERS = 12
"""Classes up to which the cells of a matrix are drawn one by one and hold their numbers."""

MOST_CURVES = 150
"""Learning curves in a panel: at most this many, the best ones."""

_P = ParamSpec("_P")


def _styled(draw: Callable[_P, Figure]) -> Callable[_P, Figure]:
    @functools.wraps(draw)
    def drawn(*args: _P.args, **kwargs: _P.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


@dataclass(frozen=True)
class Point:
    """A model's test macro F1 (with its interval where it is known) against what it costs."""

    strategy: str
    cost: float
    quality: float
    low: float | None = None
    high: float | None = None
    chosen: bool = False


@dataclass(frozen=True)
class DifferenceRow:
    """A strategy's macro F1 minus the baseline's, with its interval where it is known."""

    strategy: str
    point: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Curve:
    """Validation macro F1 by epoch, and that of the deployed model where there is one."""

    state: str
    scores: Sequence[float]
    final: float | None


@dataclass(frozen=True)
class Band:
    """A mean with its interval, of 1, 2, … trials."""

    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class ReliabilityLines:
    """By bin: mean confidence and accuracy, before and after temperature scaling."""

    before: tuple[Sequence[float], Sequence[float]]
    after: tuple[Sequence[float], Sequence[float]]


@_styled
def quality_against(points: Sequence[Point], strategies: Sequence[str], label: str) -> Figure:
    """Quality against a cost, the cheaper and better to the upper left, with the front of the points."""
    figure = Figure(figsize=(WIDTH, 4.4))
    axes = figure.subplots()
    axes.grid(True)
    for strategy in (s for s in strategies if any(p.strategy == s for p in points)):
        mine = [p for p in points if p.strategy == strategy]
        colour, marker = _look(strategies, strategy)
        for p in (p for p in mine if p.low is not None and p.high is not None):
            axes.plot([p.cost] * 2, [p.low or 0, p.high or 0], color=colour, linewidth=1.4, alpha=0.8)
        axes.scatter(
            [p.cost for p in mine], [p.quality for p in mine], s=75, marker=marker, color=colour, edgecolors=PAPER,
            linewidths=0.7, zorder=3, label=strategy,
        )  # fmt: skip
    for p in (p for p in points if p.chosen):
        axes.scatter(p.cost, p.quality, s=230, facecolors="none", edgecolors=INK, linewidths=1.6, label="recommended")
    front = _front(points)
    axes.step([p.cost for p in front], [p.quality for p in front], where="post", color=MUTED, label="Pareto front")
    axes.set_xlabel(label)
    axes.set_ylabel("test macro F1")
    axes.set_xlim(left=0)
    _legend(figure)
    return figure


def _front(points: Sequence[Point]) -> list[Point]:
    """Points that no other surpasses in both, cheapest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.quality)):
        if not front or point.quality > front[-1].quality:
            front.append(point)
    return front


@_styled
def differences_forest(rows: Sequence[DifferenceRow], strategies: Sequence[str], margin: float) -> Figure:
    """Differences to the baseline, one a line, over the band that counts as no loss worth having."""
    figure = Figure(figsize=(WIDTH, 1.5 + 0.42 * len(rows)))
    axes = figure.subplots()
    axes.axvspan(-margin, margin, color=BAND, zorder=0)
    axes.axvline(0, color=MUTED, linewidth=1.2)
    for place, row in enumerate(rows):
        colour, marker = _look(strategies, row.strategy)
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [place] * 2, color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot(row.point, place, marker=marker, color=colour, markersize=9, markeredgecolor=PAPER)
        axes.annotate(
            _with_interval(row), (1.02, place), xycoords=("axes fraction", "data"), va="center", annotation_clip=False
        )
    axes.set_yticks(range(len(rows)), [row.strategy for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"macro F1 minus the baseline's (worse ← 0 → better); shaded: within the margin of {margin:g}")
    return figure


def _with_interval(row: DifferenceRow) -> str:
    point = f"{row.point:+.3f}".replace("-", "−")
    if row.low is None or row.high is None:
        return point
    return f"{point}  [{row.low:+.3f}, {row.high:+.3f}]".replace("-", "−")


@_styled
def heat_map(values: pd.DataFrame, label: str, percent: bool = False) -> Figure:
    """A cell per row and column of figures from 0 to 1; gaps are grey."""
    rows, columns = values.shape
    figure = Figure(figsize=(WIDTH, 1.3 + 0.42 * rows))
    axes = figure.subplots()
    found = values.to_numpy(dtype=float)
    low = 0.0 if percent else float(np.nanmin(found, initial=1.0))
    mesh = _cells(axes, found, low=low, high=float(np.nanmax(found, initial=low)))
    if columns <= _MOST_NUMBERS:
        _numbers(axes, found, mesh, "{:.0%}" if percent else "{:.3f}")
    axes.set_yticks(np.arange(rows) + 0.5, [str(name) for name in values.index])
    _slanted(axes, [str(name) for name in values.columns])
    bar = figure.colorbar(mesh, ax=axes, label=label, shrink=0.9, pad=0.02)
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


@_styled
def learning_curves(curves: Mapping[str, Sequence[Curve]], strategies: Sequence[str], epochs: int) -> Figure:
    """A panel per strategy: its trials' validation macro F1 by epoch; the marks are the deployed models."""
    figure, panels = _panels(len(curves))
    for axes, (strategy, mine) in zip(panels, curves.items(), strict=True):
        colour, marker = _look(strategies, strategy)
        ranked = sorted((c for c in mine if c.scores or c.final is not None), key=_top, reverse=True)
        best = max((c.final for c in mine if c.final is not None), default=None)
        for curve in ranked[:MOST_CURVES]:
            done = curve.state == "finished"
            axes.plot(
                range(1, len(curve.scores) + 1), curve.scores, color=colour if done else MUTED, alpha=0.9,
                linestyle="-" if done else (0, (2, 2)), linewidth=2.4 if done and curve.final == best else 1.1,
            )  # fmt: skip
            if curve.final is not None:
                axes.plot(max(len(curve.scores), 1), curve.final, marker=marker, color=colour, markeredgecolor=PAPER)
        axes.set_title(strategy)
        axes.set_xlim(0.7, epochs + 0.3)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    figure.supxlabel("epoch", size=10.5)
    figure.supylabel("validation macro F1", size=10.5)
    return figure


@_styled
def search_history(curves: Mapping[str, Sequence[tuple[int, Curve]]], strategies: Sequence[str]) -> Figure:
    """Each trial's best validation macro F1 in order of suggestion, and the best so far of each strategy."""
    figure = Figure(figsize=(WIDTH, 4.2))
    axes = figure.subplots()
    axes.grid(True)
    for strategy, mine in curves.items():
        colour, marker = _look(strategies, strategy)
        scored = [(place, curve, _top(curve)) for place, curve in mine if curve.final is not None or curve.scores]
        for done in (True, False):
            some = [(place, score) for place, curve, score in scored if (curve.state == "finished") is done]
            face = colour if done else "none"
            axes.scatter(
                [place for place, _ in some], [score for _, score in some], marker=marker, s=36, facecolors=face,
                edgecolors=colour, linewidths=1.0, zorder=3, label=strategy if done else None,
            )  # fmt: skip
        so_far = list(accumulate((score for _, curve, score in scored if curve.state == "finished"), max))
        places = [place for place, curve, _ in scored if curve.state == "finished"]
        axes.step(places, so_far, where="post", color=colour, linewidth=1.2, linestyle=_dash(strategies, strategy))
    axes.set_xlabel("trial, in order of suggestion")
    axes.set_ylabel("validation macro F1")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure)
    return figure


def _top(curve: Curve) -> float:
    return curve.final if curve.final is not None else max(curve.scores)


@_styled
def expected_best(bands: Mapping[str, Band], strategies: Sequence[str], reference: str) -> Figure:
    """A panel per strategy: the expected best validation macro F1 by trials, over the baseline's in grey."""
    figure, panels = _panels(len(bands))
    for axes, (strategy, band) in zip(panels, bands.items(), strict=True):
        colour, marker = _look(strategies, strategy)
        trials = range(1, len(band.mean) + 1)
        if strategy != reference and reference in bands:
            mean = bands[reference].mean
            axes.plot(range(1, len(mean) + 1), mean, color=MUTED, linewidth=1.1, linestyle=(0, (2, 2)))
        axes.fill_between(trials, band.low, band.high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(
            trials,
            band.mean,
            color=colour,
            marker=marker if len(trials) <= 30 else "",
            markersize=4 if len(trials) > 8 else 6,
        )
        axes.set_title(strategy)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    figure.supxlabel("trials", size=10.5)
    figure.supylabel("expected best validation macro F1", size=10.5)
    return figure


@_styled
def reliability(curves: Mapping[str, ReliabilityLines]) -> Figure:
    """A panel per model: accuracy against confidence; on the diagonal a model is as right as it says."""
    figure, panels = _panels(len(curves), height=2.5)
    for axes, (name, curve) in zip(panels, curves.items(), strict=True):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1)
        before = axes.plot(*curve.before, color=THEME["series-4"], marker="s", markersize=4, linestyle="--")
        after = axes.plot(*curve.after, color=THEME["series-6"], marker="o", markersize=4)
        axes.set_title(name)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xticks=[0.2, 0.4, 0.6, 0.8], yticks=[0, 0.5, 1])
    figure.legend([before[0], after[0]], ["as deployed", "with temperature"], loc="outside upper left", ncols=2)
    figure.supxlabel("mean confidence", size=10.5)
    figure.supylabel("accuracy", size=10.5)
    return figure


@_styled
def confusion_matrices(matrices: Mapping[str, Sequence[Sequence[int]]], symptoms: Sequence[str]) -> Figure:
    """A panel per model: true symptoms down, predicted ones across; shades are shares of the true symptom."""
    size = len(symptoms)
    columns, row = (3, 0.3) if size <= 8 else (2, 0.2) if size <= 16 else (1, 0.17)
    figure, panels = _panels(len(matrices), 1.0 + row * size, columns)
    for axes, (name, matrix) in zip(panels, matrices.items(), strict=True):
        counts = np.asarray(matrix, dtype=float)
        with np.errstate(invalid="ignore"):
            shares = counts / counts.sum(1, keepdims=True)
        mesh = _cells(axes, shares, low=0, high=1)
        if size <= 8:
            _numbers(axes, counts, mesh, "{:.0f}")
        axes.set_title(name)
        axes.set_yticks(np.arange(size) + 0.5, symptoms)
        _slanted(axes, symptoms, 0.8 * WIDTH / columns)
    figure.supxlabel("predicted", size=10.5)
    figure.supylabel("true", size=10.5)
    return figure


def _panels(count: int, height: float = 2.2, columns: int = 3) -> tuple[Figure, list[Axes]]:
    columns = min(columns, max(count, 2)) if columns > 1 else 1
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH, height * rows + 0.5))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in grid[:count]:
        axes.grid(color=RULE)
        axes.tick_params(labelbottom=True)
    for axes in grid[count:]:
        axes.remove()
    return figure, list(grid[:count])


def _cells(axes: Axes, values: np.ndarray[Any, Any], low: float, high: float) -> Any:
    axes.set_facecolor(_GAP)
    many = values.size > _MOST_NUMBERS**2
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(values), cmap=_BLUES, vmin=low, vmax=max(high, low + 1e-6), edgecolors=PAPER,
        linewidth=0 if many else 1.5, rasterized=many,
    )  # fmt: skip
    axes.set_ylim(len(values), 0)
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return mesh


def _numbers(axes: Axes, values: np.ndarray[Any, Any], mesh: Any, form: str) -> None:
    shades = mesh.norm(mesh.get_array()).filled(0.0).reshape(values.shape)
    for (row, column), value in np.ndenumerate(values):
        text = "–" if np.isnan(value) else form.format(value).replace("%", " %")
        colour = "#ffffff" if shades[row, column] > 0.55 else "#111111"
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour)


def _slanted(axes: Axes, names: Sequence[str], room: float = WIDTH) -> None:
    """Names below columns: level where ``room``, in inches, is enough for them, else slanted, else upright."""
    each = room / len(names)
    angle = 0 if each > 0.11 * max(map(len, names)) else 40 if each > 0.35 else 90
    side = "center" if angle != 40 else "right"
    axes.set_xticks(np.arange(len(names)) + 0.5, names, rotation=angle, ha=side)
    if angle == 40:
        for label in axes.get_xticklabels():
            label.set_rotation_mode("anchor")


def _legend(figure: Figure) -> None:
    """Above the axes, where a narrow screen shows it first."""
    figure.legend(loc="outside upper left", ncols=4, columnspacing=1.6, handletextpad=0.4)


def _look(strategies: Sequence[str], strategy: str) -> tuple[str, str]:
    """Colour and marker; controls, which are no strategy, have the last."""
    place = list(strategies).index(strategy) % (len(SERIES) - 1) if strategy in strategies else len(SERIES) - 1
    return SERIES[place], MARKERS[place]


def _dash(strategies: Sequence[str], strategy: str) -> Any:
    return DASHES[list(strategies).index(strategy) % len(DASHES)]
