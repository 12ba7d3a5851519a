"""Which models along the front of quality against cost are shown to be no worse than the baseline."""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from analysis.evaluation.costs import read_costs
from analysis.evaluation.predictions import TEST, Predictions, read_predictions
from analysis.evaluation.references import reference_in
from analysis.evaluation.result_files import read_result, write_result
from analysis.evaluation.run_statistics import patients_of, resampled_figures
from analysis.evaluation.wishes import NO_WISHES, Wishes
from analysis.statistics.fixed_sequence import ALPHA, NotWorse, not_worse, proven_in_turn
from run_folder.errors import DamagedFileWarning
from run_folder.names import DEPLOYED, RESULTS, TRIALS
from run_folder.records import to_plain
from run_folder.run import Run
from run_folder.trials import Objective, TrialRecord, pareto_front
from trainables.references import BASELINE

FRONT = f"{RESULTS}/front.json"
Cost = Literal["bytes", "latency"]
COSTS: tuple[Cost, ...] = ("bytes", "latency")
_DIRECTIONS: tuple[Objective, ...] = (("f1", "maximize"), ("cost", "minimize"))
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class FrontMember:
    """A model that no other surpasses in both validation macro F1 and cost, and that costs less than the baseline.

    Attributes:
        cost: bytes on disk, or seconds of one text on one thread.
        reference: the trial that it is compared with; None where no baseline was trained for as long.
        found: on the test set; None where the reference has not been evaluated.
        proven: whether it is shown to be no worse by more than the margin; None: not tested, since a larger one failed
            or it has no reference.
        missed: see ``Wishes.missed``.
    """

    trial: str
    cost: float
    reference: str | None
    found: NotWorse | None
    proven: bool | None
    missed: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Fronts:
    """What ``results/front.json`` holds: by cost, the front's members, the costliest first, as they were tested.

    Attributes:
        identity: of the predictions, costs and settings that it was computed from.
        prefer: by which cost a model is recommended.
        wishes: what it must fulfil.
    """

    identity: str
    margin: float
    level: float
    prefer: Cost
    wishes: Wishes = NO_WISHES
    members: Mapping[Cost, tuple[FrontMember, ...]]

    @property
    def proven(self) -> list[FrontMember]:
        """The members that are proven, by the preferred cost, the one that costs least first."""
        return [member for member in reversed(self.members.get(self.prefer, ())) if member.proven]

    @property
    def smallest_proven(self) -> FrontMember | None:
        """The member that costs least of those that are proven and fulfil all wishes."""
        return next((member for member in self.proven if not member.missed), None)

    @property
    def nearest_proven(self) -> FrontMember | None:
        """Of the proven members that miss a wish the one that misses it by least."""
        measured = [member for member in self.proven if member.missed and None not in member.missed.values()]
        return min(measured, key=lambda member: max(filter(None, member.missed.values())), default=None)


def on_front(run: Run) -> list[str]:
    """Trials to evaluate: those with a model on the storage that no other surpasses in validation and size, or in work.

    Multiply–accumulates stand in for latency, which is measured later.
    """
    left = [
        trial
        for trial in run.trials.values()
        if trial.state == "finished" and trial.of_search and trial.strategy != BASELINE and _has_model(run, trial)
    ]
    found: dict[str, None] = {}
    for cost in ("bytes", "macs"):
        points = [[trial.score, trial.figure(cost)] for trial in left]
        found |= {t.name: None for t, is_on in zip(left, pareto_front(points, _DIRECTIONS), strict=True) if is_on}
    return list(found)


def with_references(run: Run, names: Sequence[str]) -> list[str]:
    """These trials and the baselines that they are compared with."""
    references = (reference_in(run, run.trials[name]) for name in names)
    return [*names, *(reference.name for reference in references if reference is not None)]


def _has_model(run: Run, trial: TrialRecord) -> bool:
    return bool(run.folder.names(f"{TRIALS}/{trial.name}/{DEPLOYED}"))


def write_fronts(run: Run, margin: float, prefer: Cost, wishes: Wishes = NO_WISHES) -> None:
    """Test the evaluated models along the fronts, the costliest first, and write ``results/front.json``.

    The fronts and their order come from validation figures and costs alone.
    """
    kept = _evaluated(run)
    _warn_of_lost_models(run, kept)
    baseline = next(iter(run.best(BASELINE, 1)), None) if BASELINE in run.strategies else None
    if baseline is None or baseline.name not in kept:
        return
    orders = {cost: order for cost in COSTS if (order := _order(run, cost, kept, baseline)) is not None}
    references = {name: other.name for name in sorted(kept) if (other := reference_in(run, run.trials[name]))}
    digests = {name: predictions.digest for name, predictions in kept.items()}
    latencies = {name: costs.latency_median for name, costs in read_costs(run).cpu.items()}
    missed = {
        name: wishes.missed(run.trials[name].deployed.bytes, latencies.get(name), latencies.get(baseline.name))
        for order in orders.values()
        for name, _ in order
    }
    asked = [_VERSION, digests, orders, references, margin, prefer, *([to_plain(wishes), missed] if wishes else [])]
    identity = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    known = read_fronts(run)
    if known is not None and known.identity == identity:
        return
    pairs = {name: references[name] for order in orders.values() for name, _ in order if name in references}
    found = _compared(run, kept, pairs, margin)
    members = {cost: _in_turn(order, references, found, missed) for cost, order in orders.items()}
    fronts = Fronts(identity=identity, margin=margin, level=1 - ALPHA, prefer=prefer, wishes=wishes, members=members)
    write_result(run, FRONT, fronts, indent=1)


