"""A run compared with the paper: its two tables with intervals, and which of the paper's claims the run supports."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from analysis.evaluation.evaluate import read_evaluation
from analysis.evaluation.predictions import TEST, read_predictions
from analysis.evaluation.result_files import read_result, warn_of_damage, write_result
from analysis.evaluation.run_statistics import (
    STATISTICS,
    Interval,
    Statistics,
    StrategyStatistics,
    patients_of,
    read_statistics,
    resampled_figures,
)
from analysis.paper.protocols import PaperProtocol, protocol_of
from analysis.paper.published import REACH, PaperFigures, paper_figures
from analysis.statistics.comparison import compare
from analysis.statistics.resampling import METRICS, OVERALL, Resampled
from analysis.text_tables import Row, cell_text, csv_text, markdown
from run_folder.errors import InputError
from run_folder.names import RESULTS
from run_folder.records import to_plain
from run_folder.results import Scores
from run_folder.run import Run
from trainables.references import BASELINE

PAPER = f"{RESULTS}/paper.json"
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
    "The paper's models are those after epoch 5; ours are those of each trial's best epoch, unless the run was "
    "launched with --deploy last.",
)
FOLLOWS: Mapping[PaperProtocol | None, str] = {
    "paper": "This run follows the paper as written (the settings of --protocol paper).",
    "author": "This run follows the author's own run (the settings of --protocol author).",
    None: "This run follows neither the paper as written nor the author's own run (--protocol).",
}
CLAIM_NOTE = (
    "A claim is supported where the 95 % interval of every difference that it needs lies where the claim says, and not "
    "supported where one lies elsewhere. The paper's data support it where even the widest interval does (no error "
    "shared by two models), and do not where even the narrowest does not (all shared). With one seed, what is said is "
    "of these models, not of what their configurations would give again."
)


@dataclass(frozen=True, kw_only=True)
class ComparedFigure:
    """A figure of the paper and the run's, each with its 95 % interval; None where one of them lacks it.

    Attributes:
        symptom: of Table II.
        difference: ours minus the paper's.
    """

    symptom: str | None = None
    strategy: str
    metric: str
    paper: float | None
    paper_low: float | None
    paper_high: float | None
    ours: float | None
    ours_low: float | None
    ours_high: float | None
    difference: float | None


@dataclass(frozen=True, kw_only=True)
class JudgedClaim:
    """A claim of the paper, the verdicts on it, and for each the difference that is nearest to failing it.

    Attributes:
        paper, paper_verdict: by the paper's own data; ours, verdict: by the run.
        why: the run's verdict.
    """

    claim: str
    paper: str
    paper_verdict: str
    ours: str
    verdict: str
    why: str


@dataclass(frozen=True, kw_only=True)
class PaperComparison:
    """What ``results/paper.json`` holds.

    Attributes:
        follows: the protocol whose settings the run has.
    """

    follows: PaperProtocol | None = None
    table1: tuple[ComparedFigure, ...]
    table2: tuple[ComparedFigure, ...]
    claims: tuple[JudgedClaim, ...]

    @property
    def tables(self) -> Mapping[str, tuple[ComparedFigure, ...]]:
        """By the names in ``TABLES``."""
        return {"table1": self.table1, "table2": self.table2}


@dataclass(frozen=True)
class Comparison:
    """A figure of one model, or of one symptom, minus that of another."""

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
    """A difference with its 95 % interval."""

    point: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.point:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


_COMPRESSED = ("distillation", "pruning", "low_rank", "quantization")
_ALL = (BASELINE, *_COMPRESSED)


def _best(strategy: str, others: Sequence[str], metric: str = "f1", symptom: str = OVERALL) -> tuple[Comparison, ...]:
    return tuple(Comparison(strategy, other, metric, symptom, symptom) for other in others if other != strategy)


def _to_baseline(*strategies: str, metric: str = "f1") -> tuple[Comparison, ...]:
    return tuple(Comparison(strategy, BASELINE, metric) for strategy in strategies)


def _between_symptoms(high: Sequence[str], low: Sequence[str]) -> tuple[Comparison, ...]:
    return tuple(Comparison(s, s, "auroc", one, other) for s in _ALL for one in high for other in low if one != other)


def claims() -> tuple[Claim, ...]:
    """What the paper's tables say, in its own figures."""
    symptoms = tuple(paper_figures().examples)
    pain = tuple(Comparison(BASELINE, s, "precision", "pain", "pain") for s in ("low_rank", "quantization"))
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
        Claim("Quantization has the best precision in cough", _best("quantization", _ALL, "precision", "cough")),
        Claim("Quantization has the best AUROC in fever", _best("quantization", _ALL, "auroc", "fever")),
    )


