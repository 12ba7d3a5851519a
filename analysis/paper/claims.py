"""A run laid beside the paper: its two tables with intervals, and which of the paper's claims the run supports."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from analysis.evaluation.evaluate import test_figures
from analysis.evaluation.predictions import TEST, read_predictions
from analysis.evaluation.run_statistics import STATISTICS, read_statistics
from analysis.paper.published import OVERALL, REACH, PaperFigures, paper_figures
from analysis.statistics.comparison import compare
from analysis.statistics.resampling import METRICS, Resampled, resample
from analysis.text_tables import cell_text, csv_text, markdown
from run_folder.names import RESULTS
from run_folder.run import Run

SUPPORTED, NOT_SUPPORTED, UNKNOWN = "supported", "not supported", "can't be said"
TABLES = {
    "table1": ("Table I: test set, macro averages", METRICS),
    "table2": ("Table II: each symptom against the rest", METRICS[1:]),
}

NOTES = (
    "Brackets: 95 % intervals. The paper's are those that its 435 test examples imply, taken as independent; ours are "
    "over patients. Other notes and labels: a difference of the two says nothing of a method by itself.",
    "The paper's Table I has low_rank as it was after epoch 3 of the author's run (accuracy 0.9218); its Table II has "
    "it after epoch 5, like all else (accuracy 0.9241).",
)
PROTOCOL = {
    True: "This run follows the author's protocol.",
    False: "This run does not follow the author's protocol (that is `launch --protocol paper`).",
}
CLAIM_NOTE = (
    "A claim is supported where the 95 % interval of every difference that it needs lies where the claim says, and not "
    "supported where one lies elsewhere. The paper's data support it where even the widest interval does (no error "
    "shared by two models), and do not where even the narrowest does not (all shared). With one seed, what is said is "
    "of these models, not of what their configurations would give again."
)


@dataclass(frozen=True)
class Comparison:
    """A figure of one model, or of one symptom, less that of another."""

    strategy: str
    other: str
    metric: str = "f1"
    symptom: str = OVERALL
    other_symptom: str = OVERALL

    def __str__(self) -> str:
        if self.strategy == self.other:
            return f"{self.strategy}, {self.symptom} − {self.other_symptom}"
        of = "" if self.symptom == OVERALL else f", {self.symptom}"
        return f"{self.strategy} − {self.other}{of}"


@dataclass(frozen=True)
class Claim:
    """What the paper says, as differences that must all be more than ``least``."""

    words: str
    comparisons: tuple[Comparison, ...]
    least: float = 0.0


@dataclass(frozen=True)
class Difference:
    """With its 95 % interval."""

    point: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.point:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


_COMPRESSED = ("distillation", "pruning", "low_rank", "quantization")
_ALL = ("baseline", *_COMPRESSED)


def _best(strategy: str, others: Sequence[str], metric: str = "f1") -> tuple[Comparison, ...]:
    return tuple(Comparison(strategy, other, metric) for other in others if other != strategy)


def _to_baseline(*strategies: str, metric: str = "f1") -> tuple[Comparison, ...]:
    return tuple(Comparison(strategy, "baseline", metric) for strategy in strategies)


def _between_symptoms(high: Sequence[str], low: Sequence[str]) -> tuple[Comparison, ...]:
    return tuple(Comparison(s, s, "auroc", one, other) for s in _ALL for one in high for other in low if one != other)


def claims() -> tuple[Claim, ...]:
    """What is to be read from the paper's tables, in its own figures."""
    symptoms = tuple(paper_figures().examples)
    pain = tuple(Comparison("baseline", s, "precision", "pain", "pain") for s in ("low_rank", "quantization"))
    return (
        Claim("Compression keeps macro F1 within 0.023 of the baseline", _to_baseline(*_COMPRESSED), -0.023),
        Claim("The baseline has the best macro F1", _best("baseline", _ALL)),
        Claim("Distillation matches the baseline: macro F1 at most 0.01 less", _to_baseline("distillation"), -0.01),
        Claim("Pruning nearly matches it: macro F1 at most 0.01 less", _to_baseline("pruning"), -0.01),
        Claim("Distillation has the best macro F1 of the compressed models", _best("distillation", _COMPRESSED)),
        Claim("Pruning comes next, before low rank and quantization", _best("pruning", ("low_rank", "quantization"))),
        Claim(
            "Quantization costs the most macro F1",
            tuple(Comparison(s, "quantization") for s in _ALL if s != "quantization"),
        ),
        Claim(
            "Compression keeps macro AUROC: at most 0.001 less than the baseline's",
            _to_baseline(*_COMPRESSED, metric="auroc"),
            -0.001,
        ),
        Claim("Distillation has the best macro AUROC of all", _best("distillation", _ALL, "auroc")),
        Claim("Edema has the lowest AUROC of the five symptoms everywhere", _between_symptoms(symptoms, ["edema"])),
        Claim("Cough has the highest AUROC of the five symptoms everywhere", _between_symptoms(["cough"], symptoms)),
        Claim("Low rank and quantization say pain too often: its precision is less than the baseline's", pain),
    )


