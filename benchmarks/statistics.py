"""Whether intervals contain the true value, and verdicts are right, as often as they claim, on simulated test sets.

    python -m benchmarks.statistics --runs 1000 --json statistics.json

Patients of 1 to 6 examples that are alike, five unbalanced symptoms, models that err on much the same examples.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import norm
from sklearn.metrics import f1_score

from analysis.statistics.comparison import compare, delong, delong_p, mcnemar, swap_test
from analysis.statistics.intervals import LEVEL, bca, figure_intervals
from analysis.statistics.resampling import METRICS, Resampled, resample
from analysis.statistics.seeds import figures_over_seeds
from analysis.statistics.verdict import MARGIN, Outcome, verdicts

SHARES = np.array([0.40, 0.25, 0.18, 0.11, 0.06])
"""Each symptom's share of the examples."""
POPULATION = 40_000
"""Number of patients from which a figure's true value is computed."""
RESAMPLES = 2_000
NEARLY_ALIKE = 0.97
"""Share of the patients whom models that are nearly the same predict alike."""
SPREAD = 0.3
"""Standard deviation between trainings, in logits."""
MACRO_F1 = (0, METRICS.index("f1"))

Figures = dict[str, float]
Sample = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True)
class World:
    """Models as classes of errors.

    Attributes:
        signal: (models,) how much the true symptom stands out.
        own: (models,) standard deviation of what a model errs alone.
        lean: (models, symptoms) what a model adds to each symptom's logit.
        alike: share of the patients of whom the second model predicts what the first does.
        lost: share of the patients in whom the second model predicts the rarest symptom nowhere, and otherwise what
            the first does.
    """

    signal: NDArray[np.float64]
    own: NDArray[np.float64]
    lean: NDArray[np.float64]
    alike: float = 0.0
    lost: float = 0.0

    def draw(self, generator: np.random.Generator, patients: int) -> Sample:
        """Labels (n,), patients (n,) and probabilities (models, n, symptoms)."""
        numbers = np.repeat(np.arange(patients), generator.integers(1, 7, patients))
        examples, symptoms = len(numbers), len(SHARES)
        mix = generator.dirichlet(SHARES * 4, patients).cumsum(axis=1)[numbers]
        labels = (mix < generator.random((examples, 1))).sum(axis=1).clip(max=symptoms - 1)
        of_patient = generator.normal(0, 0.8, (patients, symptoms))[numbers]
        hardness = generator.normal(0, 0.6, patients)[numbers, None]
        common = of_patient + generator.normal(0, 1.2, (examples, symptoms)) + 0.6 * np.log(SHARES)
        truth = np.eye(symptoms)[labels]
        logits = [
            truth * (signal + hardness) + common + lean
            + own * generator.normal(0, 1, (examples, symptoms))
            + 0.4 * own * generator.normal(0, 1, (patients, symptoms))[numbers]
            for signal, own, lean in zip(self.signal, self.own, self.lean, strict=True)
        ]  # fmt: skip
        powers = np.exp(np.stack(logits))
        alike = (generator.random(patients) < self.alike)[numbers]
        powers[1:2, alike] = powers[0, alike]
        if self.lost:
            powers[1] = powers[0]
            powers[1, (generator.random(patients) < self.lost)[numbers], -1] = 0
        return labels, numbers, powers / powers.sum(axis=-1, keepdims=True)

    def truth(self) -> NDArray[np.float64]:
        """(models, 1 + symptoms, metrics) figures on the population."""
        labels, patients, probabilities = self.draw(np.random.default_rng(2**32), POPULATION)
        return resample(labels, patients % 2, probabilities, resamples=1).point

    def true_f1(self, model: int) -> float:
        labels, _, probabilities = self.draw(np.random.default_rng(2**32), POPULATION)
        return float(f1_score(labels, probabilities[model].argmax(axis=1), average="macro"))


def equals(models: int) -> World:
    """Models that are equal by construction."""
    return World(np.full(models, 4.2), np.full(models, 0.8), np.zeros((models, len(SHARES))))


def amount_of(change: Callable[[World, float], World], f1: float) -> float:
    """How much of the change brings the second of two equal models to this macro F1, by bisection."""
    low, high = 0.0, 8.0
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (middle, high) if change(equals(2), middle).true_f1(1) > f1 else (low, middle)
    return low


def weaker(world: World, amount: float) -> World:
    """All but the first model see less."""
    signal = world.signal - amount
    return replace(world, signal=np.concatenate([world.signal[:1], signal[1:]]))


def otherwise(world: World, amount: float) -> World:
    """All but the first are less noisy, and lean towards the common symptoms."""
    lean = np.outer(np.arange(len(world.own)) > 0, amount * np.linspace(1, -1, len(SHARES)))
    return replace(world, own=np.where(np.arange(len(world.own)) > 0, 0.5, world.own), lean=lean)


