"""The paper's Tables I and II, and how far chance reaches in them."""

import functools
import json
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm

from analysis.statistics.intervals import LEVEL
from analysis.statistics.resampling import METRICS, OVERALL, figures_of_confusions

REACH = float(norm.ppf((1 + LEVEL) / 2))
_SIMULATIONS = 4_000


@dataclass(frozen=True)
class Figure:
    """A figure of the paper, its 95 % interval, and the standard error from which the interval is computed."""

    value: float
    low: float
    high: float
    error: float


@dataclass(frozen=True)
class PaperFigures:
    """What the paper prints, with what its test set implies.

    The paper gives neither class counts nor intervals. Counts follow from the recalls, which are whole shares of them
    (edema's 0.8980 is 88 of 98), and sum to the author's 435 test examples. With precision they give each model's
    right and false answers by symptom. Examples count as independent; several of one patient make intervals wider.

    Attributes:
        examples: test examples by symptom.
        figures: by strategy, symptom (or ``OVERALL``) and metric.
        right: test examples that each strategy has right, by Table I.
    """

    examples: dict[str, int]
    figures: dict[tuple[str, str, str], Figure]
    right: dict[str, int]

    @property
    def total(self) -> int:
        """Test examples."""
        return sum(self.examples.values())

    @property
    def strategies(self) -> tuple[str, ...]:
        """In the paper's order."""
        return tuple(self.right)

    def least_error(self, strategy: str, other: str) -> float:
        """Standard error of two strategies' difference in accuracy if all that one has right the other has, too."""
        apart = abs(self.right[strategy] - self.right[other])
        return float(np.sqrt(apart - apart**2 / self.total) / self.total)


@functools.cache
def paper_figures() -> PaperFigures:
    """Accuracy, precision and recall of a symptom: Wilson; AUROC: Hanley & McNeil 1982; the others: by simulation."""
    data = json.loads(files("analysis.paper").joinpath("paper.json").read_text("utf-8"))
    examples: dict[str, int] = data["examples"]
    total, figures, right = sum(examples.values()), {}, {}
    for strategy, row in data["table1"].items():
        by_symptom = {symptom: data["table2"][symptom][strategy] for symptom in examples}
        hits = {symptom: round(by_symptom[symptom]["recall"] * count) for symptom, count in examples.items()}
        predicted = {symptom: round(hits[symptom] / by_symptom[symptom]["precision"]) for symptom in examples}
        errors = _simulated_errors(*(np.array(list(counts.values())) for counts in (examples, hits, predicted)))
        areas = {s: area_error(by_symptom[s]["auroc"], count, total - count) for s, count in examples.items()}
        right[strategy] = round(row["accuracy"] * total)
        for metric, value in row.items():
            # symptoms' areas are of the same examples, so their mean's error is at most the mean of theirs
            error = float(np.mean(list(areas.values()))) if metric == "auroc" else errors[OVERALL, metric]
            figure = _wilson(value, right[strategy], total) if metric == "accuracy" else _normal(value, error)
            figures[strategy, OVERALL, metric] = figure
        for number, (symptom, count) in enumerate(examples.items()):
            its = by_symptom[symptom]
            of = {"precision": predicted[symptom], "recall": count}
            figures |= {(strategy, symptom, m): _wilson(its[m], hits[symptom], n) for m, n in of.items()}
            figures[strategy, symptom, "f1"] = _normal(its["f1"], errors[str(number), "f1"])
            figures[strategy, symptom, "auroc"] = _normal(its["auroc"], areas[symptom])
    return PaperFigures(examples, figures, right)


def area_error(area: float, positive: int, negative: int) -> float:
    """Standard error of an AUROC (Hanley & McNeil 1982, equation 1, with Q1 and Q2 of exponential scores)."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (positive - 1) * (q1 - area**2) + (negative - 1) * (q2 - area**2)
    return float(np.sqrt(variance / (positive * negative)))


def _wilson(value: float, hits: int, count: int) -> Figure:
    limits = binomtest(hits, count).proportion_ci(LEVEL, method="wilson")
    return Figure(value, float(limits.low), float(limits.high), float(np.sqrt(value * (1 - value) / count)))


def _normal(value: float, error: float) -> Figure:
    return Figure(value, max(value - REACH * error, 0.0), min(value + REACH * error, 1.0), error)


def _simulated_errors(
    examples: NDArray[np.int64], hits: NDArray[np.int64], predicted: NDArray[np.int64]
) -> dict[tuple[str, str], float]:
    """Standard errors of what follows from a confusion matrix, by drawing such matrices.

    Returns:
        by ``OVERALL`` or the class's number as text, and metric.
    """
    shares = likely_confusion(examples, hits, predicted) / examples.sum()
    drawn = np.random.default_rng(0).multinomial(examples.sum(), shares.ravel(), size=_SIMULATIONS)
    confusions = drawn.reshape(-1, *shares.shape).astype(np.float64)
    deviations = figures_of_confusions(confusions, np.ones(len(examples), np.bool_)).std(axis=0)
    names = [OVERALL, *map(str, range(len(examples)))]
    return {(names[i], METRICS[j]): float(deviations[i, j]) for i, j in np.ndindex(deviations.shape)}


def likely_confusion(
    examples: NDArray[np.int64], hits: NDArray[np.int64], predicted: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(classes, classes) of true and predicted class: the errors spread as evenly as the sums allow.

    By iterative proportional fitting (Deming & Stephan 1940). Where an error went hardly moves the figures.
    """
    missed, false = examples - hits, predicted - hits
    errors = 1.0 - np.eye(len(examples))
    for _ in range(200):
        errors *= (missed / np.maximum(errors.sum(axis=1), 1e-12))[:, None]
        errors *= false / np.maximum(errors.sum(axis=0), 1e-12)
    return np.diag(hits) + errors