class PaperDifferences:
    """The paper's. Which model had which example right is not known, so intervals have a widest and a narrowest."""

    def __init__(self, paper: PaperFigures) -> None:
        self._paper = paper

    def widest(self, comparison: Comparison) -> Difference:
        """As if the two shared no errors but by chance."""
        one = self._paper.figures[comparison.strategy, comparison.symptom, comparison.metric]
        other = self._paper.figures[comparison.other, comparison.other_symptom, comparison.metric]
        point, reach = one.value - other.value, REACH * math.hypot(one.error, other.error)
        return Difference(point, point - reach, point + reach)

    def narrowest(self, comparison: Comparison) -> Difference:
        """As if all that one model has right the other had, too; that is known of overall figures, by accuracy."""
        overall = comparison.symptom == OVERALL and comparison.metric != "auroc"
        error = self._paper.least_error(comparison.strategy, comparison.other) if overall else 0.0
        point = self.widest(comparison).point
        return Difference(point, point - REACH * error, point + REACH * error)

    def judged(self, claim: Claim) -> tuple[str, str]:
        """Verdict, and the difference that is nearest to failing the claim."""
        widest = {comparison: self.widest(comparison) for comparison in claim.comparisons}
        narrowest = {comparison: self.narrowest(comparison) for comparison in claim.comparisons}
        if all(difference.low > claim.least for difference in widest.values()):
            verdict = SUPPORTED
        else:
            fails = any(difference.low <= claim.least for difference in narrowest.values())
            verdict = NOT_SUPPORTED if fails else UNKNOWN
        nearest = min(narrowest, key=lambda comparison: (narrowest[comparison].low, widest[comparison].low))
        reaches = [its.high - its.point for its in (narrowest[nearest], widest[nearest])]
        shown = " to ".join(f"{reach:.3f}" for reach in reaches if reach > 0)
        return verdict, f"{nearest} {widest[nearest].point:+.3f} ± {shown}"


