"""What a run is: the settings that decide its result, checked all together before anything starts."""

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from clinical_notes.lexicon import Lexicon, load_lexicon
from run_folder.errors import InputError
from search_spaces import STRATEGIES
from search_spaces.overrides import SpaceError, load_overrides
from trainables import trainable_class

SYNTHETIC = "synthetic"
EMBEDDED_MODEL = "all-MiniLM-L6-v2"
EMBEDDED_SPACE = Path(__file__).with_name("embedded_space.yaml")


@dataclass(frozen=True)
class RunSettings:
    """Everything that decides what a run finds; two runs with equal settings on equal data are the same run."""

    # notes
    notes: str = SYNTHETIC
    patients: int = 0
    text_column: str = "TEXT"
    patient_column: str = "SUBJECT_ID"
    category_column: str = "CATEGORY"
    sample: float = 1.0
    category: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ()
    # labels
    lexicon: str | None = None
    absorb: tuple[str, ...] = ()
    unit: Literal["note", "sentence"] = "sentence"
    window_chars: int = 1000
    raw_window: bool = False
    symptoms: int | tuple[str, ...] = 5
    mentions: Literal["keep", "mask"] = "keep"
    negated: Literal["drop", "keep"] = "drop"
    balance: bool = False
    split: tuple[float, float, float] = (0.7, 0.1, 0.2)
    hold_back: int = 0
    # model
    model: str = EMBEDDED_MODEL
    layers: int | None = None
    max_length: int = 128
    class_weights: Literal["none", "balanced"] = "none"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    # search
    strategies: tuple[str, ...] = STRATEGIES
    trials: int = 4
    epochs: int = 5
    reduction_factor: int = 4
    reduce_range: bool = False
    space: dict[str, dict[str, Any]] = field(default_factory=dict)
    seed: int = 0
    warm_start: str | None = None
    warm_configurations: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # what --warm-start found

    def record(self) -> dict[str, Any]:
        """Plain data for ``run.json``."""
        return dataclasses.asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "RunSettings":
        """Read ``run.json`` back; lists become tuples again."""
        known = {f.name for f in dataclasses.fields(cls)}
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items() if k in known}
        return cls(**values)


PROTOCOL_PAPER: dict[str, Any] = {
    "unit": "note",
    "raw_window": True,
    "window_chars": 1000,
    "max_length": 256,
    "balance": True,
    "negated": "keep",
    "split": (0.8, 0.1, 0.1),
}
"""The author's run: the first 1,000 characters, 256 word pieces, balanced, negation ignored, 90/10.

The author had no validation set; ours is taken from the 90 %.
"""


def problems_of(settings: RunSettings) -> list[str]:
    """All that is wrong with these settings by themselves, one line each."""
    problems = []
    for name, low in (
        ("trials", 1),
        ("epochs", 1),
        ("window_chars", 1),
        ("max_length", 8),
        ("hold_back", 0),
        ("seed", 0),
    ):
        if getattr(settings, name) < low:
            problems.append(f"--{name.replace('_', '-')}: must be at least {low}, got {getattr(settings, name)}")
    if settings.notes == SYNTHETIC and settings.patients < 1:
        problems.append(f"--patients: must be at least 1, got {settings.patients}")
    if settings.hold_back and settings.mentions == "mask":
        problems.append("--hold-back: --mentions mask hides every form, so leave one of them out")
    if not 0 < settings.sample <= 1:
        problems.append(f"--sample: must be in (0, 1], got {settings.sample}")
    if settings.reduction_factor == 1 or settings.reduction_factor < 0:
        problems.append(
            f"--reduction-factor: must be 0 (stop no trial early) or at least 2, got {settings.reduction_factor}"
        )
    if settings.layers is not None and settings.layers < 1:
        problems.append(f"--layers: must be at least 1, got {settings.layers}")
    if isinstance(settings.symptoms, int) and settings.symptoms < 2:
        problems.append(f"--symptoms: at least 2 are needed to tell apart, got {settings.symptoms}")
    elif isinstance(settings.symptoms, tuple) and len(set(settings.symptoms)) < 2:
        problems.append("--symptoms: name at least 2 different ones")
    unknown = [name for name in settings.strategies if name not in STRATEGIES]
    problems += [f"--strategies: unknown strategy {name!r}{near(name, STRATEGIES)}" for name in unknown]
    if not settings.strategies:
        problems.append(f"--strategies: name at least one of {', '.join(STRATEGIES)}")
    if not unknown and "baseline" not in settings.strategies:
        needy = [name for name in settings.strategies if trainable_class(name).needs_teacher]
        if needy:
            problems.append(f"--strategies: {', '.join(needy)} start from the best baseline: add baseline")
    return problems


def read_lexicon(path: str | None, absorb: Sequence[str]) -> Lexicon:
    """The lexicon asked for, with its concepts merged as the rules say. Raises: InputError."""
    lexicon = load_lexicon(Path(path) if path else None)
    absorbed: dict[str, list[str]] = {}
    for rule in absorb:
        concept, separator, others = rule.partition("=")
        if not separator:
            raise InputError(f"--absorb: {rule!r} is not of the form pain=chest pain,back pain")
        absorbed[concept.strip()] = [other.strip() for other in others.split(",")]
    return lexicon.absorb(absorbed) if absorbed else lexicon


def near(word: str, known: Sequence[str]) -> str:
    """A hint at the known word that was probably meant."""
    matches = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {matches[0]!r}?" if matches else f" (known: {', '.join(known)})"


def read_space(path: str | Path, strategies: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Overrides of the search spaces. Raises: InputError."""
    known = [name for name in strategies if name in STRATEGIES]
    try:
        return load_overrides(Path(path), known)
    except SpaceError as error:
        raise InputError(f"--space: {error}") from error
