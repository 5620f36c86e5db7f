"""The pod that a session runs in, as the owner of what it has made."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from dask_training.client.connection import Body, Connection, core_path
from dask_training.errors import ForbiddenError, NotFoundError

# Where a pod's name stands: by the downward API, or its host name.
_POD_NAMES: Final = ("POD_NAME", "MY_POD_NAME", "HOSTNAME")


def own_pod(connection: Connection, say: Callable[[str], None], what: str) -> Body | None:
    """This process's pod as the owner of *what*, so that nothing of that outlives it; None outside of a pod."""
    if not connection.pod_namespace or connection.pod_namespace != connection.namespace:
        return None
    name = next((value for each in _POD_NAMES if (value := os.environ.get(each))), "")
    try:
        pod = connection.request("GET", core_path(connection.namespace, "pods", name)) if name else None
    except NotFoundError:
        pod = None  # on the host's network a pod has the host's name
    except ForbiddenError as error:
        say(f"The {what} will not go with this pod but by its time-outs: {error}")
        return None
    if pod is None or is_gone(pod):  # what a dying pod owns would go with it at once
        return None
    return pod_owner(pod)


def pod_owner(pod: Mapping[str, Any]) -> Body:
    """The reference with which *pod* owns a job: it goes when the pod goes."""
    metadata = pod["metadata"]
    return {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}


def is_gone(body: Mapping[str, Any]) -> bool:
    """Whether it is deleted, but for what the API server still has to do."""
    return bool(body["metadata"].get("deletionTimestamp"))
