"""What happens when the storage fails: a clean stop, and a resume that loses nothing."""

import errno
import math
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from optuna.storages import InMemoryStorage

from benchmarks.simulated_cluster import epoch_result
from run_folder.errors import SearchHaltedError
from run_folder.events import read_events
from run_folder.folder import Folder
from run_folder.ledger import Ledger
from run_folder.names import checkpoints_of
from run_folder.results import DeployedResult, EpochResult, Report, TrialFailed
from run_folder.run import open_run
from run_folder.trials import TrialRecord
from tests.tiny_runs import quiet, settings_for
from tests.waiting import GUARD_SECONDS
from trainables import base
from trainables.base import TrainSettings
from tune_jobs.check_settings import RunSettings
from tune_jobs.execution import Execution
from tune_jobs.preparing.create_run import Prepared, create_run
from tune_jobs.searching.plan import SearchPlan
from tune_jobs.searching.ray_adapters import REPORT, SUGGESTION
from tune_jobs.searching.run_search import search
from tune_jobs.searching.search import Search, Suggestion
from tune_jobs.searching.study import StrategyStudy
from tune_jobs.searching.study_storage import StudyStorage
from tune_jobs.searching.trial_actor import RunTrainable

STRATEGIES = ("baseline", "low_rank")


class FailingFolder(Folder):
    """A storage that refuses every event from a certain one on."""

    def __init__(self, uri: str, writes: int, error: OSError) -> None:
        super().__init__(uri)
        self._left, self._error = writes, error

    def write(self, relative: str, data: bytes, *, private: bool = False) -> None:
        self._left -= relative.startswith("ledger/")
        if self._left < 0:
            raise self._error
        super().write(relative, data, private=private)


def test_a_search_cut_by_time_and_by_a_ledger_that_cannot_be_written_loses_nothing(
    tmp_path: Path, model_folder: Path, ray_address: str
) -> None:
    settings = settings_for(model_folder, trials=2, epochs=2, strategies=STRATEGIES, reduction_factor=0)
    folder, execution = Folder(tmp_path / "run"), Execution(max_concurrent=1, address=ray_address)
    prepared = create_run(folder, settings, workers=1)
    cut = search(folder, settings, prepared, replace(execution, time_budget=0.01), quiet())
    assert {trial.state for trial in cut.trials.values()} == {"running"}
    first = read_events(folder)

    full = FailingFolder(folder.uri, 6, OSError(errno.ENOSPC, "No space left on device", "x.json"))
    with pytest.raises(SearchHaltedError, match=r"No space left on device: x\.json"):
        search(full, settings, prepared, execution, quiet())
    left = read_events(folder)
    assert len(left) == len(first) + 6

    ended = search(folder, settings, prepared, execution, quiet())
    assert read_events(folder)[: len(left)] == left
    assert [len(trial.epochs) for trial in ended.trials.values()] == [2] * 4
    assert [trial.state for trial in ended.trials.values()] == ["finished"] * 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a run's start and little more."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small file system")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_a_full_disk_stops_the_run_and_with_room_it_ends(
    small_disk: Path, model_folder: Path, ray_address: str
) -> None:
    settings = settings_for(model_folder, trials=2, epochs=2, strategies=STRATEGIES)
    folder = Folder(small_disk / "run")
    prepared = create_run(folder, settings, workers=1)
    with pytest.raises(SearchHaltedError, match="No space left on device"):
        search(folder, settings, prepared, Execution(address=ray_address), quiet())
    halted = Ledger(folder)
    assert all(trial.state in ("running", "finished") for trial in halted.trials.values())
    subprocess.run(["mount", "-o", "remount,size=50m", small_disk], check=True)
    ledger = search(folder, settings, prepared, Execution(address=ray_address), quiet())
    assert [trial.state for trial in ledger.trials.values()] == ["finished"] * 4
    assert open_run(folder).best("baseline", 1)


def test_an_error_that_passes_is_tried_again_and_one_that_lasts_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    answers: list[OSError] = []
    replace = Path.replace

    def sometimes(path: Path, target: Path) -> Path:
        if answers:
            raise answers.pop()
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", sometimes)
    folder = Folder(tmp_path)
    answers += [OSError(errno.EIO, "Input/output error")] * 2
    folder.write("a", b"1")
    assert folder.read("a") == b"1"
    assert len(pauses) == 2
    answers += [OSError(errno.ENOSPC, "No space left on device")]
    with pytest.raises(OSError, match="No space"):
        folder.write("a", b"2")
    assert folder.read("a") == b"1"
    assert len(pauses) == 2
    assert folder.names() == ["a"]


