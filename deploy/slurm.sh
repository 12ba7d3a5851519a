#!/usr/bin/env bash
# A search on the nodes of a Slurm job; what follows the script's name goes to `symptune launch`. See docs/slurm.md.
#   sbatch deploy/slurm.sh --name first --trials 20
#SBATCH --job-name=symptune
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=64G
#SBATCH --exclusive
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
#SBATCH --output=symptune-%j.log
# For GPUs: sbatch --gpus-per-node=1 deploy/slurm.sh --gpus-per-trial 1 …
set -euo pipefail

# shellcheck disable=SC1091
source "${SYMPTUNE_VENV:-$SLURM_SUBMIT_DIR/.venv}/bin/activate"
storage=${SYMPTUNE_STORAGE:-$SLURM_SUBMIT_DIR/runs}  # a folder or URI that all nodes see

# Whoever reaches a Ray cluster can run code on it: so this job's cluster gets its own token.
RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_MODE RAY_AUTH_TOKEN
export RAY_TMPDIR=/tmp/ray-$SLURM_JOB_ID  # /tmp/ray may be another user's
export RAY_USAGE_STATS_ENABLED=0  # `ray start` sends statistics to Ray's makers otherwise

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}  # where this script runs
address=$head:6379
cpus=${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}
resources=(--num-cpus="$cpus" --num-gpus="${SLURM_GPUS_ON_NODE:-0}")

steps=()
trap 'kill "${steps[@]}" 2>/dev/null || true; wait' EXIT

on_nodes() {  # on_nodes COUNT NODE,… COMMAND: a task on each, in the background
    srun --nodes="$1" --ntasks="$1" --ntasks-per-node=1 --cpus-per-task="$cpus" --nodelist="$2" "${@:3}" &
    steps+=($!)
}

on_nodes 1 "$head" ray start --head --port=6379 --block "${resources[@]}"
for attempt in {1..60}; do
    if ray health-check --address "$address" >/dev/null 2>&1; then break; fi
    if [ "$attempt" = 60 ] || ! kill -0 "${steps[0]}" 2>/dev/null; then
        echo "slurm.sh: Ray's head does not answer at $address" >&2
        exit 1
    fi
    sleep 2
done
if [ "${#nodes[@]}" -gt 1 ]; then
    workers=$(IFS=,; echo "${nodes[*]:1}")
    on_nodes $((${#nodes[@]} - 1)) "$workers" ray start --address="$address" --block "${resources[@]}"
fi
# As many trials run at once as the nodes that are there at the start can hold.
python - "$address" "${#nodes[@]}" <<'PYTHON'
import sys
import time

import ray

ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
for _ in range(60):
    if sum(node["Alive"] for node in ray.nodes()) >= int(sys.argv[2]):
        break
    time.sleep(2)
else:
    print("slurm.sh: not all nodes have joined; the search starts on those that have", file=sys.stderr)
PYTHON

symptune launch --address "$address" --storage "$storage" "$@" &
search=$!
out_of_time=false
trap : TERM  # Slurm signals every process of the job: the search stops by itself, and a second signal would cut that short
trap 'out_of_time=true; kill -TERM "$search" 2>/dev/null || true' USR1
code=143
while [ "$code" = 138 ] || [ "$code" = 143 ]; do  # a signal to this script ended `wait`, not the search
    code=0
    wait "$search" || code=$?
done
# Slurm itself puts back a job that was preempted or lost its node; here, one whose time is up. The same line continues.
if "$out_of_time" && [ "$code" != 0 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
