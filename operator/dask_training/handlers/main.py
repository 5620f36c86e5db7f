"""The operator's process: puts the parts together, runs them, and ends within two seconds when told to."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_training.errors import DaskTrainingError
from dask_training.handlers import logs
from dask_training.handlers.cache import Cache
from dask_training.handlers.clusters import ReferencedClusters
from dask_training.handlers.executor import Executor
from dask_training.handlers.health import STUCK_LIMIT, HealthServer, WatchProgress
from dask_training.handlers.lease import AlwaysLeader, Leadership
from dask_training.handlers.metrics import Metrics
from dask_training.handlers.owners import OwnerPoller
from dask_training.handlers.posting import EventPoster
from dask_training.handlers.reconciler import Planner, Reconciler
from dask_training.handlers.refusals import Refusals
from dask_training.handlers.resync import Resync
from dask_training.handlers.store_accounts import RootCredentials, StoreAccounts, StoreAdmin
from dask_training.handlers.tasks import first_end
from dask_training.handlers.telemetry import TelemetryPoller
from dask_training.handlers.watches import Watches
from dask_training.handlers.workqueue import WorkQueue
from dask_training.kube import Connection, KubeClient
from dask_training.kube.client import JSONObject
from dask_training.kube.errors import ApiError
from dask_training.observed import Observed
from dask_training.reconcile import Plan, plan_body
from dask_training.settings import OperatorSettings, SettingsError

LOG = logging.getLogger(__name__)

RETRY_START = 2.0
SHUTDOWN_SECONDS = 1.5


class EndedError(DaskTrainingError):
    """A part that runs for ever has ended."""


@dataclass
class Operator:
    """All parts of a running operator."""

    settings: OperatorSettings
    client: KubeClient
    cache: Cache
    queue: WorkQueue
    leader: Leadership | AlwaysLeader
    metrics: Metrics
    poster: EventPoster
    progress: WatchProgress
    resync: Resync
    watches: Watches
    telemetry: TelemetryPoller
    owners: OwnerPoller
    clusters: ReferencedClusters
    reconciler: Reconciler

    @classmethod
    def build(
        cls, settings: OperatorSettings, connection: Connection, client: KubeClient, metrics: Metrics, planner: Planner
    ) -> Operator:
        """Put the parts together."""
        cache, queue, progress = Cache(), WorkQueue(), WatchProgress()
        namespaces = settings.watch_namespaces if settings.scope == "namespaces" else None
        leader = (
            Leadership(client, settings.namespace, settings.lease_name, _identity())
            if settings.lease_name
            else AlwaysLeader()
        )
        poster = EventPoster(client)
        telemetry = TelemetryPoller(cache, settings.key, queue.add, scale_down=settings.scale_down_seconds)
        owners = OwnerPoller(client, cache, queue.add)
        clusters = ReferencedClusters(client, cache, queue.add)
        executor = Executor(client, cache, Refusals(), post=poster.post)
        reconciler = Reconciler(
            client=client,
            cache=cache,
            queue=queue,
            executor=executor,
            planner=planner,
            leader=leader,
            metrics=metrics,
            telemetry=telemetry.of,
            owner_gone=owners.gone,
            cluster=clusters.of,
            store=_store_of(settings, client),
        )
        return cls(
            settings=settings,
            client=client,
            cache=cache,
            queue=queue,
            leader=leader,
            metrics=metrics,
            poster=poster,
            progress=progress,
            resync=Resync(client, cache, namespaces, queue.add, progress.gap),
            watches=Watches(connection, cache, queue.add, progress, namespaces),
            telemetry=telemetry,
            owners=owners,
            clusters=clusters,
            reconciler=reconciler,
        )

    async def run(self) -> None:
        """Run until a part ends, which none does unless something is wrong. Raises what it ended with."""
        health = HealthServer(
            self.settings.health_port, problems=self.problems, ready=self.resync.done.is_set, metrics=self.render
        )
        await health.start()
        try:
            await self._jobs_are_served()
            parts: dict[str, Coroutine[Any, Any, None]] = {
                "watches": self.watches.run(),
                "lease": self.leader.run(),
                "deadlines": self.queue.run_deadlines(),
                "resync": self._lists(),
                "events": self.poster.run(),
                "work": self._work(),
            }
            tasks = [asyncio.create_task(part, name=name) for name, part in parts.items()]
            await first_end(tasks, lambda names: EndedError(f"{names} ended"))
        finally:
            await health.stop()

    async def _jobs_are_served(self) -> None:
        """Wait for an API server that knows jobs: kopf looks for kinds once, at its start."""
        while True:
            try:
                if await self.client.jobs_are_served():
                    return
                LOG.warning("the cluster does not know DaskTrainingJob yet: install the chart's CRD; looking again")
            except ApiError as error:
                LOG.warning("the API server can't be used yet: %s", error)
            await asyncio.sleep(RETRY_START)

    async def _lists(self) -> None:
        """List once all watches are open: what ends from then on is told by them, what ended before by the list."""
        while not self.progress.all_open():  # noqa: ASYNC110 - kopf has no event to wait for
            await asyncio.sleep(0.02)
        await self.resync.run()

    async def _work(self) -> None:
        await self.resync.done.wait()
        await self.leader.acquired.wait()
        self.metrics.leader.set(1)
        LOG.info("working", extra={"jobs": len(self.cache), "scope": self.settings.scope})
        async with asyncio.TaskGroup() as group:
            group.create_task(self.telemetry.run())
            group.create_task(self.owners.run())
            group.create_task(self.clusters.run())
            for _ in range(self.settings.max_concurrent_jobs):
                group.create_task(self.reconciler.work())

    def problems(self) -> list[str]:
        """Say what is wrong with this process, so that the kubelet starts it again; [] while all is well."""
        found = [
            f"no sign of life from the watch of {path} for {s:.0f} s" for path, s in self.progress.silent().items()
        ]
        if self.leader.is_leader and self.queue.stalled() > STUCK_LIMIT:
            found.append(f"jobs wait to be looked at, and for {self.queue.stalled():.0f} s none was")
        return found

    def render(self) -> bytes:
        """Give the metrics as of now."""
        self.metrics.phases(self.cache.phases())
        self.metrics.depth.set(len(self.queue))
        self.metrics.leader.set(1 if self.leader.is_leader else 0)
        return self.metrics.render()

    async def stop(self) -> None:
        """Give the lease up; what is left of Events is posted, as far as that takes no time."""
        await self.leader.release()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await self.poster.drain()


async def run(settings: OperatorSettings, planner: Planner) -> int:
    """Run the operator until SIGTERM; give the exit code."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    metrics = Metrics()
    connection = await Connection.load()
    client = KubeClient(connection, observer=metrics.request)
    operator = Operator.build(settings, connection, client, metrics, planner)

    def own_signals() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)

    own_signals()
    operator.watches.started = own_signals
    running = asyncio.create_task(operator.run(), name="operator")
    waiting = asyncio.create_task(stopped.wait(), name="stop")
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    code = _code_of(running) if running.done() else 0
    try:
        async with asyncio.timeout(SHUTDOWN_SECONDS):
            running.cancel()  # nothing is written from here on: what was under way is found again by whoever is next
            await asyncio.wait({running}, timeout=0.5)
            await operator.stop()
            await client.close()
    except TimeoutError:
        LOG.info("not everything could be put in order before the end")
    LOG.info("ended", extra={"code": code})
    return code