def rarest_lost(world: World, amount: float) -> World:
    """All but the first predict as the first does, but for the rarest symptom, of which they are less sure."""
    lean = np.zeros((len(world.own), len(SHARES)))
    lean[1:, -1] = -amount
    return replace(world, own=np.full(len(world.own), 0.05), lean=lean)


def nearly_alike(world: World, amount: float) -> World:
    """The second differs from the first in few patients, and sees less in these."""
    signal = world.signal - amount * (np.arange(len(world.signal)) == 1)
    return replace(world, signal=signal, alike=NEARLY_ALIKE)


def rarest_lost_in_few(world: World, amount: float) -> World:
    """The second predicts the rarest symptom in fewer patients than the first does, and is the same otherwise."""
    return replace(world, lost=amount / 8)


def trained(generator: np.random.Generator, strategies: int, seeds: int, spread: float) -> World:
    """Strategies that are equal but for the luck of each training."""
    models = strategies * seeds
    lean = generator.normal(0, spread, (models, len(SHARES)))
    return World(4.2 + generator.normal(0, spread, models), np.full(models, 0.8), lean)


def resampled(sample: Sample, resamples: int = RESAMPLES) -> Resampled:
    return resample(*sample, resamples=resamples)


def figure_coverage(generator: np.random.Generator, patients: int, runs: int) -> Figures:
    """How often the interval of one model's figure contains the true value."""
    world = equals(1)
    truth = world.truth()[0]
    hits = []
    for _ in range(runs):
        found = figure_intervals(resampled(world.draw(generator, patients)).mean([0]))
        hits.append((found.low <= truth) & (truth <= found.high))
    return by_figure(np.mean(hits, axis=0))


def by_figure(shares: NDArray[np.float64]) -> Figures:
    """Overall figures, and of the symptoms' F1 and AUROC the mean and the rarest symptom's."""
    overall = dict(zip(METRICS, shares[0].tolist(), strict=True))
    for name in ("f1", "auroc"):
        column = shares[1:, METRICS.index(name)]
        overall |= {f"{name}, by symptom": float(column.mean()), f"{name}, rarest symptom": float(column[-1])}
    return overall


def difference_coverage(
    generator: np.random.Generator, patients: int, runs: int, world: World | None = None, of_bca: bool = False
) -> Figures:
    """How often the interval of two models' difference contains the true value; ``of_bca``: a BCa interval.

    Without a world the models are equal by construction.
    """
    truth = np.subtract(*world.truth()[::-1]) if world else 0.0
    world = world or equals(2)
    hits = []
    for _ in range(runs):
        found = resampled(world.draw(generator, patients), RESAMPLES if of_bca else 1)
        if of_bca:
            low, high = bca(found.difference([1], [0]), norm.ppf((1 + LEVEL) / 2))
        else:
            differences = compare(found, [1], [0])
            low, high = differences.low, differences.high
        hits.append(np.where(np.isnan(low), np.nan, (low <= truth) & (truth <= high)))
    return by_figure(np.nanmean(hits, axis=0))


def false_alarms(generator: np.random.Generator, patients: int, runs: int, world: World | None = None) -> Figures:
    """How often each test at 5 % sees a difference of two models that are equal."""
    world = world or equals(2)
    found = []
    for _ in range(runs):
        labels, numbers, probabilities = sample = world.draw(generator, patients)
        drawn = resampled(sample, 1)
        t_test, swap = compare(drawn, [1], [0]).p[0], swap_test(drawn, 1, 0, permutations=2_000)[0]
        ours, theirs = probabilities[1].argmax(axis=1), probabilities[0].argmax(axis=1)
        one = labels == 0
        found.append(
            {
                "accuracy, McNemar": mcnemar(ours == labels, theirs == labels).p,
                "accuracy, swaps": swap[0],
                "F1, swaps": swap[METRICS.index("f1")],
                "F1, t": t_test[METRICS.index("f1")],
                "AUROC, t": t_test[METRICS.index("auroc")],
                "one symptom's AUROC, DeLong": delong_p(*delong(one, probabilities[:2, :, 0])),
                "the same, by patient": delong_p(*delong(one, probabilities[:2, :, 0], numbers)),
            }
        )
    return {name: float(np.mean([row[name] <= 0.05 for row in found])) for name in found[0]}


def said(generator: np.random.Generator, patients: int, runs: int, world: World, judged: int | None = None) -> Figures:
    """How often a verdict is said of any strategy: of all models against the first, or of this many after it."""
    compared = {str(model): ([model], [0]) for model in range(1, len(world.own) if judged is None else 1 + judged)}
    outcomes = []
    for _ in range(runs):
        found = verdicts(resampled(world.draw(generator, patients), 1), compared).values()
        outcomes.append(
            {
                "better or worse": any(v.outcome in (Outcome.BETTER, Outcome.WORSE) for v in found),
                "not worse": any(v.not_worse for v in found),
                "not known": all(v.outcome is Outcome.NOT_KNOWN for v in found),
            }
        )
    return {name: float(np.mean([row[name] for row in outcomes])) for name in outcomes[0]}


