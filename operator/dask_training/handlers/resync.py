"""A list of everything now and then: what a watch missed is put right, and what it lost is dropped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence

from dask_training.api import Label
from dask_training.handlers.cache import Cache
from dask_training.handlers.workqueue import Key
from dask_training.kube import KubeClient, Resource
from dask_training.kube.errors import ApiError
from dask_training.kube.resources import JOBS, PODS, SERVICES

LOG = logging.getLogger(__name__)

PERIOD = 120.0
JITTER = 0.2
RETRY = 1.0
WATCHED = (JOBS, PODS, SERVICES)


def selector(resource: Resource) -> str:
    """Give the label selector that the operator lists and watches a kind with."""
    return "" if resource is JOBS else str(Label.JOB_UID)


class Resync:
    """Lists jobs, pods and Services of `namespaces` (None: of all) into `cache`; tells `changed` of each job.

    `gap` asks for a list at once: a watch has begun anew, and what ended meanwhile is told by nothing else.
    """

    def __init__(
        self,
        client: KubeClient,
        cache: Cache,
        namespaces: Sequence[str] | None,
        changed: Callable[[Key], None],
        gap: asyncio.Event,
    ) -> None:
        self._client = client
        self._cache = cache
        self._namespaces = namespaces
        self._changed = changed
        self._gap = gap
        self.done = asyncio.Event()
        """Set after the first list."""

    async def once(self) -> None:
        """List everything once. Raises ApiError."""
        for namespace in self._namespaces if self._namespaces is not None else (None,):
            # Children first: a job is then never looked at without what it already has.
            for resource in (PODS, SERVICES, JOBS):
                await self._list(resource, namespace)

    async def run(self) -> None:
        """List everything now, at each gap, and about every two minutes, for ever; after a failure, again soon."""
        while True:
            self._gap.clear()
            try:
                await self.once()
            except ApiError as error:
                LOG.warning("the list of everything failed, again in %d s: %s", RETRY, error)
                await asyncio.sleep(RETRY)
                continue
            self.done.set()
            period = PERIOD * (1 + JITTER * (2 * random.random() - 1))  # noqa: S311 - spreads load, hides nothing
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gap.wait(), period)

    async def _list(self, resource: Resource, namespace: str | None) -> None:
        listed: set[str] = set()
        version = ""
        # Page by page: a list of all pods as a whole would be the largest thing the operator ever holds.
        async for items, at in self._client.pages(resource, namespace, labels=selector(resource)):
            version = version or at
            for body in items:
                listed.add(str(body["metadata"]["uid"]))
                self._tell(self._cache.put(resource, body))
        for key in self._cache.drop_unlisted(resource, listed, namespace, version):
            self._tell(key)

    def _tell(self, key: Key | None) -> None:
        if key is not None:
            self._changed(key)