def test_a_folder_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that a loss of power cut short would stand there for good: its trial is recorded as finished."""
    folder, flushed = Folder(tmp_path), set()
    (folder.scratch() / "deployed").mkdir()
    (made,) = (tmp_path / ".scratch").glob("*/deployed")
    (made / "model").write_bytes(b"1")

    def fsync(descriptor: int) -> None:
        assert not folder.exists("deployed")
        flushed.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    folder.put_folder(made, "deployed")
    assert (tmp_path / "deployed" / "model").stat().st_ino in flushed


def test_a_trial_whose_epoch_hangs_is_given_up_with_its_reason(
    tmp_path: Path, model_folder: Path, ray_address: str
) -> None:
    settings = settings_for(model_folder, trials=1, epochs=2, strategies=("baseline",))
    folder = Folder(tmp_path / "run")
    prepared = create_run(folder, settings, workers=1)
    ledger = search(folder, settings, prepared, Execution(epoch_limit=0.01, address=ray_address), quiet())
    (trial,) = ledger.trials.values()
    assert (trial.state, trial.reason) == ("failed", "an epoch took longer than 0.01 s")


def test_a_hanging_trial_is_ended_though_its_storage_fails_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def end(code: int) -> NoReturn:
        ended.set()
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", end)
    trial = RunTrainable.__new__(RunTrainable)
    trial._record = TrialRecord("baseline-0000", "baseline", 0, 0, {}, {})
    trial._folder, trial._epoch_limit = FailingFolder(str(tmp_path), 0, OSError(errno.EIO, "no answer")), 0.01
    with trial._watched():
        assert ended.wait(GUARD_SECONDS)


class Trial:
    """One trial of a run, driven as Ray drives it; by default each epoch is worth a checkpoint."""

    def __init__(
        self, folder: Folder, prepared: Prepared, suggestion: Suggestion, known: int = 0, share: float = math.inf
    ) -> None:
        self._inner = RunTrainable.__new__(RunTrainable)
        epochs = tuple(epoch_result(number + 1, 0.5) for number in range(known))
        suggestion = replace(suggestion, record=replace(suggestion.record, epochs=epochs))
        self._inner.config = {SUGGESTION: suggestion, "cpus": 1, "gpus": 0}
        settings = TrainSettings(epochs=3)
        self._inner.setup(self._inner.config, prepared.data, prepared.encoder, settings, folder, checkpoint_share=share)

    def step(self) -> Report:
        """The next report, without the time that it took."""
        report: Report = self._inner.step()[REPORT]
        if isinstance(report.result, EpochResult | DeployedResult):
            return replace(report, result=replace(report.result, seconds=0.0))
        return report

    def epoch(self) -> EpochResult:
        """The next report, which is of an epoch."""
        result = self.step().result
        assert isinstance(result, EpochResult)
        return result

    def deployed(self) -> DeployedResult:
        """The next report, which is of the deployed model."""
        result = self.step().result
        assert isinstance(result, DeployedResult)
        return result

    def failure(self) -> str:
        """The reason in the next report, which is of a failure."""
        result = self.step().result
        assert isinstance(result, TrialFailed)
        return result.reason


@pytest.fixture(scope="module")
def created(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> tuple[RunSettings, Path, Prepared]:
    """A run that has not begun, for copies."""
    settings = settings_for(model_folder, trials=1, epochs=3, strategies=("baseline",))
    folder = tmp_path_factory.mktemp("created") / "run"
    return settings, folder, create_run(Folder(folder), settings, workers=1)


@pytest.fixture
def suggested(tmp_path: Path, created: tuple[RunSettings, Path, Prepared]) -> tuple[Folder, Prepared, Suggestion]:
    settings, whole, prepared = created
    folder = Folder(shutil.copytree(whole, tmp_path / "run"))
    study = StrategyStudy("baseline", StudyStorage(InMemoryStorage()), 0, settings.search.space["baseline"])
    suggestion = Search(folder, Ledger(folder), {"baseline": study}, SearchPlan(1)).suggest()
    assert suggestion is not None
    return folder, prepared, suggestion


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "record cut", "record gone"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    suggested: tuple[Folder, Prepared, Suggestion], damage: str
) -> None:
    folder = suggested[0]
    trial = Trial(*suggested)
    results = [trial.epoch() for _ in range(3)]
    name = "manifest.json" if damage.startswith("record") else "model.safetensors"
    damaged = Path(folder.uri) / "trials/baseline-0000/epoch-0003" / name
    whole = damaged.read_bytes()
    damaged.unlink()
    if not damage.endswith("gone"):
        damaged.write_bytes(whole[:-1] if damage.endswith("cut") else whole[:-1] + bytes([whole[-1] ^ 1]))
    again = Trial(*suggested)
    found = [again.step() for _ in range(3)]
    (warning,) = found[0].warnings
    assert "epoch-0003 is damaged" in warning
    assert [report.result for report in found] == results
    assert not any(report.warnings for report in found[1:])


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that were trained."""
    sizes: list[int] = []
    backward = base.Trial._backward

    def counted(self: base.Trial, index: Any, share: float) -> torch.Tensor:
        sizes.append(len(index))
        return backward(self, index, share)

    monkeypatch.setattr(base.Trial, "_backward", counted)
    return sizes