def main() -> None:
    """Run the operator as the environment says; never returns."""
    try:
        settings = OperatorSettings.from_env(os.environ)
    except SettingsError as error:
        sys.exit(f"dask-training-operator: {error}")
    logs.configure(settings.log_format, settings.log_level)
    try:
        code = asyncio.run(_run_and_leave(settings))
    except DaskTrainingError as error:
        sys.exit(f"dask-training-operator: {error}")
    sys.exit(code)


async def _run_and_leave(settings: OperatorSettings) -> int:
    code = await run(settings, planner_of(settings))
    # Kopf takes seconds to end its tasks in good order, which nobody needs: all that it holds are connections.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def planner_of(settings: OperatorSettings) -> Planner:
    """Give the plan function with its settings."""

    def planner(job: JSONObject, observed: Observed, now: datetime.datetime) -> Plan:
        return plan_body(job, observed, now, settings)

    return planner


def _code_of(task: asyncio.Task[None]) -> int:
    error = task.exception()
    LOG.error("the operator ends: %s", error, exc_info=None if isinstance(error, DaskTrainingError) else error)
    return 1


def _store_of(settings: OperatorSettings, client: KubeClient) -> Callable[[str], Coroutine[Any, Any, None]] | None:
    if not settings.has_store:
        return None

    def root() -> RootCredentials:
        return RootCredentials.read(Path(settings.store_credentials_dir))

    admin = StoreAdmin(settings.store_admin_endpoint or settings.store_endpoint, settings.store_region, root)
    accounts = StoreAccounts(client, admin, root, endpoint=settings.store_endpoint, region=settings.store_region)
    return accounts.ensure


def _identity(environ: Mapping[str, str] = os.environ) -> str:
    return f"{environ.get('HOSTNAME') or socket.gethostname()}_{os.getpid()}_{os.urandom(4).hex()}"
