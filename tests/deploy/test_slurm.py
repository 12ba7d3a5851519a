"""``deploy/slurm.sh`` in a real Slurm of one node, this machine: ``pytest tests/deploy/test_slurm.py --slurm``."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from run_folder.events import read_events
from run_folder.folder import Folder
from run_folder.run import open_run
from tests import held
from tests.ledgers import most_often
from tests.waiting import guarded, until

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "slurm.sh"
DAEMONS = ("munged", "slurmctld", "slurmd")

CONFIGURATION = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
MinJobAge=7200
FirstJobId={number}
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=low Nodes={host} Default=YES PriorityTier=1
PartitionName=high Nodes={host} PriorityTier=2
"""
"""A job of the partition ``high`` preempts one of ``low``, which may begin again after ``cred_expire`` seconds."""


@dataclass(frozen=True)
class Slurm:
    """A Slurm of this machine alone, with all its files in one folder."""

    folder: Path
    daemons: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "RAY"))}
        return clean | {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        (self.folder / "munge.key").write_bytes(os.urandom(64))
        (self.folder / "munge.key").chmod(0o600)
        ports = dict(zip(("controller_port", "node_port"), free_ports(2), strict=True))
        host = socket.gethostname().partition(".")[0]
        text = CONFIGURATION.format(
            host=host, user=getpass.getuser(), folder=self.folder, cpus=os.cpu_count(), number=os.getpid(), **ports
        )
        (self.folder / "slurm.conf").write_text(text)
        files = [f"--{what}-file={self.folder}/munge.{what}" for what in ("key", "pid", "log", "seed")]
        self.daemon("munged", "--foreground", "--force", f"--socket={self.folder}/munge.socket", *files)
        until((self.folder / "munge.socket").exists)
        self.daemon("slurmctld", "-D")
        self.daemon("slurmd", "-D")
        until(lambda: "idle" in self.run("sinfo", "--noheader", "--format=%t", check=False), self.logs)

    def daemon(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen([name, *arguments], env=self.environment, stdout=log, stderr=log)
        self.daemons.append(process)

    def stop(self) -> None:
        self.run("scancel", "--user", getpass.getuser())
        until(lambda: not self.run("squeue", "--noheader"), self.logs)
        for process in reversed(self.daemons):
            process.terminate()
            process.wait()

    def run(self, program: str, *arguments: object, check: bool = True) -> str:
        line = [program, *map(str, arguments)]
        return subprocess.run(line, env=self.environment, check=check, capture_output=True, text=True).stdout

    def submit(self, *arguments: object) -> str:
        """The number of the job."""
        return self.run("sbatch", "--parsable", *arguments).strip()

    def shown(self, job: str) -> dict[str, str]:
        words = self.run("scontrol", "show", "job", "--oneliner", job).split()
        return {name: value for name, _, value in (word.partition("=") for word in words)}

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.log"))


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def slurm(pytestconfig: pytest.Config) -> Iterator[Slurm]:
    if not pytestconfig.getoption("slurm"):
        pytest.skip("starts Slurm's daemons: give --slurm")
    missing = [name for name in DAEMONS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} missing (Debian: apt-get install slurm-wlm munge)")
    slurm = Slurm(Path(tempfile.mkdtemp(prefix="symptune-test-")))
    try:
        with guarded():
            slurm.start()
        yield slurm
        slurm.stop()
        shutil.rmtree(slurm.folder)
    finally:
        for process in slurm.daemons:
            process.kill()


def make_environment(folder: Path) -> Path:
    """What the script needs of a virtual environment; the search is held at a known point of its first two starts."""
    python = f"PYTHONPATH={ROOT} exec {sys.executable} -m"
    starts = [f"{python} tests.held 3 ", f"{python} tests.held 6 ", f"{python} symptune "]
    search = "".join(f'{i}) {start}"$@";;\n' for i, start in enumerate(starts))
    programs = {
        "ray": f'{python} ray.scripts.scripts "$@"',
        "python": f'exec {sys.executable} "$@"',
        "symptune": f'case "${{SLURM_RESTART_COUNT:-0}}" in\n{search}esac',
    }
    (folder / "bin").mkdir(parents=True)
    for name, text in programs.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / "bin" / name).chmod(0o755)
    (folder / "bin" / "activate").write_text(f"PATH={folder}/bin:$PATH\n")
    return folder


@pytest.mark.timeout(0)
def test_a_job_that_is_preempted_and_then_out_of_time_is_put_back_both_times_and_ends_with_its_results(
    slurm: Slurm, notes: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYMPTUNE_VENV", str(make_environment(tmp_path / "venv")))
    log = tmp_path / "job.log"
    job = slurm.submit(
        "--partition=low", "--nodes=1", "--cpus-per-task=1", "--mem=0", f"--output={log}", SCRIPT,
        "--name", "first", "--notes", notes, "--model", model_folder, "--max-length", "40",
        "--cycles", "0", "--trials", "2",
        "--epochs", "2", "--strategies", "baseline", "--seeds", "1",
    )  # fmt: skip

    def told() -> str:
        return f"{slurm.shown(job)}\n{log.read_text() if log.exists() else ''}\n{slurm.logs()}"

    def until_held() -> None:
        ended = ("COMPLETED", "FAILED")
        until(lambda: held.WAITING.exists() or slurm.shown(job)["JobState"] in ended, told)
        assert held.WAITING.exists(), told()

    until_held()
    other = slurm.submit("--partition=high", "--exclusive", "--output=/dev/null", "--wrap=rm waiting")
    until(lambda: slurm.shown(other)["JobState"] == "COMPLETED", told)
    until_held()
    assert slurm.shown(job)["Restarts"] == "1"

    slurm.run("scancel", "--batch", "--signal=USR1", job)  # as Slurm does when time is nearly up: --signal=B:USR1@120
    until(lambda: slurm.shown(job)["JobState"] in ("COMPLETED", "FAILED"), told)
    shown = slurm.shown(job)
    assert (shown["JobState"], shown["ExitCode"], shown["Restarts"]) == ("COMPLETED", "0:0", "2"), told()
    assert log.read_text().count("Stopped. Continue with: symptune resume first") == 2
    run = open_run(Folder("runs/first"))
    assert [trial.state for trial in run.trials.values()] == ["finished", "finished"]
    assert most_often(read_events(run.folder)) == 1
    assert Path("runs/first/results/leaderboard.csv").exists()
    shutil.rmtree(f"/tmp/ray-{job}")
