"""Notes annotated through Ray Data on a real local cluster."""

from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import pytest
from ray.data import Dataset
from ray.exceptions import NodeDiedError

from clinical_notes.examples import SPLITS
from run_folder.errors import InputError
from tune_jobs.check_settings import run_settings
from tune_jobs.cluster.connection import connected
from tune_jobs.preparing import notes_on_cluster as cluster_notes
from tune_jobs.preparing.create_run import make_run_examples


def lose_the_node(*_: Any, **__: Any) -> NoReturn:
    raise NodeDiedError("of 10.0.0.1")


def test_a_cluster_makes_the_same_examples_and_tells_a_bad_row_in_one_line(
    notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], local_ray: None
) -> None:
    monkeypatch.setattr(cluster_notes, "_BLOCK_BYTES", 20_000)  # many tasks, which end in any order
    settings = run_settings(task="multiclass", notes=str(notes))
    told: dict[str, list[str]] = {"here": [], "there": []}
    here = make_run_examples(settings, workers=1, tell=told["here"].append)
    bad = tmp_path / "bad.csv"
    bad.write_text("SUBJECT_ID,TEXT\n" + '1,"Has fever."\n' * 30 + '1,"Private words",second\n')
    with connected(None, verbose=False):
        monkeypatch.chdir(notes.parent)  # where Ray's processes are not
        there = make_run_examples(
            run_settings(task="multiclass", notes=notes.name), workers=1, on_cluster=True, tell=told["there"].append
        )
        with pytest.raises(InputError) as caught:
            make_run_examples(run_settings(task="multiclass", notes=str(bad)), workers=1, on_cluster=True)
        monkeypatch.setattr(Dataset, "iter_batches", lose_the_node)
        with pytest.raises(InputError, match=r"^address: .*NodeDiedError") as lost:
            make_run_examples(settings, workers=1, on_cluster=True)
    assert "\n" not in str(lost.value)
    assert told["there"] == told["here"]
    assert there.symptoms == here.symptoms
    for split in SPLITS:
        pd.testing.assert_frame_equal(there.splits[split], here.splits[split])
    assert str(caught.value).startswith(f"notes: {bad}: data row 31 has 3 fields")
    assert "\n" not in str(caught.value)
    printed = "".join(capfd.readouterr())
    assert not any(word in printed for word in ("Private", "Traceback", "Dataset"))
