"""From what a user gives to the settings of a run, checked all together before anything starts."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from run_folder.errors import InputError, Problem, quoted
from run_folder.options import out_of_range
from run_folder.settings import PARTS, STATUSES, LabelSettings, RunSettings
from run_folder.yaml_file import read_yaml
from search_spaces import STRATEGIES
from search_spaces.overrides import SpaceError, StrategyOverrides, checked_overrides
from trainables import trainable_class

EMBEDDED_SPACE = Path(__file__).with_name("embedded_space.yaml")


def run_settings(**values: Any) -> RunSettings:
    """Settings with these values, by the names of ``RunSettings.record``; all strategies unless some are named.

    Raises:
        TypeError: there is no setting of a name.
        InputError: a value has another type.
    """
    return RunSettings.from_record({"strategies": STRATEGIES}).changed(**values)


def problems_of(settings: RunSettings) -> list[Problem]:
    """All that is wrong with these settings by themselves."""
    record = settings.record()
    problems = [problem for part in PARTS.values() for problem in out_of_range(part, record)]
    if not settings.notes.is_synthetic:  # where it counts nothing
        problems = [problem for problem in problems if problem.field != "patients"]
    labels = settings.labels
    if labels.hold_back and labels.mentions == "mask":
        problems.append(Problem("hold_back", "mentions are masked, which hides every form", "set only one of the two"))
    problems += _label_problems(labels) + _raw_window_problems(labels)
    problems += _multilabel_problems(settings) if labels.task == "multilabel" else _multiclass_problems(settings)
    unknown = [status for status in labels.positive if status not in STATUSES]
    if unknown or not labels.positive:
        message = f"unknown status {quoted(unknown[0])}{near(unknown[0], STATUSES)}" if unknown else "name a status"
        problems.append(Problem("positive", message, f"give some of {', '.join(STATUSES)}"))
    return problems + _strategy_problems(settings.search.strategies)


def _label_problems(labels: LabelSettings) -> list[Problem]:
    """Of labels in the place of the rules."""
    if labels.unit != "row":
        fix = "set the unit to row"
        return [Problem("labels", "labels of a table are of its rows", fix)] if labels.columns else []
    if not labels.columns:
        return [Problem("unit", "rows need columns of labels", "name them by labels, or omit the unit")]
    usual = LabelSettings()
    asked = [("mentions", labels.mentions), ("negated", labels.negated), ("positive", labels.positive),
             ("hold_back", labels.hold_back), ("labeller", labels.labeller), ("absorb", labels.absorb)]  # fmt: skip
    return [
        Problem(name, "says something of the rules' labels alone", "omit it, or the columns of labels")
        for name, value in asked
        if value != getattr(usual, name)
    ]


def _multiclass_problems(settings: RunSettings) -> list[Problem]:
    labels, problems = settings.labels, []
    if isinstance(labels.symptoms, int) and labels.symptoms < 2:
        problems.append(Problem("symptoms", f"at least 2 are needed to tell apart, got {labels.symptoms}"))
    elif isinstance(labels.symptoms, tuple) and len(set(labels.symptoms)) < 2:
        problems.append(Problem("symptoms", "name at least 2 different ones"))
    asked, usual = settings.record(), RunSettings(search=settings.search).record()
    return problems + [
        Problem(name, "says something of multilabel tasks alone", "set the task to multilabel, or omit it")
        for name in ("negatives", "most_test", "sensitivity", "stride", "note_rule")
        if asked[name] != usual[name]
    ]


def _multilabel_problems(settings: RunSettings) -> list[Problem]:
    labels, fix = settings.labels, "omit it, or set the task to multiclass"
    problems = []
    if labels.in_windows and labels.stride > settings.model.max_length // 2:
        message = f"{labels.stride} is more than half of the {settings.model.max_length} tokens that the model reads"
        problems.append(Problem("stride", message, "give a smaller one"))
    usual = LabelSettings()
    if labels.window_chars != usual.window_chars and labels.window_chars >= 1:
        problems.append(Problem("window_chars", "says something of multiclass tasks alone", fix))
    problems += [
        Problem(name, "says something of whole notes alone", "omit it, or set the unit to note")
        for name in ("stride", "note_rule")
        if not labels.in_windows and getattr(labels, name) != getattr(usual, name)
    ]
    if labels.balance:
        problems.append(Problem("balance", "a multilabel task has no classes to cut to one size", fix))
    if isinstance(labels.symptoms, int) and labels.symptoms < 1:
        problems.append(Problem("symptoms", f"at least 1 is needed, got {labels.symptoms}"))
    elif labels.symptoms == ():
        problems.append(Problem("symptoms", "name at least 1"))
    return problems


def _raw_window_problems(labels: LabelSettings) -> list[Problem]:
    if not labels.raw_window or (labels.task == "multiclass" and labels.unit == "note"):
        return []
    message = "the author's own run reads the start of notes as written, in a multiclass task"
    return [Problem("protocol", message, "omit it, or the other task or unit")]


def _strategy_problems(strategies: Sequence[str]) -> list[Problem]:
    if not strategies:
        return [Problem("strategies", f"name at least one of {', '.join(STRATEGIES)}")]
    unknown = [name for name in strategies if name not in STRATEGIES]
    if unknown:
        return [Problem("strategies", f"unknown strategy {quoted(name)}{near(name, STRATEGIES)}") for name in unknown]
    needy = [name for name in strategies if trainable_class(name).needs_teacher]
    if needy and "baseline" not in strategies:
        return [Problem("strategies", f"{', '.join(needy)} start from the best baseline: add baseline")]
    return []


def near(word: str, known: Sequence[str]) -> str:
    """A hint at the known word that was probably meant."""
    matches = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {matches[0]!r}?" if matches else f" (known: {', '.join(known)})"


def read_space(path: str | Path, strategies: Sequence[str]) -> dict[str, StrategyOverrides]:
    """Overrides of the search spaces. Raises: InputError."""
    known = [name for name in strategies if name in STRATEGIES]
    try:
        return checked_overrides(read_yaml(Path(path), "space"), known, str(path))
    except SpaceError as error:
        raise InputError(Problem("space", str(error))) from error