def read_fronts(run: Run) -> Fronts | None:
    """What ``write_fronts`` wrote, or None where there is nothing, or the file is damaged."""
    return read_result(run, FRONT, Fronts)


def tested_front(run: Run) -> list[str]:
    """The trials that were tested along the fronts."""
    known = read_fronts(run)
    if known is None:
        return []
    return list(dict.fromkeys(m.trial for members in known.members.values() for m in members if m.trial in run.trials))


def preferred(run: Run) -> Cost:
    """The cost that was preferred last, else bytes."""
    known = read_fronts(run)
    return known.prefer if known else "bytes"


def wished(run: Run) -> Wishes:
    """What was wished last; else what the search was asked for."""
    known = read_fronts(run)
    return known.wishes if known else Wishes(at_most=run.settings.search.at_most)


def _evaluated(run: Run) -> dict[str, Predictions]:
    """Predictions on the test set of the trials of the search, and of further cycles, that were evaluated."""
    finished = [trial.name for trial in run.trials.values() if trial.state == "finished" and not trial.repeats]
    read = {name: read_predictions(run, name, TEST) for name in finished}
    return {name: predictions for name, predictions in read.items() if predictions is not None}


def _warn_of_lost_models(run: Run, kept: Mapping[str, Predictions]) -> None:
    """Tell of strategies' best models that were evaluated and are not on the storage any more."""
    best = [trial for strategy in run.strategies for trial in run.best(strategy, 1)]
    lost = [trial.name for trial in best if trial.name in kept and not _has_model(run, trial)]
    if lost:
        message = f"the models of {', '.join(lost)} are missing, and cannot be recommended; restore them from a copy"
        warnings.warn(f"{run.folder}: {message}", DamagedFileWarning, stacklevel=2)


def _order(
    run: Run, cost: Cost, kept: Mapping[str, Predictions], baseline: TrialRecord
) -> list[tuple[str, float]] | None:
    """The members of the front with their costs, the costliest first; None where the cost was not measured."""
    latencies = read_costs(run).cpu
    costs: dict[str, float] = {}
    for name in kept:
        if cost == "bytes":
            costs[name] = float(run.trials[name].deployed.bytes)
        elif name in latencies:
            costs[name] = latencies[name].latency_median
    if baseline.name not in costs:
        return None
    rivals = [name for name in costs if run.trials[name].strategy != BASELINE and _has_model(run, run.trials[name])]
    rivals = [name for name in rivals if costs[name] < costs[baseline.name]]
    front = pareto_front([[run.trials[name].score, costs[name]] for name in rivals], _DIRECTIONS)
    members = [(name, costs[name]) for name, is_on in zip(rivals, front, strict=True) if is_on]
    return sorted(members, key=lambda member: -member[1])


def _compared(
    run: Run, kept: Mapping[str, Predictions], references: Mapping[str, str], margin: float
) -> dict[str, NotWorse]:
    """Each model against its reference; those whose reference was not evaluated are left out."""
    pairs = {name: reference for name, reference in references.items() if reference in kept}
    if not pairs:
        return {}
    models = list(kept)
    patients = patients_of(run, kept[models[0]])
    if len(set(patients.tolist())) < 2:
        return {}
    resampled = resampled_figures(list(kept.values()), patients, resamples=1)
    places = {name: place for place, name in enumerate(models)}
    return {name: not_worse(resampled, places[name], places[other], margin) for name, other in pairs.items()}


def _in_turn(
    order: Sequence[tuple[str, float]],
    references: Mapping[str, str],
    found: Mapping[str, NotWorse],
    missed: Mapping[str, Mapping[str, float | None]],
) -> tuple[FrontMember, ...]:
    """The members with what is shown of them; one that has no reference is listed, and not in the sequence."""
    tested = [name for name, _ in order if name in references]
    p_values = [found[name].p if name in found else 1.0 for name in tested]
    proven = dict(zip(tested, proven_in_turn(p_values), strict=True))
    return tuple(
        FrontMember(
            trial=name,
            cost=cost,
            reference=references.get(name),
            found=found.get(name),
            proven=proven.get(name),
            missed=missed[name],
        )
        for name, cost in order
    )
