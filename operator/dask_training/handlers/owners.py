"""Looks at the pods that jobs belong to: a session that has ended need not have been deleted.

Kubernetes deletes a job with the pod that owns it. A pod whose container was killed, or that has been started again in
place, is still there, and its session is not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from dask_training.api import Mode, Phase
from dask_training.handlers.cache import Cache
from dask_training.handlers.logs import about_key
from dask_training.handlers.workqueue import Key
from dask_training.kube import KubeClient
from dask_training.kube.client import JSONObject
from dask_training.kube.errors import ApiError, NotFoundError
from dask_training.kube.resources import PODS
from dask_training.observed import time_of

LOG = logging.getLogger(__name__)

PERIOD = 10.0
"""Seconds between two looks at a pod."""
MOST_A_SECOND = 10
"""Looks a second, of all jobs together: with more pods than a period has room for, it is longer."""
LOOKED_AT = (Phase.PENDING.value, Phase.STARTING.value, Phase.RUNNING.value)
MODES = (Mode.SESSION.value, Mode.WORKERS.value)

Owner: TypeAlias = tuple[str, str, str]
"""Namespace, name and uid of a pod."""


class OwnerPoller:
    """Knows which jobs' pods are gone; tells `changed` of each job as soon as it does."""

    def __init__(
        self, client: KubeClient, cache: Cache, changed: Callable[[Key], None], *, period: float = PERIOD
    ) -> None:
        self._client = client
        self._cache = cache
        self._changed = changed
        self._period = period
        self._gone: dict[str, str] = {}

    def gone(self, uid: str) -> str:
        """Say what has become of the pod that the job with this uid belongs to; "" while it is there."""
        return self._gone.get(uid, "")

    async def run(self) -> None:
        """Look for ever."""
        while True:
            owned = self._owned()
            started = asyncio.get_running_loop().time()
            for owner, jobs in owned.items():
                await self._look(owner, jobs)
                await asyncio.sleep(1 / MOST_A_SECOND)
            rest = started + self._period - asyncio.get_running_loop().time()
            await asyncio.sleep(max(rest, 0.0) if owned else min(self._period, 1.0))

    def _owned(self) -> dict[Owner, list[JSONObject]]:
        """Jobs that go on, by the pod that they belong to."""
        found: dict[Owner, list[JSONObject]] = {}
        alive = set()
        for key in self._cache.in_phase(*LOOKED_AT):
            job = self._cache.job(key)
            owner = owner_of(job) if job is not None else None
            if job is not None and owner is not None:
                alive.add(job["metadata"]["uid"])
                found.setdefault(owner, []).append(job)
        self._gone = {uid: words for uid, words in self._gone.items() if uid in alive}
        return found

    async def _look(self, owner: Owner, jobs: list[JSONObject]) -> None:
        namespace, name, uid = owner
        try:
            pod = await self._client.get(PODS, namespace, name)
        except NotFoundError:
            pod = None
        except ApiError as error:  # nothing is known, and so nothing ends
            LOG.debug("Pod %s can't be looked at: %s", name, error)
            return
        if pod is not None and pod["metadata"]["uid"] != uid:
            pod = None
        for job in jobs:
            metadata = job["metadata"]
            words = f"Pod {name} is gone" if pod is None else ended(pod, metadata["creationTimestamp"])
            if words and metadata["uid"] not in self._gone:
                key = (namespace, str(metadata["name"]))
                LOG.info("%s: the job that belongs to it ends", words, extra=about_key(key))
                self._gone[metadata["uid"]] = words
                self._changed(key)


def owner_of(job: Mapping[str, Any]) -> Owner | None:
    """The pod that a job belongs to, for modes in which it ends with it; None if there is none."""
    metadata = job["metadata"]
    if (job.get("spec") or {}).get("mode") not in MODES:
        return None
    for reference in metadata.get("ownerReferences") or ():
        if (reference.get("apiVersion"), reference.get("kind")) == ("v1", "Pod"):
            return str(metadata["namespace"]), str(reference["name"]), str(reference["uid"])
    return None


def ended(pod: Mapping[str, Any], job_created: str) -> str:
    """How the session in a pod has ended that had begun when the job was made; "" while it goes on.

    Where a pod has several containers nobody knows which of them has the session: then the pod's end counts alone.
    """
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return f"Pod {name} has ended"
    containers: Sequence[Mapping[str, Any]] = status.get("containerStatuses") or []
    created = time_of(job_created)
    if len(containers) != 1 or created is None:
        return ""
    container = containers[0]
    states = [container.get(field) or {} for field in ("state", "lastState")]
    ends = [time_of((state.get("terminated") or {}).get("finishedAt")) for state in states]
    if any(end is not None and end > created for end in ends):
        return f"Pod {name} was started again" if _starts_again(pod, container) else f"Pod {name} has ended"
    return ""


def _starts_again(pod: Mapping[str, Any], container: Mapping[str, Any]) -> bool:
    """Whether the kubelet starts the container again; where it does not, the pod's phase says so a moment later."""
    policy = (pod.get("spec") or {}).get("restartPolicy", "Always")
    now = (container.get("state") or {}).get("terminated")
    if now is None or policy == "Always":
        return True
    return bool(policy == "OnFailure" and now.get("exitCode") != 0)
