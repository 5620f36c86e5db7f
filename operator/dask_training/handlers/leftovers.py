"""What is left of jobs that were deleted: it goes at once, and goes even where nobody owns it any more.

The garbage collector would leave each pod the grace of its own, which for a worker with a long task is a minute, and
would leave everything alone that was deleted with `--cascade=orphan`.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Mapping
from typing import Any

from dask_training.api import Label
from dask_training.handlers.cache import Cache
from dask_training.handlers.logs import about_key
from dask_training.handlers.workqueue import Key
from dask_training.kube import KubeClient
from dask_training.kube.client import JSONObject, owners
from dask_training.kube.errors import NotFoundError
from dask_training.kube.resources import JOBS, PODS, SERVICES
from dask_training.status import timestamp

LOG = logging.getLogger(__name__)

GRACE_SECONDS = 2


class Leftovers:
    """Takes away what belongs to jobs that are gone or going; `cache` says what there is."""

    def __init__(self, client: KubeClient, cache: Cache, now: Callable[[], datetime.datetime]) -> None:
        self._client = client
        self._cache = cache
        self._now = now

    async def sweep(self, key: Key, job: JSONObject | None) -> None:
        """Take away what jobs of this name have left that were there before `job` (None: there is none now)."""
        current = str(job["metadata"]["uid"]) if job is not None else None
        for uid in self._cache.uids(key) - {current}:
            # A watch that lags behind knows a job's pods before it knows the job.
            if any(self._of(uid)) and await self._is_gone(key, uid):
                await self.take_away(key, uid)

    async def take_away(self, key: Key, uid: str) -> None:
        """Take away all that the job with this uid has. Raises ApiError."""
        pods, services = self._of(uid)
        if pods:
            LOG.info("the job is deleted: its pods go", extra=about_key(key) | {"uid": uid})
            labels = {Label.JOB_UID.value: uid}
            await self._client.delete_collection(PODS, key[0], f"{Label.JOB_UID}={uid}", grace=GRACE_SECONDS)
            when = timestamp(self._now())
            self._cache.mark_deleted(key[0], labels, when, GRACE_SECONDS)
        for service in services:
            metadata = service["metadata"]
            await self._client.delete(SERVICES, key[0], metadata["name"], uid=metadata["uid"])
            self._cache.remove(SERVICES, metadata)

    def _of(self, uid: str) -> tuple[list[JSONObject], list[JSONObject]]:
        """The pods of a job that are not about to go, and its Services that the garbage collector leaves alone."""
        pods, services = self._cache.children(uid)
        return [pod for pod in pods if _stays(pod["metadata"])], [each for each in services if not owners(each)]

    async def _is_gone(self, key: Key, uid: str) -> bool:
        try:
            found = await self._client.get(JOBS, *key)
        except NotFoundError:
            return True
        self._cache.put(JOBS, found)
        return bool(found["metadata"]["uid"] != uid)


def _stays(metadata: Mapping[str, Any]) -> bool:
    grace = metadata.get("deletionGracePeriodSeconds")
    return not metadata.get("deletionTimestamp") or (grace is not None and grace > GRACE_SECONDS)
