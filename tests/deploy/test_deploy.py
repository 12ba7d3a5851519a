"""What deploy/ and the documentation tell a platform is what it and the command line take."""

import itertools
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from run_folder.errors import InputError
from tests.waiting import GUARD_SECONDS
from tune_jobs.cluster import connection as cluster
from tune_jobs.cluster.connection import Capacity, check_slots
from tune_jobs.commands.options import parser
from tune_jobs.execution import TrialResources

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = "1.37"


def tool(name: str) -> str:
    """A linter of the test extra, which is installed next to this Python."""
    return str(Path(sys.executable).with_name(name))


# The command lines that are written down


def commands(path: Path) -> list[list[str]]:
    """Every ``symptune`` line of a page's code blocks, or of a file of deploy/, as words."""
    text = path.read_text()
    if path.suffix == ".md":
        blocks = re.findall(r"^ *```(bash|yaml)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
        text = "\n".join(str(yaml.safe_load(block)) if kind == "yaml" else block for kind, block in blocks)
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        called = re.search(
            r"(?:^|[ '])(?:symptune|python3? -m tune_jobs|deploy/(slurm\.sh)) (?!symptune)([a-z-].*)", line
        )
        if called and not line.lstrip().startswith("#"):
            words = shlex.split(called[2].replace("'}", ""), comments=True)
            words = list(itertools.takewhile(lambda word: word not in ("&&", "|", "&"), words))
            if called[1] or not words[0].startswith("-"):
                found.append(["launch", *words] if called[1] else words)
    return found


PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_in_the_documentation_is_one(page: Path) -> None:
    for words in commands(page):
        parser().parse_args(words)


def test_the_pages_of_the_platforms_start_and_continue_a_search() -> None:
    for name in ("docker", "kubernetes", "ray-cluster", "slurm"):
        text = (ROOT / "docs" / f"{name}.md").read_text()
        assert "launch" in text or "slurm.sh" in text
        for heading in ("resume", "results", "privacy", "cost"):
            assert re.search(rf"^## .*{heading}", text, re.IGNORECASE | re.MULTILINE), (name, heading)


# Docker


def test_the_dockerfile_is_sound_and_copies_nothing_but_the_package() -> None:
    path = DEPLOY / "Dockerfile"
    lint = subprocess.run([tool("hadolint"), str(path)], capture_output=True, text=True)
    assert lint.returncode == 0, lint.stdout
    copied = [word for line in re.findall(r"^COPY (.*)", path.read_text(), re.M) for word in line.split()[:-1]]
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) == allowed
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]} <= allowed
    assert {"cluster", "gpu"} <= set(project["project"]["optional-dependencies"])


# The Ray cluster


@pytest.fixture
def ray_cluster() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text())
    return config


def test_ray_takes_the_cluster_file(ray_cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(ray_cluster))
    ray_cluster["available_node_types"]["spot-cpu"]["min_workerss"] = 1
    with pytest.raises(jsonschema.ValidationError, match="min_workerss"):
        validate_config(prepare_config(ray_cluster))