class PaperDifferences:
    """Differences in the paper. Which model had which example right is not known, so intervals have a widest and a
    narrowest."""

    def __init__(self, paper: PaperFigures) -> None:
        self._paper = paper

    def widest(self, comparison: Comparison) -> Difference:
        """As if the two models shared errors by chance alone."""
        one = self._paper.figures[comparison.strategy, comparison.symptom, comparison.metric]
        other = self._paper.figures[comparison.other, comparison.other_symptom, comparison.metric]
        point, reach = one.value - other.value, REACH * math.hypot(one.error, other.error)
        return Difference(point, point - reach, point + reach)

    def narrowest(self, comparison: Comparison) -> Difference:
        """As if one model had every example right that the other has; from accuracy, so for overall figures alone."""
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
        reaches = [difference.high - difference.point for difference in (narrowest[nearest], widest[nearest])]
        shown = " to ".join(f"{reach:.3f}" for reach in reaches if reach > 0)
        return verdict, f"{nearest} {widest[nearest].point:+.3f} ± {shown}"


class OurDifferences:
    """Differences in the run: from the baseline as ``statistics.json`` has them, others by the same test."""

    def __init__(self, run: Run, statistics: Statistics | None) -> None:
        self._run = run
        self._strategies: Mapping[str, StrategyStatistics] = statistics.strategies if statistics else {}
        self._why_none = statistics.undefined_note if statistics else f"there is no {STATISTICS} yet"

    def difference(self, comparison: Comparison) -> Difference | str:
        """The difference, or why there is none."""
        if not self._strategies:
            return str(self._why_none)
        for strategy in (comparison.strategy, comparison.other):
            if strategy not in self._strategies:
                return f"the run has no evaluated model of {strategy}"
        for symptom in (comparison.symptom, comparison.other_symptom):
            if symptom not in (OVERALL, *self._run.symptoms):
                return f"{symptom} is no symptom of the run"
        found = self._difference(comparison)
        return found or "there is no interval: a figure is not defined, or the models predict the same"

    def _difference(self, asked: Comparison) -> Difference | None:
        one, other = self._strategies[asked.strategy], self._strategies[asked.other]
        if asked.strategy == asked.other:
            return self._between_symptoms(asked, one.figures)
        if asked.other == BASELINE and one.differences:
            return _defined(one.differences[asked.symptom][asked.metric])
        if asked.strategy == BASELINE and other.differences:
            found = _defined(other.differences[asked.symptom][asked.metric])
            return Difference(-found.point, -found.high, -found.low) if found else None
        ours, theirs = ([self._models.index(seed) for seed in strategy.seeds] for strategy in (one, other))
        compared = compare(self._resampled, ours, theirs)
        position = (
            (0 if asked.symptom == OVERALL else 1 + self._run.symptoms.index(asked.symptom)),
            METRICS.index(asked.metric),
        )
        ends = [float(values[position]) for values in (compared.point, compared.low, compared.high)]
        return None if any(map(math.isnan, ends)) else Difference(*ends)

    @staticmethod
    def _between_symptoms(asked: Comparison, figures: Mapping[str, Mapping[str, Interval]]) -> Difference | None:
        """From end to end of the two figures' intervals: rather too wide than too narrow."""
        one = _defined(figures[asked.symptom][asked.metric])
        other = _defined(figures[asked.other_symptom][asked.metric])
        if one is None or other is None:
            return None
        return Difference(one.point - other.point, one.low - other.high, one.high - other.low)

    @cached_property
    def _models(self) -> list[str]:
        return [seed for strategy in self._strategies.values() for seed in strategy.seeds]

    @cached_property
    def _resampled(self) -> Resampled:
        kept = {name: read_predictions(self._run, name, TEST) for name in self._models}
        found = [predictions for predictions in kept.values() if predictions is not None]
        if len(found) < len(kept):
            raise InputError(f"{self._run.folder}: a model's predictions are missing; evaluate the run again")
        patients = patients_of(self._run, found[0])
        return resampled_figures(found, patients, resamples=1)  # comparing needs the jackknife alone

    def judged(self, claim: Claim) -> tuple[str, str, str]:
        """Verdict, the difference that decides it or is nearest to, and why, in one sentence."""
        found = {comparison: self.difference(comparison) for comparison in claim.comparisons}
        known = {
            comparison: difference for comparison, difference in found.items() if isinstance(difference, Difference)
        }
        against = {comparison: difference for comparison, difference in known.items() if difference.high < claim.least}
        undecided = {
            comparison: difference
            for comparison, difference in known.items()
            if difference.low <= claim.least <= difference.high
        }
        reasons = list(dict.fromkeys(difference for difference in found.values() if isinstance(difference, str)))
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


def _defined(figure: Interval) -> Difference | None:
    """A figure all of whose parts are defined."""
    if figure.point is None or figure.low is None or figure.high is None:
        return None
    return Difference(figure.point, figure.low, figure.high)


