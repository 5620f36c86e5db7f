#!/usr/bin/env bash
# cluster.sh create: makes the kind cluster of kind-config.yaml and its kubectl context kind-dask-training; leaves a healthy one alone.
# cluster.sh delete: removes it, its network, and the Docker daemon that `create` started, where nothing else runs on that.
# cluster.sh load IMAGE...: brings images that have changed onto the node.    cluster.sh exists: exit code 0 or 1.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

node="$CLUSTER-control-plane"
kubeconfig="$cache/kubeconfig"  # for the tests, whatever context the user works in

exists() { [[ "$(timeout 20 docker inspect --format '{{.State.Running}}' "$node" 2>/dev/null)" == true ]]; }

# Asked more than once: a busy one may miss its time, and one that is not healthy is made anew.
healthy() {
  exists || return 1
  local pause
  for pause in 2 3 4 5 0; do
    if timeout 20 docker exec "$node" kubectl --kubeconfig /etc/kubernetes/admin.conf get --raw /readyz >/dev/null 2>&1; then
      return 0
    fi
    sleep "$pause"
  done
  return 1
}

# One at a time, whoever else makes, loads or deletes.
lock() {
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock 9
}

# A connection to a Service that kube-proxy does not know yet would leave the node, and a proxy on this machine's way out may
# take it: whoever dials would talk to that. Refused, it is tried again.
refuse_strays() {
  docker exec "$node" bash -ec '
    ranges=$(kubectl --kubeconfig /etc/kubernetes/admin.conf get servicecidrs -o jsonpath="{.items[*].spec.cidrs[*]}")
    for range in $ranges; do
      [[ "$range" == *:* ]] && tables=ip6tables || tables=iptables
      rule=(FORWARD -d "$range" -j REJECT)
      "$tables" -w -C "${rule[@]}" 2>/dev/null || "$tables" -w -A "${rule[@]}"
    done'
}

create() {
  "$here/docker.sh" start
  "$here/tools.sh" kind kubectl
  if healthy; then
    say "Using the kind cluster $CLUSTER that is there."
  else
    kind delete cluster --quiet --name "$CLUSTER" 2>/dev/null || true
    local image
    image="$("$here/node-image.sh")"
    cd "$root"  # kind-config.yaml names a folder relative to itself
    quietly "Making the kind cluster $CLUSTER" kind create cluster --config kind-config.yaml --image "$image" --wait 180s
    # One DNS server suffices for one node, and its CPU request is a tenth of a core.
    docker exec "$node" kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system scale deployment coredns --replicas 1 >/dev/null
  fi
  refuse_strays
  kind get kubeconfig --name "$CLUSTER" >"$kubeconfig.new"
  chmod 600 "$kubeconfig.new"
  mv "$kubeconfig.new" "$kubeconfig"
}

delete() {
  timeout 20 docker info >/dev/null 2>&1 || return 0
  if [[ -n "$(docker ps --all --quiet --filter "label=io.x-k8s.kind.cluster=$CLUSTER")" ]]; then
    "$here/tools.sh" kind
    kind delete cluster --quiet --name "$CLUSTER"
    say "Removed the kind cluster $CLUSTER."
  fi
  rm -f "$kubeconfig"
  docker network rm kind >/dev/null 2>&1 || true  # stays where another kind cluster is on it
  "$here/docker.sh" stop
}

# What the node has is noted on the node itself, so that the note goes with it.
load() {
  local image id note
  exists || die "There is no kind cluster to load images into: make kind"
  for image in "$@"; do
    id="$(docker image inspect --format '{{.Id}}' "$image" 2>/dev/null)" || die "There is no image $image: make images"
    note="/kind/loaded/${image//[^a-zA-Z0-9.-]/_}"
    [[ "$(docker exec "$node" cat "$note" 2>/dev/null)" != "$id" ]] || continue
    quietly "Loading $image" load_one "$image"
    docker exec "$node" sh -c "mkdir -p /kind/loaded && echo $id > $note"
  done
}

load_one() {
  docker save "$1" | docker exec --privileged -i "$node" ctr --namespace k8s.io images import --snapshotter overlayfs -
}

case "${1:-}" in
  create) lock; create ;;
  delete) lock; delete ;;
  load) lock; load "${@:2}" ;;
  exists) exists ;;
  *) die "usage: cluster.sh create|delete|exists|load IMAGE..." ;;
esac
