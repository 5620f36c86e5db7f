#!/usr/bin/env bash
# base-image.sh [SUITE]: makes sure of the image dask-training-base:SUITE (default: bookworm), and prints its name:
# Debian as a container registry has it, or debootstrapped where none can be reached, with this machine's CA certificates.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

suite="${1:-bookworm}"
debian="debian:$suite-slim"
base="dask-training-base:$suite"

debootstrapped() {
  local rootfs
  [[ $(id -u) == 0 ]] || die "No container registry can be reached, and only root can make $debian from Debian's packages"
  command -v debootstrap >/dev/null || apt-get install -qq -y --no-install-recommends debootstrap >/dev/null \
    || die "No container registry can be reached, and debootstrap, which makes $debian without one, could not be installed"
  rootfs="$(mktemp -d)"
  debootstrap --variant=minbase "$suite" "$rootfs"
  # What makes an image "slim": no documentation (licences stay) and no translations, of what is installed later neither.
  printf 'path-exclude /usr/share/%s/*\n' doc man locale info >"$rootfs/etc/dpkg/dpkg.cfg.d/docker"
  printf 'path-include /usr/share/doc/*/copyright\n' >>"$rootfs/etc/dpkg/dpkg.cfg.d/docker"
  find "$rootfs/usr/share/doc" -type f ! -name copyright -delete
  rm -rf "$rootfs"/usr/share/{man,locale,info}/* "$rootfs"/var/cache/apt/* "$rootfs"/var/lib/apt/lists/* "$rootfs"/var/log/*.log
  # As in a registry's Debian: apt keeps neither packages nor its own caches.
  printf 'Dir::Cache::%s "";\n' pkgcache srcpkgcache >"$rootfs/etc/apt/apt.conf.d/docker-clean"
  echo 'APT::Keep-Downloaded-Packages "false"; DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb"; };' >>"$rootfs/etc/apt/apt.conf.d/docker-clean"
  tar -C "$rootfs" -c . | docker import --change 'CMD ["bash"]' - "$debian"
  rm -rf "$rootfs"
}

pulled_or_debootstrapped() {
  if registry_reached; then docker pull "$debian"; else debootstrapped; fi
}

# The bundle goes to where Debian has its own; pip, requests and botocore bring bundles of theirs and are pointed to it.
with_certificates() {
  local context
  context="$(mktemp -d)"
  cp "$certificates" "$context/ca-certificates.crt"
  cat >"$context/Dockerfile" <<END
FROM $debian
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
RUN chmod 644 /etc/ssl/certs/ca-certificates.crt && \\
    printf '[global]\\ncert = /etc/ssl/certs/ca-certificates.crt\\n' > /etc/pip.conf
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \\
    REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt \\
    AWS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt
LABEL io.dask-training.inputs=$inputs
END
  docker build --tag "$base" "$context"
  rm -rf "$context"
}

have_image "$debian" || quietly "Getting $debian" pulled_or_debootstrapped
certificates="$(machine_certificates)"
inputs="$(cat "$certificates" "${BASH_SOURCE[0]}" <(docker image inspect --format '{{.Id}}' "$debian") | sha256sum | cut -c1-12)"
made="$(docker image inspect --format '{{index .Config.Labels "io.dask-training.inputs"}}' "$base" 2>/dev/null || true)"
[[ "$made" == "$inputs" ]] || quietly "Making $base" with_certificates
echo "$base"