def test_trials_run_on_spot_nodes_and_the_driver_does_not(ray_cluster: dict[str, Any]) -> None:
    types = ray_cluster["available_node_types"]
    head = types.pop(ray_cluster["head_node_type"])
    assert head["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    for workers in types.values():
        assert workers["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert 1 <= workers["min_workers"] < workers["max_workers"] <= ray_cluster["max_workers"]
    for node in (head, *types.values()):
        assert all(disk["Ebs"]["Encrypted"] for disk in node["node_config"]["BlockDeviceMappings"])


def test_more_trials_than_fit_make_only_a_cluster_that_is_not_ours_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    node = {"Alive": True, "Resources": {"CPU": 4.0}}
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [node, node | {"Alive": False}])
    assert Capacity(TrialResources(), None, growing=True)() == 4
    assert Capacity(TrialResources(), 16, growing=True)() == 16
    assert Capacity(TrialResources(), 16)() == 4
    assert Capacity(TrialResources(), 2, growing=True)() == 2
    with pytest.raises(InputError, match="no trial could start"):
        check_slots(TrialResources(cpus=8))


# KubeRay

INTEGER, STRING, BOOLEAN, OBJECT = ({"type": kind} for kind in ("integer", "string", "boolean", "object"))


def fields(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


START = {"type": "object", "additionalProperties": STRING}
RAY_JOB = fields(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=OBJECT,
    spec=fields(
        ["entrypoint", "rayClusterSpec"],
        entrypoint=STRING,
        backoffLimit=INTEGER,
        shutdownAfterJobFinishes=BOOLEAN,
        ttlSecondsAfterFinished=INTEGER,
        rayClusterSpec=fields(
            ["headGroupSpec"],
            rayVersion=STRING,
            authOptions=fields(["mode"], mode={"enum": ["disabled", "token"]}),
            enableInTreeAutoscaling=BOOLEAN,
            autoscalerOptions=fields(
                [],
                upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
                idleTimeoutSeconds=INTEGER,
            ),
            headGroupSpec=fields(["rayStartParams", "template"], rayStartParams=START, template=OBJECT),
            workerGroupSpecs={
                "type": "array",
                "items": fields(
                    ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"],
                    groupName=STRING,
                    replicas=INTEGER,
                    minReplicas=INTEGER,
                    maxReplicas=INTEGER,
                    rayStartParams=START,
                    template=OBJECT,
                ),
            },
        ),
    ),
)
"""Names and types of the ``ray.io/v1`` fields in use, after KubeRay's API reference; pods are Kubernetes' own."""


@pytest.fixture
def manifests() -> dict[str, dict[str, Any]]:
    text = (DEPLOY / "kuberay-rayjob.yaml").read_text()
    return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(text)}


def pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    spec = job["spec"]["rayClusterSpec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}} | group["template"] for group in groups]


def test_kubernetes_takes_the_manifests(manifests: dict[str, dict[str, Any]]) -> None:
    jsonschema.validate(manifests["RayJob"], RAY_JOB)
    for manifest in (manifests["PersistentVolumeClaim"], *pods(manifests["RayJob"])):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    misspelt = pods(manifests["RayJob"])[0]
    misspelt["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="volumeMount"):
        kubernetes_validate.validate(misspelt, KUBERNETES, strict=True)


def test_a_retried_job_finds_its_run_again(manifests: dict[str, dict[str, Any]]) -> None:
    spec = manifests["RayJob"]["spec"]
    (words,) = commands(DEPLOY / "kuberay-rayjob.yaml")
    options = parser().parse_args(words)
    assert spec["entrypoint"].split() == ["symptune", *words]
    assert options.name
    assert options.address == "auto"
    assert spec["backoffLimit"] > 0
    claim = manifests["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pods(manifests["RayJob"]):
        (container,) = pod["spec"]["containers"]
        (volume,) = pod["spec"]["volumes"]
        (mount,) = container["volumeMounts"]
        assert volume == {"name": mount["name"], "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
        assert options.storage.startswith(f"{mount['mountPath']}/")
        assert pod["spec"]["securityContext"]["runAsNonRoot"]


def test_a_worker_holds_trials_and_the_head_none(manifests: dict[str, dict[str, Any]]) -> None:
    spec = manifests["RayJob"]["spec"]["rayClusterSpec"]
    assert spec["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    assert spec["enableInTreeAutoscaling"] is True
    (group,) = spec["workerGroupSpecs"]
    assert 1 <= group["minReplicas"] < group["maxReplicas"]


# Slurm

STUBS = {
    "scontrol": 'echo "scontrol $*" >> log\nif [ "$1" = show ]; then printf "node1\\nnode2\\nnode3\\n"; fi',
    "srun": 'echo "srun $*" >> log\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"',
    "ray": """\
echo "ray $* token=${#RAY_AUTH_TOKEN}" >> log
if [ "$1" = start ]; then
    trap 'echo "ended $2" >> log; exit 0' TERM
    if [ "$2" = --head ]; then touch head; else touch joined; fi
    while true; do sleep 0.05; done
fi
until test -e head; do sleep 0.05; done""",
    "python": 'echo "python $*" >> log\nuntil test -e joined; do sleep 0.05; done',
    "symptune": """\
echo "symptune $*" >> log
trap 'exit 130' TERM
if [ -e signal ]; then
    until (( 0x$(sed -n 's/^SigCgt:\\s*//p' "/proc/$PPID/status") & 1 << 9 )); do sleep 0.05; done  # USR1 is trapped
    kill -"$(cat signal)" "$PPID"
    if [ "$(cat signal)" = TERM ]; then kill -TERM $$; fi  # Slurm signals every process of the job
    while true; do sleep 0.05; done
fi
exit "$(cat code)\"""",
}
"""Slurm, Ray and the search as far as the script meets them; ``ray start`` stays until it is told to end."""


def run_slurm_script(folder: Path, code: int, signal: str | None = None) -> tuple[int, list[str]]:
    programs = folder / "venv" / "bin"
    programs.mkdir(parents=True)
    for name, text in STUBS.items():
        (programs / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (programs / name).chmod(0o755)
    (programs / "activate").write_text(f"PATH={programs}:$PATH\n")
    (folder / "code").write_text(str(code))
    if signal:
        (folder / "signal").write_text(signal)
    slurm = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "node[1-3]",
        "SLURM_SUBMIT_DIR": "/shared",
        "SLURM_CPUS_PER_TASK": "4",
        "SLURM_GPUS_ON_NODE": "2",
        "SYMPTUNE_VENV": str(folder / "venv"),
    }
    done = subprocess.run(
        ["bash", DEPLOY / "slurm.sh", "--name", "first", "--category", "Discharge summary"],
        cwd=folder,
        env=os.environ | slurm,
        timeout=GUARD_SECONDS,
    )
    return done.returncode, (folder / "log").read_text().splitlines()


def test_the_slurm_script_is_sound() -> None:
    lint = subprocess.run([tool("shellcheck"), str(DEPLOY / "slurm.sh")], capture_output=True, text=True)
    assert lint.returncode == 0, lint.stdout


def test_slurm_starts_the_head_first_then_workers_and_once_they_have_joined_the_search(tmp_path: Path) -> None:
    code, log = run_slurm_script(tmp_path, code=1)
    assert code == 1
    steps = [line for line in log if re.match(r"srun|symptune", line)]
    launch = steps[-1]
    assert steps == [
        "srun --nodes=1 --ntasks=1 --ntasks-per-node=1 --cpus-per-task=4 --nodelist=node1 "
        "ray start --head --port=6379 --block --num-cpus=4 --num-gpus=2",
        "srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=4 --nodelist=node2,node3 "
        "ray start --address=node1:6379 --block --num-cpus=4 --num-gpus=2",
        "symptune launch --address node1:6379 --storage /shared/runs --name first --category Discharge summary",
    ]
    assert "python - node1:6379 3" in log[: log.index(launch)]  # waits for three nodes
    assert all(line.endswith("token=64") for line in log if line.startswith("ray "))
    assert sorted(line for line in log if line.startswith("ended")) == ["ended --address=node1:6379", "ended --head"]
    assert not any("requeue" in line for line in log)
    parser().parse_args(shlex.split(launch.replace("Discharge summary", "'Discharge summary'"))[1:])


@pytest.mark.parametrize(("signal", "requeued"), [("USR1", True), ("TERM", False)])
def test_a_slurm_job_whose_time_is_up_is_put_back_once_the_search_has_stopped(
    tmp_path: Path, signal: str, requeued: bool
) -> None:
    code, log = run_slurm_script(tmp_path, code=0, signal=signal)
    assert code == 130
    assert ("scontrol requeue 7" in log) is requeued
    assert sum(line.startswith("ended") for line in log) == 2
