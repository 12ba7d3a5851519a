"""Narrow or fix any parameter of a search space from a YAML file, without touching code."""

import difflib
import functools
import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from search_spaces import STRATEGIES, Configuration, Space, Value, space_of

Overrides = Mapping[str, Mapping[str, Any]]
"""Strategy to parameter to a value (fixed), ``{low, high}`` or ``{choices: [...]}``."""

StrategyOverrides = dict[str, Any]
"""Parameter to what a space file says of it."""

EVERY = "all"
"""The section of a space file that applies to every strategy that has the parameter."""
_MOST_CHARACTERS = 60
"""Characters of a value that an error shows."""


class SpaceError(ValueError):
    """A space file is wrong: the message names the strategy, the parameter and the fix."""


class _Explorer:
    """Answers a space's questions by a script of choices, and notes what it was asked."""

    def __init__(self, script: Sequence[int]) -> None:
        self._script = list(script)
        self.options: list[int] = []
        self.taken: list[int] = []
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_categorical(self, name: str, choices: Sequence[CategoricalChoiceType]) -> CategoricalChoiceType:
        self.distributions[name] = CategoricalDistribution(choices)
        choice = self._script[len(self.taken)] if len(self.taken) < len(self._script) else 0
        self.taken.append(choice)
        self.options.append(len(choices))
        return choices[choice]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.distributions[name] = FloatDistribution(low, high, log=log)
        return low

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        self.distributions[name] = IntDistribution(low, high, log=log, step=step)
        return low


@functools.cache
def distributions_of(strategy: str) -> Mapping[str, BaseDistribution]:
    """Every parameter that the strategy's space can ask for, in any branch of its conditions."""
    found: dict[str, BaseDistribution] = {}
    script: list[int] | None = []
    while script is not None:
        explorer = _Explorer(script)
        space_of(strategy)(explorer)  # type: ignore[arg-type]
        found |= explorer.distributions
        script = _next_script(explorer.taken, explorer.options)
    return found


def _next_script(taken: list[int], options: list[int]) -> list[int] | None:
    for position in reversed(range(len(taken))):
        if taken[position] + 1 < options[position]:
            return [*taken[:position], taken[position] + 1]
    return None


