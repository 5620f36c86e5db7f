"""Volumes of the pods and where they are mounted, role by role."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from dask_training.api import CODE_ANNOTATION, STORE_SECRET, Role
from dask_training.model.job import PodField, Spec

CREDENTIALS: Final = "/etc/dask-training"
STORE: Final = "/artifact-store"
STORE_CREDENTIALS: Final = "/etc/dask-training-store"
PREFIX: Final = "dask-training-"  # of our volumes' names: a job's own may be called anything else

# The files of the attempt's Secret that a role is shown. The runner's certificate is the client's.
_FILES: Final = {
    Role.SCHEDULER: ("ca.pem", "scheduler.pem", "token"),
    Role.WORKER: ("ca.pem", "worker.pem"),
    Role.RUNNER: ("ca.pem", "client.pem", "job.json"),
}
_GUEST_FILES: Final = ("job.json", "token")  # on somebody else's cluster: no TLS, and the status is the runner's own


@dataclass(frozen=True)
class Mounted:
    """Volumes with their mounts."""

    volumes: tuple[PodField, ...] = ()
    mounts: tuple[PodField, ...] = ()

    def __add__(self, other: Mounted) -> Mounted:
        """Both."""
        return Mounted(self.volumes + other.volumes, self.mounts + other.mounts)


def of_role(spec: Spec, role: Role, secret: str) -> Mounted:
    """All that a pod of `role` mounts; `secret` is the attempt's."""
    files = _FILES[role] if spec.cluster_ref is None else _GUEST_FILES
    mounted = _secret(secret, files) + _scratch("tmp") + _scratch("work") + _code(spec)
    if role is Role.RUNNER:
        mounted += _script(spec) + of_store(spec)
        return mounted + _own(spec, spec.runner.volume_mounts if spec.runner else ())
    return mounted + _own(spec, spec.workers.volume_mounts if role is Role.WORKER else ())


def of_engine(spec: Spec) -> Mounted:
    """All that a pod of mode Workers mounts: what it is to run comes from an annotation of its own."""
    runner = spec.runner
    annotation = {"path": "code.json", "fieldRef": {"fieldPath": f"metadata.annotations['{CODE_ANNOTATION}']"}}
    given = _mounted("engine", {"downwardAPI": {"items": [annotation]}}, CREDENTIALS, readOnly=True)
    mounts = [*(runner.volume_mounts if runner else ()), *spec.workers.volume_mounts]
    once = [mount for number, mount in enumerate(mounts) if mount not in mounts[:number]]
    return given + _scratch("tmp") + _scratch("work") + _code(spec) + _script(spec) + _own(spec, once)


def of_store(spec: Spec) -> Mounted:
    """The artifact store: the claim, or the Secret with the credentials."""
    destination = spec.artifacts.destination
    if destination is not None and destination.persistent_volume_claim is not None:
        claim = destination.persistent_volume_claim
        source = {"persistentVolumeClaim": {"claimName": claim.claim_name}}
        sub_path = {"subPath": claim.sub_path} if claim.sub_path else {}
        return _mounted("store", source, STORE, **sub_path)
    if destination is None:
        name: str | None = STORE_SECRET
    else:
        name = destination.secret_ref.name if destination.secret_ref else None
    if name is None:
        return Mounted()
    return _mounted("store-credentials", _secret_source(name), STORE_CREDENTIALS, readOnly=True)


def scratch(*names: str) -> Mounted:
    """Empty folders of the pod's own at /<name>, for the root is read-only."""
    return sum(map(_scratch, names), Mounted())


def _scratch(name: str) -> Mounted:
    return _mounted(name, {"emptyDir": {}}, f"/{name}")


def _secret(name: str, files: Iterable[str]) -> Mounted:
    source = _secret_source(name)
    source["secret"]["items"] = [{"key": file, "path": file} for file in files]
    return _mounted("credentials", source, CREDENTIALS, readOnly=True)


def _secret_source(name: str) -> dict[str, Any]:
    # Group-readable, for the pod's group owns the files.
    return {"secret": {"secretName": name, "defaultMode": 0o440}}


def _code(spec: Spec) -> Mounted:
    if spec.code is None:
        return Mounted()
    return _mounted("code", {"configMap": {"name": spec.code.config_map.name}}, "/code", readOnly=True)


def _script(spec: Spec) -> Mounted:
    if spec.runner is None or spec.runner.script_from is None:
        return Mounted()
    key = spec.runner.script_from.config_map
    source = {"configMap": {"name": key.name, "items": [{"key": key.key, "path": key.key}]}}
    return _mounted("script", source, "/script", readOnly=True)


def _own(spec: Spec, mounts: Iterable[PodField]) -> Mounted:
    """The job's own volumes, as far as this pod mounts them."""
    chosen = tuple(_plain(mount) for mount in mounts)
    names = {mount["name"] for mount in chosen}
    return Mounted(tuple(_plain(volume) for volume in spec.volumes if volume["name"] in names), chosen)


def _mounted(name: str, source: Mapping[str, Any], path: str, **options: Any) -> Mounted:
    volume = {"name": PREFIX + name, **source}
    return Mounted((volume,), ({"name": PREFIX + name, "mountPath": path, **options},))


def _plain(field: PodField) -> PodField:
    copied: PodField = msgspec.to_builtins(field)
    return copied