def _listed(found: Mapping[Comparison, Difference], most: int = 3) -> str:
    names = [str(comparison) for comparison in found]
    return "; ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def compare_paper(run: Run) -> PaperComparison:
    """Write ``results/paper.json``, ``.md`` and ``.csv``.

    Returns:
        what the JSON file holds.
    """
    statistics = read_statistics(run)
    theirs, ours = PaperDifferences(paper_figures()), OurDifferences(run, statistics)
    judged = []
    for claim in claims():
        paper_verdict, paper = theirs.judged(claim)
        verdict, our, why = ours.judged(claim)
        judged.append(
            JudgedClaim(claim=claim.words, paper=paper, paper_verdict=paper_verdict, ours=our, verdict=verdict, why=why)
        )
    found = PaperComparison(
        follows=protocol_of(run.settings),
        table1=tuple(_rows(run, statistics, METRICS, by_symptom=False)),
        table2=tuple(_rows(run, statistics, METRICS[1:], by_symptom=True)),
        claims=tuple(judged),
    )
    rows = [
        {"table": table, "symptom": OVERALL, **to_plain(row)} for table, rows in found.tables.items() for row in rows
    ]
    run.folder.write(f"{RESULTS}/paper.csv", csv_text(pd.DataFrame(rows, dtype=object)).encode())
    run.folder.write(f"{RESULTS}/paper.md", paper_markdown(found).encode())
    write_result(run, PAPER, found)
    return found


def read_paper(run: Run) -> PaperComparison | None:
    """What ``compare_paper`` wrote, or None where there is nothing, or the file is damaged."""
    if not run.folder.exists(PAPER) and run.folder.exists(PAPER.replace(".json", ".md")):
        warn_of_damage(run, PAPER, "compare-paper")
    found = read_result(run, PAPER, PaperComparison, made_by="compare-paper")
    return found and replace(found, follows=protocol_of(run.settings))  # which files of older versions lack


def _rows(
    run: Run, statistics: Statistics | None, metrics: Sequence[str], *, by_symptom: bool
) -> Iterator[ComparedFigure]:
    """The paper's rows in its order, then those that only the run has."""
    paper = paper_figures()
    symptoms = dict.fromkeys((*paper.examples, *run.symptoms)) if by_symptom else (OVERALL,)
    figures = {strategy: _figures(run, statistics, strategy) for strategy in run.strategies}
    for symptom in symptoms:
        for strategy in dict.fromkeys((*paper.strategies, *run.strategies)):
            for metric in metrics:
                theirs = paper.figures.get((strategy, symptom, metric))
                ours = figures.get(strategy, {}).get(symptom, {}).get(metric, _NOTHING)
                yield ComparedFigure(
                    symptom=symptom if by_symptom else None,
                    strategy=strategy,
                    metric=metric,
                    paper=theirs.value if theirs else None,
                    paper_low=theirs.low if theirs else None,
                    paper_high=theirs.high if theirs else None,
                    ours=ours.point,
                    ours_low=ours.low,
                    ours_high=ours.high,
                    difference=ours.point - theirs.value if theirs and ours.point is not None else None,
                )


_NOTHING = Interval(point=None, low=None, high=None)


def _figures(run: Run, statistics: Statistics | None, strategy: str) -> Mapping[str, Mapping[str, Interval]]:
    """By symptom and metric; of the best trial and without intervals where there are no statistics yet."""
    if statistics and strategy in statistics.strategies:
        return statistics.strategies[strategy].figures
    best = run.best(strategy, 1)
    evaluated = read_evaluation(run, best[0].name) if best else None
    if evaluated is None:
        return {}
    scores: dict[str, Scores] = {OVERALL: evaluated.test, **evaluated.test.per_symptom}
    return {
        name: {
            metric: Interval(point=getattr(of, metric), low=None, high=None)
            for metric in (METRICS if name == OVERALL else METRICS[1:])
        }
        for name, of in scores.items()
    }


def shown_rows(rows: Sequence[ComparedFigure]) -> list[Row]:
    """A table's rows as people read them: figures with their intervals."""
    return [
        {
            **({} if row.symptom is None else {"symptom": row.symptom}),
            "strategy": row.strategy,
            "metric": row.metric,
            "paper": _with_limits(row.paper, row.paper_low, row.paper_high),
            "ours": _with_limits(row.ours, row.ours_low, row.ours_high),
            "ours − paper": "–" if row.difference is None else f"{row.difference:+.4f}",
        }
        for row in rows
    ]


def _with_limits(value: float | None, low: float | None, high: float | None) -> str:
    return cell_text(value) if low is None else f"{value:.4f} [{low:.3f}, {high:.3f}]"


def paper_markdown(found: PaperComparison) -> str:
    """The comparison as a Markdown page."""
    parts = ["# Compared with the paper\n", f"{FOLLOWS[found.follows]}\n", *(f"{note}\n" for note in NOTES)]
    for table, (title, _) in TABLES.items():
        parts += [f"## {title}\n", markdown(pd.DataFrame(shown_rows(found.tables[table])))]
    names = {"claim": "claim", "verdict": "this run", "why": "why", "ours": "nearest to failing, ours",
             "paper_verdict": "the paper's own data", "paper": "nearest to failing, the paper's"}  # fmt: skip
    shown = pd.DataFrame(to_plain(found.claims))[list(names)].rename(columns=names)
    return "\n".join([*parts, "## The paper's claims\n", f"{CLAIM_NOTE}\n", markdown(shown)])
