"""Events about jobs: what `kubectl describe` shows at its end."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from dask_training import api
from dask_training.kube.client import JSONObject, KubeClient
from dask_training.kube.errors import AlreadyExistsError
from dask_training.kube.resources import EVENTS

COMPONENT = "dask-training-operator"
MESSAGE_LIMIT = 1024


def event(job: Mapping[str, Any], *, kind: str, reason: str, message: str, about: str, now: str) -> JSONObject:
    """Build an Event on `job` (its object); `now` is an RFC 3339 time.

    Its name comes from the job's uid, `reason` and `about` (the transition that it tells of), so that posting it
    again is no second Event.
    """
    metadata = job["metadata"]
    digest = hashlib.sha256("\0".join((metadata["uid"], reason, about)).encode()).hexdigest()[:16]
    return {
        "apiVersion": EVENTS.api_version,
        "kind": EVENTS.kind,
        "metadata": {"name": f"{metadata['name']}.{digest}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": api.API_VERSION,
            "kind": api.KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata.get("resourceVersion", ""),
        },
        "type": kind,
        "reason": reason,
        "message": message[:MESSAGE_LIMIT],
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": COMPONENT,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }


async def post(client: KubeClient, body: Mapping[str, Any]) -> None:
    """Post an Event; one that is there already is done."""
    try:
        await client.create(EVENTS, body["metadata"]["namespace"], body)
    except AlreadyExistsError:
        return