class OurDifferences:
    """The run's: those to the baseline as ``statistics.json`` has them, others by the same test."""

    def __init__(self, run: Run, statistics: Mapping[str, Any] | None) -> None:
        self._run = run
        self._strategies: Mapping[str, Any] = statistics["strategies"] if statistics else {}
        self._why_none = statistics["undefined_note"] if statistics else f"there is no {STATISTICS} yet"

    def difference(self, comparison: Comparison) -> Difference | str:
        """Or why there is none."""
        if not self._strategies:
            return str(self._why_none)
        for strategy in (comparison.strategy, comparison.other):
            if strategy not in self._strategies:
                return f"the run has no evaluated model of {strategy}"
        for symptom in (comparison.symptom, comparison.other_symptom):
            if symptom not in (OVERALL, *self._run.symptoms):
                return f"{symptom} is no symptom of the run"
        point, low, high = self._interval(comparison)
        if point is None or low is None or high is None:
            return "there is no interval: a figure is not defined, or the models predict the same"
        return Difference(point, low, high)

    def _interval(self, asked: Comparison) -> tuple[float | None, ...]:
        one, other = self._strategies[asked.strategy], self._strategies[asked.other]
        ends = ("point", "low", "high")
        if asked.strategy == asked.other:
            return self._between_symptoms(asked, one["figures"])
        if asked.other == "baseline":
            its = one["differences"][asked.symptom][asked.metric]
            return tuple(its[end] for end in ends)
        if asked.strategy == "baseline":
            its = other["differences"][asked.symptom][asked.metric]
            return tuple(None if its[end] is None else -its[end] for end in ("point", "high", "low"))
        ours, theirs = ([self._models.index(seed) for seed in its["seeds"]] for its in (one, other))
        found = compare(self._resampled, ours, theirs)
        row = 0 if asked.symptom == OVERALL else 1 + self._run.symptoms.index(asked.symptom)
        values = (float(getattr(found, end)[row, METRICS.index(asked.metric)]) for end in ends)
        return tuple(None if math.isnan(value) else value for value in values)

    @staticmethod
    def _between_symptoms(asked: Comparison, figures: Mapping[str, Any]) -> tuple[float | None, ...]:
        """From end to end of the two figures' intervals: rather too wide than too narrow."""
        one, other = figures[asked.symptom][asked.metric], figures[asked.other_symptom][asked.metric]
        if None in (one["low"], other["low"]):
            return None, None, None
        return one["point"] - other["point"], one["low"] - other["high"], one["high"] - other["low"]

    @cached_property
    def _models(self) -> list[str]:
        return [seed for its in self._strategies.values() for seed in its["seeds"]]

    @cached_property
    def _resampled(self) -> Resampled:
        found = [read_predictions(self._run, name, TEST) for name in self._models]
        patients = self._run.examples(TEST).sort_values("id")["patient"].to_numpy()
        probabilities = np.stack([of.probabilities for of in found])
        return resample(found[0].labels, patients, probabilities, resamples=1)  # comparing needs the jackknife alone

    def judged(self, claim: Claim) -> tuple[str, str, str]:
        """Verdict, the difference that decides it or is nearest to, and why, in one sentence."""
        found = {comparison: self.difference(comparison) for comparison in claim.comparisons}
        known = {comparison: its for comparison, its in found.items() if isinstance(its, Difference)}
        against = {comparison: its for comparison, its in known.items() if its.high < claim.least}
        undecided = {comparison: its for comparison, its in known.items() if its.low <= claim.least <= its.high}
        reasons = list(dict.fromkeys(its for its in found.values() if isinstance(its, str)))
        where = "0" if claim.least == 0 else f"{claim.least:+.3f}"
        shown = against or undecided or known
        nearest = min(shown, key=lambda comparison: shown[comparison].low, default=None)
        ours = f"{nearest} {shown[nearest]}" if nearest else "no difference is known"
        if against:
            return NOT_SUPPORTED, ours, f"{_listed(against)}: the whole interval is below {where}"
        if reasons:
            return UNKNOWN, ours, "; ".join(reasons)
        if undecided:
            return UNKNOWN, ours, f"{_listed(undecided)}: the interval holds {where}"
        return SUPPORTED, ours, f"{'every' if len(known) > 1 else 'the'} interval is above {where}"


def _listed(found: Mapping[Comparison, Difference], most: int = 3) -> str:
    names = [str(comparison) for comparison in found]
    return "; ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def compare_paper(run: Run, *, protocol: bool) -> dict[str, Any]:
    """Write ``results/paper.json``, ``.md`` and ``.csv``; returns the first.

    Args:
        protocol: whether the run was made by the author's protocol.
    """
    statistics = read_statistics(run)
    theirs, ours = PaperDifferences(paper_figures()), OurDifferences(run, statistics)
    found: dict[str, Any] = {"protocol": protocol}
    for table, (_, metrics) in TABLES.items():
        found[table] = list(_rows(run, statistics, metrics, by_symptom=table == "table2"))
    found["claims"] = []
    for claim in claims():
        paper_verdict, paper = theirs.judged(claim)
        verdict, our, why = ours.judged(claim)
        found["claims"].append(
            {
                "claim": claim.words,
                "paper": paper,
                "paper_verdict": paper_verdict,
                "ours": our,
                "verdict": verdict,
                "why": why,
            }
        )
    rows = [{"table": table, "symptom": OVERALL, **row} for table in TABLES for row in found[table]]
    run.folder.write(f"{RESULTS}/paper.csv", csv_text(pd.DataFrame(rows, dtype=object)).encode())
    run.folder.write(f"{RESULTS}/paper.md", paper_markdown(found).encode())
    run.folder.write(f"{RESULTS}/paper.json", json.dumps(found, indent=2, allow_nan=False).encode())
    return found