def narrow(name: str, distribution: BaseDistribution, override: Any) -> BaseDistribution:
    """The distribution that an override leaves.

    Raises:
        SpaceError: the override isn't inside the distribution, or isn't of its kind.
    """
    if isinstance(distribution, CategoricalDistribution):
        choices = override.get("choices") if isinstance(override, Mapping) else [override]
        if (
            not isinstance(choices, list)
            or not choices
            or (isinstance(override, Mapping) and set(override) != {"choices"})
            or not all(any(_same(choice, known) for known in distribution.choices) for choice in choices)
        ):
            allowed = ", ".join(str(choice) for choice in distribution.choices)
            raise SpaceError(f"{name}: {_shown(override)} is not among its choices ({allowed})")
        return CategoricalDistribution(choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    if isinstance(override, Mapping):
        if not override or set(override) - {"low", "high"}:
            raise SpaceError(f"{name}: give a value, or low and high inside [{low}, {high}]")
        new_low, new_high = _number(name, override.get("low", low)), _number(name, override.get("high", high))
    else:
        new_low = new_high = _number(name, override)
    if not low <= new_low <= new_high <= high:
        raise SpaceError(f"{name}: [{new_low}, {new_high}] is not inside [{low}, {high}]")
    if isinstance(distribution, IntDistribution):
        if not new_low.is_integer() or not new_high.is_integer():
            raise SpaceError(f"{name}: [{new_low}, {new_high}] are not whole numbers")
        return IntDistribution(int(new_low), int(new_high), log=distribution.log, step=distribution.step)
    return FloatDistribution(new_low, new_high, log=distribution.log)


def _same(choice: Any, known: Any) -> bool:
    """Whether they are the same value of the same kind: 1 is not True."""
    return bool(choice == known) and isinstance(choice, bool) == isinstance(known, bool)


def _number(name: str, value: Any) -> float:
    try:  # YAML 1.1 reads 1e-5 as text
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise SpaceError(f"{name}: {_shown(value)} is not a number")
    return number


def checked_overrides(content: Any, strategies: Sequence[str], where: str = "space") -> dict[str, StrategyOverrides]:
    """The content of a space file, checked against the spaces of all strategies.

    Args:
        where: the file, for the error.

    Returns: parameters to override of each of ``strategies``; ``all`` is resolved.

    Raises:
        SpaceError: unknown strategy or parameter, or an override outside the space.
    """
    if not isinstance(content, Mapping) or not all(isinstance(part, Mapping) for part in content.values()):
        raise SpaceError(f"{where}: expected strategies (or {EVERY!r}) with parameters under each")
    spaces = {strategy: distributions_of(strategy) for strategy in STRATEGIES}
    overrides: dict[str, StrategyOverrides] = {strategy: {} for strategy in STRATEGIES}
    for section, parameters in content.items():
        targets = list(STRATEGIES) if section == EVERY else [section]
        if section != EVERY and section not in STRATEGIES:
            raise SpaceError(f"{where}: unknown strategy {_shown(section)}{_near(section, [*spaces, EVERY])}")
        for name, override in parameters.items():
            holders = [strategy for strategy in targets if name in spaces[strategy]]
            if not holders:
                known = {known for strategy in targets for known in spaces[strategy]}
                raise SpaceError(f"{where}: {section} has no parameter {_shown(name)}{_near(name, sorted(known))}")
            for strategy in holders:
                narrow(f"{where}: {section}.{name}", spaces[strategy][name], override)
                overrides[strategy][name] = override
    return {strategy: overrides[strategy] for strategy in strategies}


def _near(word: object, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(word)[:_MOST_CHARACTERS], known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f" (known: {', '.join(known)})"


def _shown(value: object) -> str:
    """A value of the file in one short line."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = _MOST_CHARACTERS
    try:
        return short.repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"


class _NarrowedTrial:
    """An Optuna trial that asks for the narrowed parameter wherever a space asks for the whole one."""

    def __init__(self, trial: optuna.Trial, overrides: Mapping[str, Any]) -> None:
        self._trial, self._overrides = trial, overrides

    def _narrow(self, name: str, distribution: BaseDistribution) -> Any:
        return narrow(name, distribution, self._overrides[name]) if name in self._overrides else distribution

    def suggest_categorical(self, name: str, choices: Sequence[CategoricalChoiceType]) -> CategoricalChoiceType:
        kept: CategoricalDistribution = self._narrow(name, CategoricalDistribution(choices))
        return self._trial.suggest_categorical(name, kept.choices)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        kept = self._narrow(name, FloatDistribution(low, high, log=log))
        return self._trial.suggest_float(name, kept.low, kept.high, log=log)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        kept = self._narrow(name, IntDistribution(low, high, log=log, step=step))
        return self._trial.suggest_int(name, kept.low, kept.high, step=step, log=log)


def narrowed_space(strategy: str, overrides: Mapping[str, Any]) -> Space:
    """The strategy's space with these parameters narrowed."""

    def space(trial: optuna.Trial) -> dict[str, Value]:
        return space_of(strategy)(_NarrowedTrial(trial, overrides))  # type: ignore[arg-type]

    return space


def nearest(strategy: str, configuration: Mapping[str, Any], overrides: Mapping[str, Any]) -> Configuration:
    """A configuration moved into the narrowed space, to enqueue: numbers to the nearest bound.

    A choice that the narrowed space does not have is left out, so that the sampler makes it.
    """
    distributions = distributions_of(strategy)
    kept = {}
    for name, value in configuration.items():
        distribution = distributions[name]
        if name in overrides:
            distribution = narrow(name, distribution, overrides[name])
        if isinstance(distribution, FloatDistribution | IntDistribution):
            kept[name] = min(max(value, distribution.low), distribution.high)
        elif isinstance(distribution, CategoricalDistribution) and value in distribution.choices:
            kept[name] = value
    return kept
