"""Which parts of an object the operator keeps: what a decision may be made from, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dask_training.api import HEARTBEAT_MANAGER
from dask_training.kube.client import JSONObject
from dask_training.kube.resources import JOBS, PODS, Resource

_METADATA = (
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "ownerReferences",
)
_POD_STATUS = ("phase", "reason", "message", "podIP", "startTime", "conditions")
_CONTAINER = ("name", "state", "lastState", "restartCount", "ready", "started")


def trimmed(resource: Resource, body: Mapping[str, Any]) -> JSONObject:
    """Give what is kept of an object. Jobs keep their resourceVersion: a status is written at one."""
    metadata = _some(body["metadata"], _METADATA)
    if resource is JOBS:
        version = _some(body["metadata"], ("resourceVersion", "generation", "annotations"))
        version["annotations"] = {
            name: value for name, value in (version.get("annotations") or {}).items() if not name.startswith("kubectl.")
        }
        if heartbeats := _heartbeats(body["metadata"]):
            version["managedFields"] = heartbeats
        own = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata | version}
        return own | _some(body, ("spec", "status"))
    if resource is PODS:
        return {"metadata": metadata, "spec": _pod_spec(body.get("spec") or {}), "status": _pod_status(body)}
    return {"metadata": metadata, "spec": _some(body.get("spec") or {}, ("clusterIP",))}


def _heartbeats(metadata: Mapping[str, Any]) -> list[JSONObject]:
    entries = metadata.get("managedFields") or ()
    return [_some(entry, ("manager", "time")) for entry in entries if entry.get("manager") == HEARTBEAT_MANAGER]


def _pod_spec(spec: Mapping[str, Any]) -> JSONObject:
    containers = [_some(container, ("name", "image", "resources")) for container in spec.get("containers") or ()]
    return _some(spec, ("nodeName",)) | {"containers": containers}


def _pod_status(body: Mapping[str, Any]) -> JSONObject:
    status = body.get("status") or {}
    kept = _some(status, _POD_STATUS)
    for field in ("initContainerStatuses", "containerStatuses"):
        if status.get(field):
            kept[field] = [_some(container, _CONTAINER) for container in status[field]]
    return kept


def _some(body: Mapping[str, Any], names: tuple[str, ...]) -> JSONObject:
    return {name: body[name] for name in names if name in body}
