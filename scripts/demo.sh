#!/usr/bin/env bash
# What `make demo` shows, on the cluster and with the images that it has made: a job from helm install to what is kept and what is left.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root="$PWD"
KUBECONFIG="$root/.cache/kubeconfig"
PATH="$root/.cache/tools/bin:$root/.venv/bin:$PATH"
export KUBECONFIG PATH
results="${1:-artifacts/demo}"

show() {  # says what a user would type, then does it
  printf '\n$ %s\n' "$*"
  "$@"
}

show helm upgrade --install dask-training-operator charts/dask-training-operator --namespace dask-training-system \
  --create-namespace --set image.tag=dev --wait --timeout 180s
kubectl delete dasktrainingjob flights --ignore-not-found >/dev/null

show kubectl apply -f examples/flights/job.yaml
show dask-training logs flights --follow
show dask-training wait flights
show kubectl get dasktrainingjob flights
show kubectl get dasktrainingjob flights -o wide

rm -rf "$results"
show dask-training artifacts get flights "$results" --cluster
show ls -l "$results"

printf '\nWhat is left of the job on the cluster, beside its status and what it has kept:\n'
show kubectl get pods,services,secrets,networkpolicies -l dask-training.io/job=flights
printf '\nThe cluster stays for you to look around: kubectl --context kind-dask-training get dtj. To remove it: make kind-delete\n'
