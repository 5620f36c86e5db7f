#!/usr/bin/env bash
# node-image.sh: makes sure of an image for kind's nodes, and prints its name. kind's own is pulled where a container registry
# can be reached; elsewhere one is built from Debian packages and Go modules (6 min on two cores, 2 min with Go's caches warm).
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

local_image="kindest/node:dask-training-$(hash_of versions node-image.sh base-image.sh node routes programs)"
registry=registry.k8s.io
bin="$cache/kind-node/bin"
work="$cache/kind-node/work"
routes=docker.io/kind-node/routes:v1
preload=("$registry"/kube-{apiserver,controller-manager,scheduler,proxy}:"$KUBERNETES" "$registry/etcd:$ETCD" "$registry/coredns/coredns:$COREDNS"
  "$registry/pause:$PAUSE" "docker.io/rancher/local-path-provisioner:$LOCAL_PATH" "$routes")

binaries() {
  local go version=k8s.io/component-base/version minor
  minor="$(cut -d. -f2 <<<"$KUBERNETES")"
  go="$("$here/tools.sh" go)"
  export CGO_ENABLED=0 GOFLAGS=""
  program "-X $version.gitVersion=$KUBERNETES -X $version.gitMajor=1 -X $version.gitMinor=$minor -X $version.gitTreeState=clean" "$bin/" ./kubernetes
  program "" "$bin/etcd" go.etcd.io/etcd/server/v3
  program "" "$bin/" ./coredns ./pause github.com/rancher/local-path-provisioner
}

static_image() {  # NAME TAG: one static binary, nothing else
  mkdir -p "$work/$1"
  cp "$bin/$1" "$work/$1/"
  printf 'FROM scratch\nENV PATH=/usr/local/bin\nCOPY %s /usr/local/bin/%s\nENTRYPOINT ["/usr/local/bin/%s"]\n' "$1" "$1" "$1" \
    >"$work/$1/Dockerfile"
  docker build --quiet --tag "$2" "$work/$1"
}

cluster_images() {
  static_image etcd "$registry/etcd:$ETCD"
  static_image coredns "$registry/coredns/coredns:$COREDNS"
  static_image pause "$registry/pause:$PAUSE"
  static_image local-path-provisioner "docker.io/rancher/local-path-provisioner:$LOCAL_PATH"
  # kube-proxy and the routes that stand in for kindnet (not to be had as a module) need iptables and iproute2: one image for all
  # that is in the one program.
  cp -r "$here/routes" "$work/routes"
  cp "$bin/kubernetes" "$work/routes/"
  docker build --quiet --build-arg BASE="$base" --tag "$routes" "$work/routes"
  local component
  for component in kube-{apiserver,controller-manager,scheduler,proxy}; do
    docker tag "$routes" "$registry/$component:$KUBERNETES"
  done
}

# The node, then the cluster's own images imported into its containerd. --no-unpack: overlay does not mount on overlay.
node_image() {
  local build=dask-training-node-build
  cp -r "$here/node" "$work/node"
  mkdir -p "$work/node/bin"
  cp "$bin/kubernetes" "$work/node/bin/"
  chmod +x "$work"/node/usr/local/bin/*
  docker build --quiet --tag "$build" --build-arg BASE="$base" --build-arg KUBERNETES_VERSION="$KUBERNETES" "$work/node"
  docker rm -f "$build" >/dev/null 2>&1 || true
  docker save "${preload[@]}" >"$work/preload.tar"
  docker run -d --privileged --name "$build" --entrypoint sleep -v "$work/preload.tar:/preload.tar:ro" "$build" infinity
  # shellcheck disable=SC2016
  docker exec --privileged "$build" bash -ec '
    containerd >/tmp/containerd.log 2>&1 & daemon=$!
    for _ in $(seq 100); do ctr version >/dev/null 2>&1 && break; sleep 0.2; done
    ctr -n k8s.io images import --no-unpack --digests /preload.tar
    kill $daemon; wait $daemon || true; rm -rf /run/containerd/* /tmp/containerd.log'
  docker stop -t 1 "$build"
  docker commit --change 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' "$build" "$local_image"
  docker rm -f "$build"
  docker rmi "$build" "${preload[@]}"  # all in the node image now
}

build() {
  base="$("$here/base-image.sh")"
  rm -rf "$work"
  mkdir -p "$work" "$bin"
  quietly "Making Kubernetes $KUBERNETES from its Go modules (5 min the first time)" binaries
  quietly "Making the cluster's images" cluster_images
  quietly "Making the node image" node_image
  rm -rf "$work" "$bin"  # Go's own cache makes them again within seconds
}

# kind's image expects all capabilities in its containers.
if have_image "$local_image"; then
  echo "$local_image"
elif all_capabilities && { have_image "$KINDEST_NODE" || { registry_reached && quietly "Pulling $KINDEST_NODE" docker pull "$KINDEST_NODE"; }; }; then
  echo "$KINDEST_NODE"
else
  build
  echo "$local_image"
fi
