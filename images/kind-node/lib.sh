# What the scripts of this folder share; sourced by each.
# shellcheck shell=bash disable=SC2034
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
cache="$root/.cache"           # git-ignored: tools, build products, the kubeconfig of the tests
tools="$cache/tools/bin"
state=/run/dask-training       # of the dockerd that docker.sh started; gone with the machine's next start
# shellcheck source=versions
source "$here/versions"
export PATH="$tools:$PATH"

say() { printf '%s\n' "$*" >&2; }

die() {
  say "$*"
  exit 1
}

# quietly WHAT COMMAND...: says what is going on, and shows the command's output only if it fails.
quietly() {
  local what="$1" log started="$SECONDS" status
  shift
  log="$(mktemp)"
  say "$what ..."
  # Not in an `if`: bash would go on after a failure within a function there.
  set +e
  (set -e; "$@") >"$log" 2>&1 </dev/null
  status=$?
  set -e
  if ((status)); then
    tail -n 60 "$log" >&2
    say "$what: failed (exit code $status)"
  else
    say "$what: done in $((SECONDS - started)) s"
  fi
  rm -f "$log"
  return "$status"
}

# program FLAGS TARGET PACKAGE...: static binaries of the module programs/, by $go, with these flags for the linker.
program() {
  local flags="$1" target="$2"
  shift 2
  (cd "$here/programs" && "$go" build -mod=readonly -trimpath -ldflags "-s -w $flags" -o "$target" "$@")
}

# hash_of PATH...: twelve digits that change when any of the files does, or its name.
hash_of() {
  (cd "$here" && find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) | sha256sum | cut -c1-12
}

have_image() { docker image inspect "$1" >/dev/null 2>&1; }

# Whether every capability that `docker run --privileged` asks for may be had here; some sandboxes withhold a few.
all_capabilities() {
  local last bound
  last="$(cat /proc/sys/kernel/cap_last_cap)"
  bound="$(sed -n 's/^CapBnd:\s*//p' /proc/self/status)"
  [[ $((16#$bound)) == $(((1 << (last + 1)) - 1)) ]]
}

# Whether Docker can pull from its registry; the smallest image there is settles it, within seconds.
registry_reached() {
  timeout 6 docker pull --quiet hello-world >/dev/null 2>&1 || return 1
  docker image rm hello-world >/dev/null 2>&1 || true
}

# The CA certificates that this machine trusts, as one file; a proxy that looks into TLS has its own among them.
machine_certificates() {
  local each
  for each in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
    [[ -s "$each" ]] && echo "$each" && return
  done
  die "No CA certificates found on this machine. On Debian and Ubuntu: apt-get install ca-certificates"
}
