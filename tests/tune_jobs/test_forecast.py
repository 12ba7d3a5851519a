"""How long a search will take, as it is said before it starts."""

from dataclasses import replace
from pathlib import Path

import pytest

from clinical_notes.batches import TrialData
from run_folder.events import Suggested
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from run_folder.settings import SearchSettings
from trainables.parts.model.encoder import EncoderWeights
from tune_jobs.execution import Execution, TrialResources
from tune_jobs.preparing.create_run import Prepared
from tune_jobs.searching import forecast as module
from tune_jobs.searching.forecast import Forecast, epoch_seconds, forecast

WANTED = SearchSettings(("baseline", "pruning"), trials=4, epochs=10, cycles=0, reduction_factor=4)
LOCAL = Execution(seeds=1, max_concurrent=1)


@pytest.fixture
def prepared(trial_data: TrialData, encoder_weights: EncoderWeights) -> Prepared:
    return Prepared(trial_data, encoder_weights)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Folder(tmp_path))


@pytest.fixture
def _an_epoch_takes_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "epoch_seconds", lambda prepared: 3600.0)


def of(prepared: Prepared, ledger: Ledger, wanted: SearchSettings = WANTED, execution: Execution = LOCAL) -> Forecast:
    found = forecast(prepared, wanted, ledger, execution)
    assert found is not None
    return found


@pytest.mark.usefixtures("_an_epoch_takes_an_hour")
def test_it_follows_from_what_is_to_be_trained(prepared: Prepared, ledger: Ledger) -> None:
    usual = of(prepared, ledger)
    assert usual.high == pytest.approx(8 * 10 * 1.5)
    assert usual.low == pytest.approx(8 * (2 + 8 / 4) / 1.5)
    nothing_stopped = of(prepared, ledger, replace(WANTED, reduction_factor=0))
    assert nothing_stopped.low == pytest.approx(8 * 10 / 1.5)
    with_cycles = of(prepared, ledger, replace(WANTED, cycles=3))
    assert with_cycles.high == pytest.approx((8 + 2) * 10 * 1.5)
    with_seeds = of(prepared, ledger, replace(WANTED, cycles=3), replace(LOCAL, seeds=3))
    assert with_seeds.high == pytest.approx((8 + 2 * 3 + 2 * 2) * 10 * 1.5)


@pytest.mark.usefixtures("_an_epoch_takes_an_hour")
def test_only_what_remains_counts(prepared: Prepared, ledger: Ledger) -> None:
    before = of(prepared, ledger)
    ledger.append(
        Suggested(
            trial="baseline-0000", strategy="baseline", number=0, seed=0, hyperparameters={}, distributions={},
            teacher=None,
        )
    )  # fmt: skip
    assert of(prepared, ledger).high == pytest.approx(before.high * 7 / 8)
    assert forecast(prepared, replace(WANTED, trials=1, strategies=("baseline",)), ledger, LOCAL) is None


@pytest.mark.usefixtures("_an_epoch_takes_an_hour")
def test_a_clusters_time_and_that_of_gpus_are_not_guessed(prepared: Prepared, ledger: Ledger) -> None:
    cluster = of(prepared, ledger, execution=replace(LOCAL, address="auto"))
    assert cluster.at_once is None
    assert "of one core's time" in cluster.in_words()
    on_gpus = replace(LOCAL, resources=TrialResources(1.0, 0.5))
    assert forecast(prepared, WANTED, ledger, on_gpus) is None


def test_the_passes_are_of_this_model_and_this_data(prepared: Prepared, trial_data: TrialData) -> None:
    seconds = min(epoch_seconds(prepared) for _ in range(3))
    data = replace(trial_data, train=trial_data.validation)
    assert 0 < min(epoch_seconds(Prepared(data, prepared.encoder)) for _ in range(3)) < 10 * seconds


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.001, 0.5, "less than a minute to 30 min"),
        (0.5, 2.0, "30 min to 2.0 h"),
        (10.0, 100.0, "10.0 h to 4.2 days"),
    ],
)
def test_it_is_said_in_words(low: float, high: float, words: str) -> None:
    assert f"about {words} (" in Forecast(low, high, at_once=1).in_words()
