"""Search spaces, the paper's configurations, and overrides from a file."""

import optuna
import pytest
import yaml
from optuna.samplers import RandomSampler

from search_spaces import STRATEGIES, paper_configuration, space_of
from search_spaces.overrides import SpaceError, checked_overrides, distributions_of, narrowed_space, nearest
from search_spaces.width import PAPER_WIDTH, overrides_for_width, suits_the_paper

optuna.logging.set_verbosity(optuna.logging.WARNING)


def sampled(strategy: str, overrides: dict[str, object], n: int = 40) -> list[dict[str, object]]:
    study = optuna.create_study(sampler=RandomSampler(seed=1))
    space = narrowed_space(strategy, overrides)
    return [space(study.ask()) for _ in range(n)]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_papers_configuration_lies_in_the_space_and_is_complete(strategy: str) -> None:
    paper = dict(paper_configuration(strategy))
    assert nearest(strategy, paper, {}) == paper
    study = optuna.create_study()
    study.enqueue_trial(paper)
    assert space_of(strategy)(study.ask()) == paper


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_parameter_of_every_branch_is_found(strategy: str) -> None:
    seen = {name for configuration in sampled(strategy, {}) for name in configuration}
    assert seen == set(distributions_of(strategy))


def test_conditional_parameters_appear_only_where_they_apply() -> None:
    for configuration in sampled("quantization", {}):
        assert ("learning_rate" in configuration) == (configuration["scheme"] == "qat")
        assert ("calibration" in configuration) == (configuration["scheme"] == "ptq_static")
    schemes = {"structured": {"ratio", "importance"}, "unstructured": {"sparsity", "scope"}}
    recoveries: dict[str, set[str]] = {"labels": set(), "distillation": {"alpha", "temperature"}}
    for configuration in sampled("pruning", {}):
        asked = configuration.keys() & set().union(*schemes.values(), *recoveries.values())
        assert asked == schemes[str(configuration["scheme"])] | recoveries[str(configuration["recovery"])]
    for configuration in sampled("low_rank", {}):
        lora = configuration["scheme"] == "lora"
        assert ("rank" in configuration) == ("learning_rate" in configuration) == lora
        assert ("kept_parameters" in configuration) == ("svd_learning_rate" in configuration) != lora


def test_overrides_narrow_and_fix() -> None:
    text = """
all: {batch_size: 16}
low_rank:
  scheme: lora
  rank: {choices: [8, 64]}
  learning_rate: {low: 1e-4, high: 2e-4}
"""
    overrides = checked_overrides(yaml.safe_load(text), STRATEGIES)
    for configuration in sampled("low_rank", overrides["low_rank"]):
        assert configuration["batch_size"] == 16
        assert configuration["rank"] in (8, 64)
        assert 1e-4 <= float(str(configuration["learning_rate"])) <= 2e-4
    assert overrides["baseline"] == {"batch_size": 16}


def test_the_papers_values_outside_a_narrowed_space_are_not_enqueued() -> None:
    kept = nearest("low_rank", paper_configuration("low_rank"), {"rank": {"choices": [8, 64]}, "dropout": 0.1})
    assert "rank" not in kept
    assert kept["dropout"] == 0.1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("low_rnk: {rank: 8}", ["low_rnk", "did you mean 'low_rank'"]),
        ("low_rank: {rnk: 8}", ["low_rank", "did you mean 'rank'"]),
        ("low_rank: {rank: 7}", ["low_rank.rank", "8, 16, 32, 64"]),
        ("baseline: {dropout: 0.9}", ["baseline.dropout", "[0.0, 0.2]"]),
        ("baseline: {dropout: much}", ["baseline.dropout", "not a number"]),
        ("baseline: {dropout: {low: 0.1, step: 2}}", ["baseline.dropout", "low and high"]),
        ("baseline: [1]", ["expected strategies"]),
    ],
)
def test_a_wrong_override_is_named_with_its_fix(text: str, words: list[str]) -> None:
    with pytest.raises(SpaceError) as caught:
        checked_overrides(yaml.safe_load(text), STRATEGIES)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_wide_encoders_learn_at_a_tenth_of_the_highest_rates(strategy: str) -> None:
    narrow, wide = (overrides_for_width(strategy, {}, width) for width in (384, PAPER_WIDTH))
    assert narrow == {}
    rates = {name for name in distributions_of(strategy) if name.endswith("learning_rate")}
    assert wide.keys() == rates
    for name in rates:
        assert wide[name]["high"] == pytest.approx(distributions_of(strategy)[name].high / 10)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = narrowed_space(strategy, wide)
    drawn = [value for _ in range(30) for name, value in space(study.ask()).items() if name in rates]
    assert drawn
    assert max(drawn) <= (5e-4 if strategy == "low_rank" else 1e-4)


def test_rates_that_a_user_gives_stay() -> None:
    given = {"learning_rate": {"low": 1e-5, "high": 9e-4}, "svd_learning_rate": 5e-4}
    assert overrides_for_width("low_rank", given, PAPER_WIDTH) == given
    assert overrides_for_width("baseline", {"learning_rate": {"low": 5e-4}}, PAPER_WIDTH) == {
        "learning_rate": {"low": 5e-4, "high": 5e-4}
    }


def test_the_papers_configuration_is_for_encoders_as_wide_as_its_own() -> None:
    assert [suits_the_paper(width) for width in (32, 384, 768, 1024, None)] == [False, False, True, True, True]
