"""What depends on how wide an encoder is: its learning rates, and whether the paper's configuration suits it."""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import FloatDistribution

from search_spaces.overrides import StrategyOverrides, distributions_of

PAPER_WIDTH = 768
"""Hidden size of BERT-base, which the paper's configurations are for."""
WIDE_SHARE = 0.1
"""Of the spaces' highest learning rates: what encoders of the paper's width and wider can take at most."""


def suits_the_paper(width: int | None) -> bool:
    """Whether the paper's configurations are tried first. ``None``: the run is older than this, and does.

    Small encoders learn next to nothing in a few epochs at its learning rates.
    """
    return width is None or width >= PAPER_WIDTH


def overrides_for_width(strategy: str, overrides: Mapping[str, Any], width: int | None) -> StrategyOverrides:
    """The overrides, with the highest learning rates of a strategy's space lowered for wide encoders.

    The spaces' highest rates, such as 1e-3, suit encoders of 384 and less. BERT-base is fine-tuned at 2e-5 to 5e-5
    (Devlin et al. 2019), its LoRA at 4e-4 to 5e-4 (Hu et al. 2022): at most a tenth. What a user gives, stays.

    Args:
        width: the encoder's hidden size; None: as for small ones.
    """
    if width is None or width < PAPER_WIDTH:
        return dict(overrides)
    changed = dict(overrides)
    for name, distribution in distributions_of(strategy).items():
        given = overrides.get(name, {})
        if not name.endswith("learning_rate") or not isinstance(given, Mapping) or "high" in given:
            continue
        assert isinstance(distribution, FloatDistribution)
        low = float(given.get("low", distribution.low))
        changed[name] = {"low": low, "high": max(low, distribution.high * WIDE_SHARE)}
    return changed
