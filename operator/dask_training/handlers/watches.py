"""Kopf, as the engine of the watches and nothing else: no finalizers, no patches, no Events, no peering."""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import aiohttp
import kopf
from kopf._cogs.clients import api as kopf_api
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory

from dask_training.errors import DaskTrainingError
from dask_training.handlers.cache import Cache
from dask_training.handlers.health import WatchProgress
from dask_training.handlers.resync import WATCHED, selector
from dask_training.handlers.tasks import first_end
from dask_training.handlers.workqueue import Key
from dask_training.kube import Connection, Resource
from dask_training.kube.resources import JOBS

LOG = logging.getLogger(__name__)


class Backoffs:
    """Seconds between tries of a list or watch, without end: kopf gives a finite row up, and the operator with it."""

    def __iter__(self) -> Iterator[float]:
        for round_ in itertools.count():
            yield min(15.0, 0.25 * 2 ** min(round_, 8)) * (0.5 + random.random() / 2)  # noqa: S311 - spreads load


def watch_settings() -> kopf.OperatorSettings:
    """Give kopf's settings."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True  # else it watches CRDs and namespaces, which takes rights of the whole cluster
    settings.watching.server_timeout = 290
    settings.watching.client_timeout = 320
    settings.watching.connect_timeout = 5
    settings.watching.inactivity_timeout = 75
    settings.watching.reconnect_backoff = 0.1
    settings.watching.chunk_size = 100  # what a page of raw pods takes is what the process takes for good
    settings.networking.request_timeout = 30  # a page of pods on a busy server
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = Backoffs()
    settings.queueing.idle_timeout = 1.0
    settings.queueing.exit_timeout = 0.1
    settings.process.ultimate_exiting_timeout = None
    for resource in WATCHED:
        if resource is not JOBS:
            settings.watching.label_selectors[resource.plural] = selector(resource)
    return settings


async def _whole_lines(content: aiohttp.StreamReader, chunk_size: int = 1024**2) -> AsyncIterator[bytes]:
    """As kopf's own, without what has no end: a connection that was cut within an event, for which kopf would end."""
    rest = b""
    async for data in content.iter_chunked(chunk_size):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line:
                yield line


class _Forgetful(ResourceMemories):
    """Keeps nothing of objects: what kopf remembers for its own kinds of handlers is 10 kB each, and we use none."""

    async def recall(self, *args: Any, **kwargs: Any) -> ResourceMemory:
        return await super().recall(*args, **(kwargs | {"ephemeral": True}))


class WatchesEndedError(DaskTrainingError):
    """A watch ended for good."""


class Watches:
    """Watches jobs and what belongs to them; puts what it sees into `cache` and tells `changed` of each job."""

    def __init__(
        self,
        connection: Connection,
        cache: Cache,
        changed: Callable[[Key], None],
        progress: WatchProgress,
        namespaces: Sequence[str] | None,
    ) -> None:
        self._connection = connection
        self._cache = cache
        self._changed = changed
        self._progress = progress
        self._namespaces = namespaces
        self._sessions: list[aiohttp.ClientSession] = []
        self.started: Callable[[], None] = lambda: None
        """Called when kopf has started, and has taken SIGTERM and SIGINT for itself."""

    async def run(self) -> None:
        """Watch for ever. Raises what ends a watch for good."""
        kopf_api.iter_jsonlines = _whole_lines
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        for resource in WATCHED:
            # Kopf asks for a group by name, and for the core group by its version alone.
            kopf.on.event(resource.group or "", resource.version, resource.plural, registry=registry)(
                self._handler(resource)
            )
            for namespace in self._namespaces if self._namespaces is not None else (None,):
                self._progress.expect(resource.path(namespace))
        everywhere = self._namespaces is None
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=watch_settings(),
            standalone=True,
            memories=_Forgetful(),
            clusterwide=everywhere,
            namespaces=() if everywhere else tuple(self._namespaces or ()),
        )
        self.started()
        # Not kopf.run_tasks: in the end it would wait five seconds for every task of this process.
        try:
            await first_end(tasks, lambda names: WatchesEndedError(f"kopf's {names} ended"))
        finally:
            for session in self._sessions:
                await session.close()

    async def _login(self, **_: Any) -> kopf.AiohttpSession:
        session = self._connection.session(traces=[self._progress.trace()])
        self._sessions.append(session)
        return kopf.AiohttpSession(aiohttp_session=session, server=self._connection.host)

    def _handler(self, resource: Resource) -> Callable[..., Any]:
        async def changed(event: dict[str, Any], **_: Any) -> None:
            body = event["object"]
            if event["type"] == "DELETED":
                key = self._cache.remove(resource, body["metadata"])
            else:
                key = self._cache.put(resource, body)
            if key is not None:
                self._changed(key)

        changed.__name__ = changed.__qualname__ = f"{resource.plural}_changed"
        return changed
