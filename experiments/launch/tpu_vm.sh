#!/usr/bin/env bash
# Runs a training command on all hosts of a TPU pod slice, again after every preemption, to its end.
#
#   PROJECT=my-project ZONE=us-east5-a TYPE=v5p-128 BUCKET=my-bucket \
#     experiments/launch/tpu_vm.sh run1 python -m experiments.train \
#       --config=configs/pod_35b_a3b.py --workdir=/mnt/run1
#
# The command is `experiments.train` (CPT, or SFT with --config.stage=sft); RL runs on one host.
# run1 is the name of the slice, and of the folder of BUCKET that every host mounts as /mnt/run1
# (gcsfuse): the work directory, filled before by `--data_only` on a machine with CPU cores. A spot
# slice that is taken away (SIGTERM: the command saves and ends) is asked for anew, and the same
# command goes on from the newest whole checkpoint. SPOT=0 pays for one that stays; KEEP=1 leaves the
# slice when the command has ended; DRY_RUN=1 prints what would be done. Needs gcloud, logged in; the
# checkout is copied as it stands.
set -euo pipefail
script=tpu_vm
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[[ $# -ge 2 ]] || { sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0"; exit 2; }
name=$1
shift
require PROJECT ZONE TYPE BUCKET
require_train "$@"
command="$(printf '%q ' "$@")--coordinator=auto"
runtime=${RUNTIME:-v2-alpha-tpuv5}
flags=(--project="$PROJECT" --zone="$ZONE")

state() {
  gcloud compute tpus queued-resources describe "$name" "${flags[@]}" \
    --format='value(state.state)' 2>/dev/null || echo MISSING
}

on_all_hosts() {
  run gcloud compute tpus tpu-vm ssh "$name" "${flags[@]}" --worker=all --command="$1"
}

delete() {
  run gcloud compute tpus queued-resources delete "$name" "${flags[@]}" --force --quiet
}

create() {
  local spot=()
  [[ ${SPOT:-1} == 0 ]] || spot=(--spot)
  run gcloud compute tpus queued-resources create "$name" "${flags[@]}" --node-id="$name" \
    --accelerator-type="$TYPE" --runtime-version="$runtime" "${spot[@]}"
}

wait_until_active() {
  [[ ${DRY_RUN:-0} == 1 ]] && return
  until [[ $(state) == ACTIVE ]]; do
    case $(state) in
      FAILED | SUSPENDED | MISSING) return 1 ;;
    esac
    echo "tpu_vm: $name is $(state)"
    sleep 30
  done
}

set_up() {
  run gcloud compute tpus tpu-vm scp --recurse . "$name:aw_jax" "${flags[@]}" --worker=all &&
    on_all_hosts "sudo mkdir -p /mnt/$name && sudo chmod 777 /mnt/$name &&
    mountpoint -q /mnt/$name || gcsfuse --implicit-dirs --rename-dir-limit=100000 --only-dir=$name $BUCKET /mnt/$name" &&
    on_all_hosts "curl -LsSf https://astral.sh/uv/install.sh | sh &&
      ~/.local/bin/uv venv --quiet --allow-existing --python 3.11 --seed venv &&
      . venv/bin/activate && cd aw_jax && pip install -q -e '.[tpu]'"
}

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
while true; do
  case $([[ ${DRY_RUN:-0} == 1 ]] && echo MISSING || state) in
    FAILED | SUSPENDED | SUSPENDING) delete && create ;;
    MISSING) create ;;
  esac
  if wait_until_active && set_up && on_all_hosts ". venv/bin/activate && cd aw_jax && $command"; then
    break
  fi
  # What ended the command: the slice, which is asked for anew, or the command itself, which is not.
  if [[ $(state) == ACTIVE ]]; then
    echo "tpu_vm: the command failed on a slice that is whole; not started again" >&2
    exit 1
  fi
  echo "tpu_vm: $name was preempted; asking for another"
done
[[ ${KEEP:-0} == 1 ]] || delete
