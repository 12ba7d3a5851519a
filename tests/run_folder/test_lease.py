"""Runs behind a URI: two processes at once, and what a killed one leaves."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from run_folder import lease
from run_folder.errors import InputError
from run_folder.folder import Folder
from run_folder.lock import only_process


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A folder that is treated as an object store."""
    monkeypatch.setattr(lease, "_SECONDS_TO_SETTLE", 0.0)
    folder = Folder(tmp_path)
    folder.is_local = False
    return folder


def _second(folder: Folder) -> None:
    with only_process(folder):
        pass


def test_a_second_process_is_refused_with_the_name_of_the_first_and_may_come_after_it(remote: Folder) -> None:
    with only_process(remote), pytest.raises(InputError, match=r"run: process \d+ on .* is working on .*lease\.json"):
        _second(remote)
    _second(remote)
    assert remote.names() == []


def test_the_lease_of_a_process_that_was_killed_here_blocks_nobody(remote: Folder) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with only_process(remote):
        mine = json.loads(remote.read("lease.json"))
    theirs = mine | {"lease": "theirs", "process": child.pid, "started": lease._started(child.pid)}
    remote.write("lease.json", json.dumps(theirs).encode())
    with pytest.raises(InputError, match=f"process {child.pid} on"):
        _second(remote)
    child.kill()
    child.wait()
    _second(remote)


def test_of_a_process_elsewhere_nobody_knows_so_the_user_is_asked(remote: Folder) -> None:
    with only_process(remote):
        mine = json.loads(remote.read("lease.json"))
    remote.write("lease.json", json.dumps(mine | {"system": "another boot", "host": "node-7"}).encode())
    with pytest.raises(InputError, match=r"on node-7 is working on .* or was killed there.*delete .*lease\.json"):
        _second(remote)
    assert json.loads(remote.read("lease.json"))["host"] == "node-7"


def test_of_two_that_begin_at_the_same_time_one_is_refused(remote: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_refuse_if_taken", lambda folder: None)  # both have looked before either wrote
    with only_process(remote):
        first = remote.read("lease.json")
        monkeypatch.setattr(lease.time, "sleep", lambda seconds: remote.write("lease.json", first))
        with pytest.raises(InputError, match="is working on"):
            _second(remote)