def test_a_trial_that_starts_again_trains_no_epoch_again_that_a_checkpoint_holds(
    suggested: tuple[Folder, Prepared, Suggestion], batches: list[int]
) -> None:
    first = Trial(*suggested)
    results = [first.step(), first.step()]
    per_epoch = len(batches) // 2
    batches.clear()
    again = Trial(*suggested)
    assert [again.step(), again.step()] == results
    assert not batches
    assert again.epoch().epoch == 3
    assert len(batches) == per_epoch


def test_epochs_too_short_for_a_checkpoint_each_are_trained_again_and_reported_once(
    suggested: tuple[Folder, Prepared, Suggestion], batches: list[int]
) -> None:
    folder = suggested[0]
    undisturbed = Trial(*suggested, share=0.0)
    results = [undisturbed.step() for _ in range(2)]
    per_epoch = len(batches) // 2
    assert checkpoints_of(folder, "baseline-0000") == ["trials/baseline-0000/epoch-0001"]
    results += [undisturbed.step()]
    assert [path[-4:] for path in checkpoints_of(folder, "baseline-0000")] == ["0001", "0003"]  # the last one always
    folder.delete_folder("trials/baseline-0000/epoch-0003")

    batches.clear()
    again = Trial(*suggested, known=2)
    assert again.step() == results[2]
    assert len(batches) == 2 * per_epoch
    assert again.deployed().validation == undisturbed.deployed().validation


def test_a_trial_that_goes_on_from_another_fails_where_that_ones_checkpoint_is_gone(
    suggested: tuple[Folder, Prepared, Suggestion],
) -> None:
    folder, prepared, suggestion = suggested
    further = replace(suggestion, record=replace(suggestion.record, name="baseline-0001", continues="baseline-0000"))
    assert "no checkpoint of baseline-0000 is left" in Trial(folder, prepared, further).failure()


def test_memory_that_runs_out_in_a_later_epoch_reports_no_earlier_one_again(
    suggested: tuple[Folder, Prepared, Suggestion], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = Trial(*suggested)
    assert [trial.epoch().epoch for _ in range(2)] == [1, 2]
    backward = base.Trial._backward

    def out_of_memory_once(self: base.Trial, index: Any, share: float) -> torch.Tensor:
        monkeypatch.setattr(base.Trial, "_backward", backward)
        raise MemoryError

    monkeypatch.setattr(base.Trial, "_backward", out_of_memory_once)
    assert trial.epoch().epoch == 3


def test_a_trial_without_the_memory_goes_on_in_half_batches_and_computes_the_same(
    suggested: tuple[Folder, Prepared, Suggestion], monkeypatch: pytest.MonkeyPatch
) -> None:
    suggested[2].record.hyperparameters["dropout"] = 0.0  # type: ignore[index]
    plain = Trial(*suggested).epoch()
    shutil.rmtree(Path(suggested[0].uri) / "trials")
    sizes: list[int] = []
    backward = base.Trial._backward

    def short_of_memory(self: base.Trial, index: Any, share: float) -> torch.Tensor:
        sizes.append(len(index))
        if len(index) > 16:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        return backward(self, index, share)

    monkeypatch.setattr(base.Trial, "_backward", short_of_memory)
    report = Trial(*suggested).step()
    halved = report.result
    assert isinstance(halved, EpochResult)
    (warning,) = report.warnings
    assert "half batches" in warning
    assert sizes[0] > 16
    assert max(sizes[1:]) <= 16
    assert halved.train_loss == pytest.approx(plain.train_loss, rel=1e-5)
    assert halved.f1 == pytest.approx(plain.f1)

    shutil.rmtree(Path(suggested[0].uri) / "trials")
    monkeypatch.setattr(base.Trial, "_backward", lambda *_: (_ for _ in ()).throw(MemoryError()))
    assert Trial(*suggested).failure() == "out of memory, with half batches too"
