#!/usr/bin/env bash
# build.sh [NAME...]: builds the images operator, runtime and store (or those named; runtime-ml, too) as dask-training-NAME:dev.
# Docker's own cache decides what is built again: after a change of code the last layers, in seconds.
source "$(dirname "${BASH_SOURCE[0]}")/kind-node/lib.sh"
cd "$root"

tag="${TAG:-dev}"
names=("$@")
((${#names[@]})) || names=(operator runtime store)

build() {  # NAME CONTEXT [OPTION...]
  local name="$1" context="$2"
  shift 2
  quietly "Building dask-training-$name:$tag" docker build --tag "dask-training-$name:$tag" \
    --build-arg BASE="$base" --build-arg VERSION="$version" --build-arg REVISION="$revision" "$@" "$context"
}

"$here/docker.sh" start
base="$("$here/base-image.sh")"
version="$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' operator/dask_training/__init__.py)"
# The last commit that changed what is in the images: one of documentation leaves them as they are.
revision="$(git log -1 --format=%H -- operator locks images pyproject.toml 2>/dev/null || true)"
for name in "${names[@]}"; do
  case "$name" in
    operator) build operator . --file images/operator/Dockerfile ;;
    runtime | runtime-ml) build "$name" . --file images/runtime/Dockerfile --target "$name" ;;
    store)
      "$here/tools.sh" versitygw
      context="$cache/store"
      mkdir -p "$context"
      ln -f "$tools/versitygw" "$context/versitygw"
      build store "$context" --file images/store/Dockerfile
      ;;
    *) die "unknown image '$name': operator, runtime, runtime-ml or store" ;;
  esac
done
