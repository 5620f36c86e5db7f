"""What a client knows of its cluster: workers and their threads, and news of those that join or die."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
import weakref
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from distributed import get_worker
from distributed.worker import get_data_from_worker

from dask_training.errors import SchedulerLostError, WorkersLostError

T = TypeVar("T")

FRESH_SECONDS = 0.5  # a view older than this is asked for again; deaths are news that arrives by itself
REACH_SECONDS = 2.0  # a worker that does not answer the client for so long is talked to through the scheduler
POLL_SECONDS = 0.5  # between looks for workers that joined, during a call
MESSAGE_SECONDS = 0.001  # between messages to the scheduler
WAIT_SECONDS = 0.02  # the same, while there are too few


class WorkerDied(NamedTuple):
    """A worker that ended without saying so, and what it was given to do."""

    address: str
    keys: frozenset[str]


class Listener(Protocol):
    """Who wants the news; called in the client's event loop."""

    def workers_changed(self) -> None: ...
    def worker_died(self, death: WorkerDied) -> None: ...


class ClusterView:
    """One per client, see `view_of`. Its state changes in the client's event loop only."""

    def __init__(self, client: Any) -> None:
        self._client = weakref.ref(client)
        self.topic = str(client.id)  # of a client that has left, the scheduler forgets the events by itself
        self.threads: dict[str, int] = {}
        self.departures = 0
        self.empty_since: float | None = None
        self.started: dict[str, str] = {}  # key of a batch -> address of the worker that began it, and has not left
        self._seen = float("-inf")
        self._reachable: bool | None = None
        self._subscribed = False
        self._watched: set[str] = set()  # all workers that ever ran: one that is paused, for lack of memory, dies too
        self._timer: asyncio.TimerHandle | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
        self.store: Any = None  # the DataStore, see `store_of` there

    @property
    def client(self) -> Any:
        """The client; raises SchedulerLostError when it is closed or gone."""
        client = self._client()
        if client is None or client.status in ("closing", "closed"):
            raise SchedulerLostError("the Dask client is closed: connect a new one with distributed.Client(address)")
        return client

    def listen(self, listener: Listener) -> None:
        """Tell this listener the news; from the event loop."""
        self._listeners.add(listener)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(POLL_SECONDS, self._tick)
        if not self.threads:  # the last worker has left since the caller looked
            listener.workers_changed()

    def forget(self, listener: Listener) -> None:
        self._listeners.discard(listener)

    def cores(self, only: Sequence[str] | None = None) -> int:
        """Threads of all running workers, or of those in `only`, as last heard."""
        if only is None:
            return sum(self.threads.values())
        return sum(n for address, n in self.threads.items() if address in only)

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the client's event loop and wait for it; from any other thread."""
        try:
            loop = self.client.loop.asyncio_loop
        except BaseException:
            coroutine.close()
            raise
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result()
        except BaseException:  # a KeyboardInterrupt must not leave it running
            future.cancel()
            raise

    def cores_now(self, only: Sequence[str] | None = None) -> int:
        """Threads of the running workers, asked for if not fresh; from any thread but the event loop's."""
        if time.monotonic() - self._seen > FRESH_SECONDS or not self.threads:
            self.call(self.refresh())
        return self.cores(only)

    async def refresh(self) -> None:
        """Ask the scheduler for its running workers; several callers share one question."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.ensure_future(self._refresh())
        await asyncio.shield(self._refreshing)

    async def _refresh(self) -> None:
        client = self.client
        if not self._subscribed:
            comm = client.scheduler_comm
            if comm is None:
                raise SchedulerLostError("the connection to the Dask scheduler was lost: see the scheduler's log")
            self._subscribed = True
            self._watch_starts()
            # The client's default is 10 ms between messages, which every batch would wait for.
            comm.interval = min(comm.interval, MESSAGE_SECONDS)
        departures = self.departures
        try:
            threads = dict(await client.scheduler.ncores_running(workers=None))
        except OSError as error:
            raise SchedulerLostError(
                f"the Dask scheduler does not answer ({error}): see the scheduler's log"
            ) from error
        if departures != self.departures:
            return  # the answer may be older than the news
        changed = threads != self.threads
        self._watch(threads)
        self.threads = threads
        self._seen = time.monotonic()
        self.empty_since = None if threads else (self.empty_since or self._seen)
        if changed:
            self._tell()

    def _watch(self, addresses: Iterable[str]) -> None:
        """Subscribe to the events of these workers; "all" would do, but a client has one handler per topic."""
        client, me = self.client, weakref.ref(self)
        for address in set(addresses) - self._watched:
            self._watched.add(address)

            def handle(event: Any, address: str = address) -> None:
                view = me()
                if view is not None and isinstance(event[1], dict) and event[1].get("action") == "remove-worker":
                    view._on_departure(address, event[1])  # noqa: SLF001 - its own

            client.subscribe_topic(address, handle)

    def _watch_starts(self) -> None:
        me = weakref.ref(self)

        def handle(event: Any) -> None:
            view = me()
            if view is not None and isinstance(event[1], dict) and event[1].keys() == {"key", "worker"}:
                view._on_start(**event[1])  # noqa: SLF001 - its own

        self.client.subscribe_topic(self.topic, handle)

    async def leave(self) -> None:
        """Ask for no more news: a scheduler keeps the names of those that do for as long as it lives."""
        for topic in {self.topic, *self._watched} if self._subscribed else ():
            self.client.unsubscribe_topic(topic)
        self._subscribed = False

    def _on_start(self, key: str, worker: str) -> None:
        before = self.started.get(key)
        if before is not None:
            # It joined and died faster than a subscription to its news travels, or it would have been heard of first.
            self._tell_death(WorkerDied(before, frozenset([key])))
        self.started[key] = worker
        self._watch([worker])

    def _tell_death(self, death: WorkerDied) -> None:
        for listener in list(self._listeners):
            listener.worker_died(death)

    def _on_departure(self, address: str, message: dict[str, Any]) -> None:
        self.departures += 1
        self.threads.pop(address, None)
        with contextlib.suppress(SchedulerLostError):
            # Who connects to it just now would try for 30 s.
            self.client.rpc.remove(address, reason="the worker has left")
        if not message["expected"]:
            self._tell_death(WorkerDied(address, frozenset(map(str, message["processing-tasks"]))))
        self.started = {key: at for key, at in self.started.items() if at != address}
        if not self.threads:
            self.empty_since = time.monotonic()
        self._tell()

    def _tell(self) -> None:
        for listener in list(self._listeners):
            listener.workers_changed()

    def _tick(self) -> None:
        """Look for workers that joined, while somebody waits for them."""
        self._timer = None
        if self._listeners:
            asyncio.ensure_future(self._refresh_quietly())  # noqa: RUF006 - `_refreshing` holds what runs
            self._timer = asyncio.get_running_loop().call_later(POLL_SECONDS, self._tick)

    async def _refresh_quietly(self) -> None:
        with contextlib.suppress(SchedulerLostError, OSError):  # whoever waits for tasks will hear of it
            await self.refresh()

    async def fetch(self, future: Any) -> Any:
        """The result of a finished future, from the worker that ran it if that is known; None if it was lost."""
        client, address = self.client, self.started.get(future.key)
        if not await self.reachable():
            found = await client._gather([future], errors="skip", direct=False)  # noqa: SLF001 - sync outside
        else:
            if address is not None:
                with contextlib.suppress(OSError):  # it died meanwhile
                    reply = await get_data_from_worker(client.rpc, [future.key], address)
                    if future.key in reply.get("data", {}):
                        return reply["data"][future.key]
            found = await client._gather([future], errors="skip", direct=True)  # noqa: SLF001 - as above
        return found[0] if found else None

    async def wait_for_workers(self, workers: int, seconds: float, only: Sequence[str] | None = None) -> None:
        """Return once so many workers run; raises WorkersLostError after `seconds`."""
        deadline = time.monotonic() + seconds
        probe = None
        try:
            while True:
                await self.refresh()
                running = len(self.threads if only is None else [a for a in self.threads if a in only])
                if running >= workers:
                    return
                if time.monotonic() >= deadline:
                    raise no_quorum(running, workers, seconds)
                if probe is None and running == 0:
                    # An adaptive cluster starts workers only when there is something to do.
                    probe = self.client.submit(_probe, key=f"joblib-probe-{uuid.uuid4().hex}", pure=False)
                await asyncio.sleep(WAIT_SECONDS)
        finally:
            if probe is not None:
                probe.release()

    async def reachable(self) -> bool:
        """Whether this client can talk to workers directly; through a port-forward it can't."""
        client = self.client
        if client.direct_to_workers is not None:
            return bool(client.direct_to_workers)
        if self._reachable is None and self.threads:
            try:
                self._reachable = get_worker().scheduler.address == client.scheduler.address
            except (ValueError, AttributeError):
                self._reachable = await self._reach(client, next(iter(self.threads)))
        return bool(self._reachable)

    async def _reach(self, client: Any, address: str) -> bool | None:
        try:
            async with asyncio.timeout(REACH_SECONDS):
                rpc = client.rpc(address)
                try:
                    await rpc.identity()
                finally:
                    await rpc.close_rpc()
        except OSError:  # includes TimeoutError
            return False if address in self.threads else None  # a worker that just died proves nothing
        return True


def no_quorum(running: int, wanted: int, seconds: float) -> WorkersLostError:
    """The error for too few workers."""
    have = "no worker" if running == 0 else f"{running} of {wanted} workers"
    return _NoQuorumError(
        f"DaskDistributedBackend has {have} after {seconds:g} seconds. Make sure that workers are started, have the "
        "memory and CPUs that they ask for, and can connect to the scheduler (their logs tell); or wait for longer: "
        f"parallel_config(backend='dask', wait_for_workers_timeout={max(10, 2 * seconds):g})"
    )


class _NoQuorumError(WorkersLostError, TimeoutError):
    """Also a TimeoutError, which is what joblib's own backend raises here."""


def _probe() -> None:
    """Nothing: a task that makes an adaptive cluster start a worker."""


_views: weakref.WeakKeyDictionary[Any, ClusterView] = weakref.WeakKeyDictionary()


def view_of(client: Any) -> ClusterView:
    """The client's view of its cluster; always the same one."""
    view = _views.get(client)
    if view is None:
        view = _views.setdefault(client, ClusterView(client))
    return view
