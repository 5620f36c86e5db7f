#!/usr/bin/env bash
# docker.sh start: makes sure that a Docker daemon answers; as root, installs and starts one where there is none (Debian, Ubuntu).
# docker.sh stop: ends the daemon that `start` started here, unless containers still run on it.
# Exit code 3: Docker can't be had here; the last line on stderr says why.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

copies=/dev/shm/dask-training-docker

answers() { timeout 20 docker info >/dev/null 2>&1; }

cannot() {
  say "Docker can't be had: $*"
  exit 3
}

install_docker() {
  command -v dockerd >/dev/null && command -v iptables >/dev/null && return
  command -v apt-get >/dev/null || cannot "it is not installed, and this is not Debian or Ubuntu, where this script could do it"
  export DEBIAN_FRONTEND=noninteractive
  # Runlevel 1: the package does not start the daemon itself. Without systemd that would be one with the wrong runtime.
  [[ -d /run/systemd/system ]] || export RUNLEVEL=1
  quietly "Installing Docker" bash -c \
    'apt-get update -qq && apt-get install -qq -y --no-install-recommends docker.io iptables ca-certificates' \
    || cannot "apt-get could not install docker.io"
}

# Options for a machine that withholds capabilities: "privileged" then means those that there are (see runc-bounded).
runtime_options() {
  all_capabilities && return
  grep -qs default-runtime /etc/docker/daemon.json && return  # somebody has seen to it; saying it twice is an error
  install -m 755 "$here/runc-bounded" "$state/runc-bounded"
  echo "--add-runtime=bounded=$state/runc-bounded --default-runtime=bounded"
}

# A folder in memory for the copy that the daemon makes of each image that it saves, where there is plenty: disks are slow.
memory_folder() {
  local free
  free="$(awk '$1 == "MemAvailable:" {print $2}' /proc/meminfo)"
  [[ "$(stat -f -c %T /dev/shm 2>/dev/null)" == tmpfs ]] && ((free > 8 << 20)) && echo "$copies"
}

start() {
  answers && return
  [[ $(id -u) == 0 ]] || cannot "no daemon answers this user, and only root can install and start one"
  install_docker
  if [[ -d /run/systemd/system ]]; then
    systemctl start docker || cannot "systemd could not start it: systemctl status docker"
  else
    mkdir -p "$state"
    local options
    read -ra options <<<"$(runtime_options)"
    # Of our environment only what a daemon should know: it outlives whoever started it.
    local keep=("PATH=$PATH" "HOME=${HOME:-/root}") name
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY SSL_CERT_FILE SSL_CERT_DIR; do
      [[ -z "${!name:-}" ]] || keep+=("$name=${!name}")
    done
    local folder
    folder="$(memory_folder)" && keep+=("DOCKER_TMPDIR=$folder")
    (cd / && exec setsid env -i "${keep[@]}" dockerd --pidfile "$state/dockerd.pid" "${options[@]}") \
      >"$state/dockerd.log" 2>&1 </dev/null 9>&- &  # 9: cluster.sh's lock
  fi
  for _ in $(seq 120); do
    answers && return
    sleep 0.25
  done
  [[ ! -f "$state/dockerd.log" ]] || tail -n 15 "$state/dockerd.log" >&2
  cannot "its daemon did not start within 30 s"
}

stop() {
  local pid
  pid="$(cat "$state/dockerd.pid" 2>/dev/null)" || return 0
  [[ "$(cat "/proc/$pid/comm" 2>/dev/null)" == dockerd ]] || return 0
  [[ -z "$(docker ps --quiet)" ]] || return 0
  kill "$pid"
  for _ in $(seq 120); do
    [[ -d "/proc/$pid" ]] || break
    sleep 0.25
  done
  rm -rf "$state" "$copies"
}

case "${1:-}" in
  start) start ;;
  stop) stop ;;
  *) die "usage: docker.sh start|stop" ;;
esac
