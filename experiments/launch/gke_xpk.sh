#!/usr/bin/env bash
# Runs a training command on TPU slices of a GKE cluster through XPK, again after every preemption.
#
#   PROJECT=my-project ZONE=us-east5-a CLUSTER=my-cluster TYPE=v5p-128 BUCKET=my-bucket \
#     IMAGE=us-docker.pkg.dev/my-project/aw-jax/aw_jax:1 \
#     experiments/launch/gke_xpk.sh run1 python -m experiments.train \
#       --config=configs/pod_35b_a3b.py --workdir=/mnt/aw_jax/run1
#
# The command is `experiments.train` (CPT, or SFT with --config.stage=sft); RL runs on one host.
# BUCKET, with a hierarchical namespace since checkpoints are renamed into place, is mounted as
# /mnt/aw_jax in every pod; the work directory there is filled before by
# `--data_only` on a machine with CPU cores. GKE sends SIGTERM when it takes a node away: the command
# saves and ends with an error, the workload is restarted (RESTARTS times at most, 100 by default) and
# the same command goes on from the newest whole checkpoint. IMAGE is built from the Dockerfile beside
# this script:
#
#   docker build -f experiments/launch/Dockerfile -t "$IMAGE" . && docker push "$IMAGE"
#
# SLICES says how many (1 by default; more are joined by the data centre's network); DRY_RUN=1 prints
# what would be done. Needs xpk (pip install xpk) and gcloud, logged in.
set -euo pipefail
script=gke_xpk
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[[ $# -ge 2 ]] || { sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0"; exit 2; }
name=$1
shift
require PROJECT ZONE CLUSTER TYPE BUCKET IMAGE
require_train "$@"
flags=(--project="$PROJECT" --zone="$ZONE" --cluster="$CLUSTER")

# Attached once, it stays with the cluster.
if [[ ${DRY_RUN:-0} == 1 ]] || ! xpk storage list "${flags[@]}" | grep -q "aw-jax-$BUCKET"; then
  run xpk storage attach "aw-jax-$BUCKET" "${flags[@]}" --type=gcsfuse --bucket="$BUCKET" \
    --mount-point=/mnt/aw_jax --readonly=false --size=1000 --auto-mount=true
fi
run xpk workload create --workload="$name" "${flags[@]}" --tpu-type="$TYPE" \
  --num-slices="${SLICES:-1}" --docker-image="$IMAGE" --max-restarts="${RESTARTS:-100}" \
  --command="exec $(printf '%q ' "$@")--coordinator=auto"
