"""Narrow or fix any parameter of a search space from a YAML file, without touching code."""

import difflib
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml
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
            or any(choice not in distribution.choices for choice in choices)
        ):
            allowed = ", ".join(str(choice) for choice in distribution.choices)
            raise SpaceError(f"{name}: {override!r} is not among its choices ({allowed})")
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
        return IntDistribution(int(new_low), int(new_high), log=distribution.log, step=distribution.step)
    return FloatDistribution(new_low, new_high, log=distribution.log)


def _number(name: str, value: Any) -> float:
    try:  # YAML 1.1 reads 1e-5 as text
        return float(value)
    except (TypeError, ValueError):
        raise SpaceError(f"{name}: {value!r} is not a number") from None


def load_overrides(path: Path, strategies: Sequence[str]) -> dict[str, StrategyOverrides]:
    """Read a space file and check it against the spaces of all strategies.

    Returns: parameters to override of each of ``strategies``; ``all`` is resolved.

    Raises:
        SpaceError: unreadable file, unknown strategy or parameter, or an override outside the space.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SpaceError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise SpaceError(f"{path}: not valid YAML{line}") from error
    if not isinstance(content, Mapping) or not all(isinstance(part, Mapping) for part in content.values()):
        raise SpaceError(f"{path}: expected strategies (or {EVERY!r}) with parameters under each")
    spaces = {strategy: distributions_of(strategy) for strategy in STRATEGIES}
    overrides: dict[str, StrategyOverrides] = {strategy: {} for strategy in STRATEGIES}
    for section, parameters in content.items():
        targets = list(STRATEGIES) if section == EVERY else [section]
        if section != EVERY and section not in spaces:
            raise SpaceError(f"{path}: unknown strategy {section!r}{_near(section, [*spaces, EVERY])}")
        for name, override in parameters.items():
            holders = [strategy for strategy in targets if name in spaces[strategy]]
            if not holders:
                known = {known for strategy in targets for known in spaces[strategy]}
                raise SpaceError(f"{path}: {section} has no parameter {name!r}{_near(str(name), sorted(known))}")
            for strategy in holders:
                narrow(f"{path}: {section}.{name}", spaces[strategy][name], override)
                overrides[strategy][name] = override
    return {strategy: overrides[strategy] for strategy in strategies}


def _near(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f" (known: {', '.join(known)})"


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
