from pathlib import Path

from benchmarks.driver import costs, measure
from benchmarks.scaling import checkpoint_bytes, simulate, traffic


def test_a_trial_asks_the_storage_for_no_more_the_more_trials_there_were(tmp_path: Path) -> None:
    _, early, late = costs(measure(tmp_path, ["baseline"], [4, 14, 44], epochs=3, workers=2))
    assert late["calls"]["files"] < early["calls"]["files"] * 1.2
    assert late["calls"]["fsync"] == late["ledger_files"] + 1  # its end is noted; the studies' journal is a cache


def test_a_search_at_scale_loses_no_trial_with_a_node(tmp_path: Path) -> None:
    found = simulate(12, workers=4, epochs=2, seconds=(10.0, 20.0), losses=[25.0, 25.0], home=tmp_path)
    assert (found["trials"], found["failed"]) == (12, 0)
    assert found["makespan"] * 4 > found["busy"]
    sizes = checkpoint_bytes(layers=1)
    assert sizes["training"] == 2 * sizes["model"]  # AdamW's two moments of every weight
    assert traffic(found, sizes, workers=4, keep=3)["written"] > found["epochs"] * sizes["training"]
