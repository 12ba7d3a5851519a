"""What a search takes over from an earlier run, on other data or another model: its best configurations, no score."""

from collections.abc import Mapping, Sequence
from typing import Any

from run_folder.errors import InputError, Problem
from run_folder.run import Run
from run_folder.settings import SearchSettings
from run_folder.trials import TrialRecord, best_trials
from search_spaces import STRATEGIES, Configuration, objectives_of
from search_spaces.overrides import distributions_of, nearest

MOST = 5
"""Most configurations of a strategy that are taken over; half of its trials where that is fewer."""


def warm_configurations(earlier: Run, settings: SearchSettings) -> dict[str, list[Configuration]]:
    """By strategy, the earlier run's best configurations moved into this one's space, best first, each once.

    Raises:
        InputError: the budget is too small for any, none of the strategies has a finished trial, or a configuration
            is not one of this version's.
    """
    most = min(MOST, settings.trials // 2)
    if not most:
        raise InputError(
            Problem(
                "warm_start",
                "half of the trials may be of an earlier run, and there is one",
                "ask for 2 trials or more",
            )
        )
    finished = [trial for trial in earlier.trials.values() if trial.state == "finished" and trial.of_search]
    found: dict[str, list[Configuration]] = {}
    for strategy in (name for name in settings.strategies if name in STRATEGIES):
        mine = [trial for trial in finished if trial.strategy == strategy]
        if mine:
            found[strategy] = best_configurations(mine, settings.space.get(strategy, {}), most)
    if not found:
        message = f"{earlier.folder.name} has no finished trial of {', '.join(settings.strategies)}"
        raise InputError(Problem("warm_start", message, "name a run that has some"))
    return found


def best_configurations(
    trials: Sequence[TrialRecord], overrides: Mapping[str, Any], most: int = MOST
) -> list[Configuration]:
    """Those of one strategy's finished trials, moved into its narrowed space, best first, each once.

    Raises InputError as ``warm_configurations`` does.
    """
    strategy = trials[0].strategy
    known: list[Configuration] = []
    for trial in best_trials(trials, len(trials), objectives_of(strategy)):
        moved = _moved(trial.name, strategy, trial.hyperparameters, overrides)
        if moved not in known:
            known.append(moved)
    return known[:most]


def _moved(
    trial: str, strategy: str, hyperparameters: Mapping[str, Any], overrides: Mapping[str, Any]
) -> Configuration:
    known = distributions_of(strategy)
    try:
        return nearest(strategy, {name: value for name, value in hyperparameters.items() if name in known}, overrides)
    except (TypeError, AttributeError):
        message = f"the hyperparameters of {trial} are not those of this version"
        raise InputError(Problem("warm_start", message, "name another run")) from None
