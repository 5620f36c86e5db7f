"""Looks for the clusters that jobs name in spec.clusterRef: beside everything else, one small request each time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from dask_training.api import Phase
from dask_training.cluster_ref import ReferencedCluster, service_name
from dask_training.handlers.cache import Cache
from dask_training.handlers.workqueue import Key
from dask_training.kube import KubeClient
from dask_training.kube.client import JSONObject
from dask_training.kube.errors import ApiError, NotFoundError
from dask_training.kube.resources import SERVICES

LOG = logging.getLogger(__name__)

PERIOD = 5.0
"""Seconds between two looks at a cluster that is there."""
EAGER_PERIOD = 1.0
"""The same at one that is not, or not yet."""
TICK = 0.25
LOOKED_FOR = (Phase.PENDING.value, Phase.STARTING.value, Phase.RUNNING.value)


class ReferencedClusters:
    """Keeps what was last seen of each job's referenced cluster; tells `changed` when that changes."""

    def __init__(self, client: KubeClient, cache: Cache, changed: Callable[[Key], None]) -> None:
        self._client = client
        self._cache = cache
        self._changed = changed
        self._seen: dict[str, ReferencedCluster] = {}
        self._next: dict[str, float] = {}

    def of(self, uid: str) -> ReferencedCluster | None:
        """Give what was last seen for the job with this uid, None where nothing has been looked for yet."""
        return self._seen.get(uid)

    async def run(self) -> None:
        """Look for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                for key, job in self._due(asyncio.get_running_loop().time()):
                    group.create_task(self.look(key, job))
                await asyncio.sleep(TICK)

    async def look(self, key: Key, job: JSONObject) -> None:
        """Look once for the cluster of a job (its object); what can't be asked now stays as it was seen last."""
        namespace, uid, name = key[0], job["metadata"]["uid"], str(job["spec"]["clusterRef"]["name"])
        service: JSONObject | None = None
        try:
            service = await self._client.get(SERVICES, namespace, service_name(name))
        except NotFoundError:
            service = None
        except ApiError as error:
            LOG.warning("the cluster can't be looked for: %s", error, extra={"namespace": key[0], "job": key[1]})
            return
        seen = ReferencedCluster.of(name, namespace, service)
        self._next[uid] = asyncio.get_running_loop().time() + (PERIOD if seen.address else EAGER_PERIOD)
        if self._seen.get(uid) != seen:
            self._seen[uid] = seen
            self._changed(key)

    def _due(self, now: float) -> list[tuple[Key, JSONObject]]:
        found, alive = [], set()
        for key in self._cache.referring(*LOOKED_FOR):
            job = self._cache.job(key)
            if job is None:
                continue
            uid = job["metadata"]["uid"]
            alive.add(uid)
            if self._next.get(uid, 0.0) <= now:
                self._next[uid] = now + EAGER_PERIOD  # the answer may make it longer
                found.append((key, job))
        for known in (self._next, self._seen):
            for uid in known.keys() - alive:
                del known[uid]
        return found