def expected_f1(spread: float, trainings: int) -> float:
    """Macro F1 of a strategy whose trainings differ by luck, over all trainings."""
    generator = np.random.default_rng(2**32)
    return float(np.mean([trained(generator, 1, 1, spread).true_f1(0) for _ in range(trainings)]))


def over_seeds(
    generator: np.random.Generator, patients: int, runs: int, seeds: int, spread: float, trainings: int = 100
) -> Figures:
    """How often intervals of a mean over seeds, and of a difference, contain the true value; trainings differ by luck.

    The true mean is estimated from this number of ``trainings``.
    """
    truth = expected_f1(spread, trainings)
    ours, theirs = list(range(seeds)), list(range(seeds, 2 * seeds))
    found = []
    for _ in range(runs):
        drawn = resampled(trained(generator, 2, seeds, spread).draw(generator, patients))
        mean = figures_over_seeds(drawn, ours).intervals
        alone = figure_intervals(drawn.mean(ours))
        both = drawn.replicates[:, ours, 0, MACRO_F1[1]]
        picks = generator.integers(0, seeds, (len(both), seeds))
        low, high = np.quantile(np.take_along_axis(both, picks, axis=1).mean(axis=1), [0.025, 0.975])
        difference = compare(drawn, ours, theirs)
        found.append(
            {
                "mean": mean.low[MACRO_F1] <= truth <= mean.high[MACRO_F1],
                "mean, patients alone": alone.low[MACRO_F1] <= truth <= alone.high[MACRO_F1],
                "mean, seeds resampled": low <= truth <= high,
                "difference": difference.low[MACRO_F1] <= 0 <= difference.high[MACRO_F1],
            }
        )
    return {name: float(np.mean([row[name] for row in found])) for name in found[0]}


def experiments(runs: int) -> dict[str, Callable[[np.random.Generator], Figures]]:
    """Name to simulation."""
    pair, six = equals(2), equals(6)
    base = pair.true_f1(0)
    unlike = otherwise(pair, amount_of(otherwise, base))
    worse = weaker(six, amount_of(weaker, base - MARGIN))
    lost = rarest_lost(six, amount_of(rarest_lost, rarest_lost(pair, 0.0).true_f1(0) - MARGIN))
    found: dict[str, Callable[[np.random.Generator], Figures]] = {}
    for patients in (100, 200, 300):
        of = {"patients": patients, "runs": runs}
        found[f"coverage, {patients} patients"] = partial(figure_coverage, **of)
        found[f"coverage of differences, {patients} patients"] = partial(difference_coverage, **of)
    for patients in (100, 200):
        of = {"patients": patients, "runs": runs}
        found[f"said of 5 equal strategies, {patients} patients"] = partial(said, **of, world=six)
        found[f"said of 5 worse by the margin, {patients} patients"] = partial(said, **of, world=worse)
        found[f"the same, lost in the rarest symptom alone, {patients} patients"] = partial(said, **of, world=lost)
    near = nearly_alike(six, amount_of(nearly_alike, base - MARGIN))
    few_lost = rarest_lost_in_few(six, amount_of(rarest_lost_in_few, base - MARGIN))
    for patients in (100, 300, 1_000):
        of = {"patients": patients, "runs": runs}
        found[f"nearly the same model, worse by the margin, {patients} patients"] = partial(
            said, **of, world=near, judged=1
        )
        found[f"nearly the same model, the margin lost in the rarest symptom alone, {patients} patients"] = partial(
            said, **of, world=few_lost, judged=1
        )
        found[f"nearly the same model, as good, {patients} patients"] = partial(
            said, **of, world=nearly_alike(six, 0.0), judged=1
        )
    of = {"patients": 100, "runs": runs}
    found["coverage of differences by BCa, 100 patients"] = partial(difference_coverage, **of, of_bca=True)
    found["coverage of differences of unlike models, 100 patients"] = partial(difference_coverage, **of, world=unlike)
    found["false alarms of tests, 100 patients"] = partial(false_alarms, **of)
    found["false alarms, unlike models of equal F1, 100 patients"] = partial(false_alarms, **of, world=unlike)
    for seeds in (2, 3, 5):
        found[f"{seeds} seeds, 100 patients"] = partial(over_seeds, **of, seeds=seeds, spread=SPREAD)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=1_000, help="simulated test sets, of each kind")
    parser.add_argument("--only", default="", help="the simulations whose names hold this")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    console = Console(width=110)
    record = {}
    for name, simulate in experiments(options.runs).items():
        if options.only in name:
            record[name] = simulate(np.random.default_rng(0))
            console.print(f"{name} ({options.runs} runs)")
            table = Table()
            for column in record[name]:
                table.add_column(column, justify="right")
            table.add_row(*(f"{share:.3f}" for share in record[name].values()))
            console.print(table)
    if options.json:
        options.json.write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