def _rows(
    run: Run, statistics: Mapping[str, Any] | None, metrics: Sequence[str], *, by_symptom: bool
) -> Iterator[dict[str, Any]]:
    """The paper's rows in its order, then those that only the run has."""
    paper = paper_figures()
    symptoms = dict.fromkeys((*paper.examples, *run.symptoms)) if by_symptom else (OVERALL,)
    figures = {strategy: _figures(run, statistics, strategy) for strategy in run.strategies}
    for symptom in symptoms:
        for strategy in dict.fromkeys((*paper.strategies, *run.strategies)):
            for metric in metrics:
                theirs = paper.figures.get((strategy, symptom, metric))
                ours = figures.get(strategy, {}).get(symptom, {}).get(metric, {})
                value = ours.get("point")
                yield {
                    **({"symptom": symptom} if by_symptom else {}),
                    "strategy": strategy,
                    "metric": metric,
                    "paper": theirs.value if theirs else None,
                    "paper_low": theirs.low if theirs else None,
                    "paper_high": theirs.high if theirs else None,
                    "ours": value,
                    "ours_low": ours.get("low"),
                    "ours_high": ours.get("high"),
                    "difference": value - theirs.value if theirs and value is not None else None,
                }


def _figures(run: Run, statistics: Mapping[str, Any] | None, strategy: str) -> Mapping[str, Any]:
    """By symptom and metric; of the best trial and without intervals where there are no statistics yet."""
    if statistics and strategy in statistics["strategies"]:
        of_strategy: Mapping[str, Any] = statistics["strategies"][strategy]["figures"]
        return of_strategy
    best = run.best(strategy, 1)
    evaluated = test_figures(run, best[0].name) if best else None
    if evaluated is None:
        return {}
    scores = {OVERALL: evaluated[TEST], **evaluated[TEST]["per_symptom"]}
    return {name: {m: {"point": its[m]} for m in METRICS if m in its} for name, its in scores.items()}


def shown_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """A table's rows as people read them: figures with their intervals."""
    return [
        {
            **{name: str(row[name]) for name in ("symptom", "strategy", "metric") if name in row},
            "paper": _with_limits(row, "paper"),
            "ours": _with_limits(row, "ours"),
            "ours − paper": "–" if row["difference"] is None else f"{row['difference']:+.4f}",
        }
        for row in rows
    ]


def _with_limits(row: Mapping[str, Any], side: str) -> str:
    value, low, high = row[side], row[f"{side}_low"], row[f"{side}_high"]
    return cell_text(value) if low is None else f"{value:.4f} [{low:.3f}, {high:.3f}]"


def paper_markdown(found: Mapping[str, Any]) -> str:
    parts = ["# Beside the paper\n", f"{PROTOCOL[found['protocol']]}\n", *(f"{note}\n" for note in NOTES)]
    for table, (title, _) in TABLES.items():
        parts += [f"## {title}\n", markdown(pd.DataFrame(shown_rows(found[table])))]
    names = {"claim": "claim", "verdict": "this run", "why": "why", "ours": "nearest to failing, ours",
             "paper_verdict": "the paper's own data", "paper": "nearest to failing, the paper's"}  # fmt: skip
    shown = pd.DataFrame(found["claims"])[list(names)].rename(columns=names)
    return "\n".join([*parts, "## The paper's claims\n", f"{CLAIM_NOTE}\n", markdown(shown)])
