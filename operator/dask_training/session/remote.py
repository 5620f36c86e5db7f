"""A cluster of pods: its job, the ways to its scheduler, its heartbeat."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

from dask_training.api import Port
from dask_training.client.connection import Connection, jobs_path
from dask_training.client.podstate import role_of, waiting_problem
from dask_training.client.tunnel import Tunnel
from dask_training.errors import DaskTrainingError, NotAttachableError, NotFoundError
from dask_training.session import keys
from dask_training.session.backend import Access
from dask_training.session.job import SessionJob, Stopped, ended, launch
from dask_training.session.manifest import HEARTBEAT_SECONDS
from dask_training.session.options import Options
from dask_training.session.pulse import Pulse

_CLEAN_UP_SECONDS: Final = 20.0


class Remote:
    """A cluster on Kubernetes; *start* gives its job, waiting for as long as that takes."""

    def __init__(
        self,
        connection: Connection,
        start: Callable[[Callable[[str], None], threading.Event], SessionJob],
        *,
        name: str,
        wait: int,
        shutdown_on_close: bool,
        beats: bool,
    ) -> None:
        self.name = name
        self.wait = wait
        self.shutdown_on_close = shutdown_on_close
        self._connection = connection
        self._start = start
        self._beats = beats
        self._process = os.getpid()
        self._stop = threading.Event()
        self._started = threading.Event()
        self._started.set()
        self._job: SessionJob | None = None
        self._tunnels: list[Tunnel] = []
        self._pulse: Pulse | None = None
        self._released = False

    @property
    def job(self) -> SessionJob:
        """The job; raises NotAttachableError before it is made."""
        if self._job is None:
            raise NotAttachableError(f"cluster {self.name} is not started")
        return self._job

    async def open(self, say: Callable[[str], None], on_end: Callable[[str, str], None]) -> Access:
        """See `Backend`; in a pod the Service is dialled, elsewhere a port of this machine that leads to the pod."""
        try:
            job = await asyncio.to_thread(self._launch, say)
        except BaseException:  # a cancelled start, too: its thread cleans up
            await asyncio.to_thread(self.abandon)
            raise
        self.name = job.name
        keys.tls_config.enter(self, job.credentials)
        if not self.shutdown_on_close:
            keys.keep(job.uid, job.credentials)
        self._pulse = Pulse(job, on_end, beats=self._beats, seconds=HEARTBEAT_SECONDS)
        address = job.scheduler_address
        if not job.is_reachable:
            ports = (Port.SCHEDULER, Port.SCHEDULER_HTTP)
            self._tunnels = [Tunnel(job.connection, job.namespace, lambda: job.scheduler_pod, port) for port in ports]
            address = f"tls://127.0.0.1:{self._tunnels[0].port}"
        return Access(address, job.credentials.security)

    def _launch(self, say: Callable[[str], None]) -> SessionJob:
        self._started.clear()
        try:
            self._job = self._start(say, self._stop)
            if self._stop.is_set():
                raise Stopped
        finally:
            self._started.set()
        return self._job

    async def problem(self) -> str:
        """The status's words, or those of a pod that does not run."""
        with contextlib.suppress(DaskTrainingError):
            return await asyncio.to_thread(self._problem)
        return ""

    def _problem(self) -> str:
        self.job.refresh()
        if (end := ended(self.job.body)) is not None:
            return ": ".join(end)
        workers = [pod for pod in self.job.pods() if role_of(pod) == "worker"]
        problems = (waiting_problem(pod) for pod in workers)
        found = next((str(problem) for problem in problems if problem is not None), "")
        return found or str(self.job.status.get("message") or "")

    async def scale(self, count: int) -> None:
        """See `Backend`; well before the pods are there."""
        await asyncio.to_thread(self.job.scale, count)

    async def adapt(self, minimum: int, maximum: int) -> None:
        """See `Backend`; the operator decides from then on."""
        await asyncio.to_thread(self.job.adapt, minimum, maximum)

    async def logs(self, *, scheduler: bool, workers: bool | Collection[str]) -> Mapping[str, str] | None:
        """What the pods have written, by "Scheduler" and the workers' names."""
        return await asyncio.to_thread(self._logs, scheduler=scheduler, workers=workers)

    def _logs(self, *, scheduler: bool, workers: bool | Collection[str]) -> dict[str, str]:
        logs = {}
        for pod in self.job.pods():
            name, role = str(pod["metadata"]["name"]), role_of(pod)
            if role == "scheduler" and scheduler:
                logs["Scheduler"] = self.job.log(pod)
            elif role == "worker" and (workers is True or (workers and name in workers)):
                logs[name] = self.job.log(pod)
        return logs

    def dashboard(self, address: str) -> tuple[str, int] | None:
        """The forwarded port, or the Service's."""
        if self._tunnels:
            return "127.0.0.1", self._tunnels[1].port
        return address.rpartition("://")[2].rpartition(":")[0], Port.SCHEDULER_HTTP.value

    def cut_off(self) -> None:
        """See `Backend`."""
        if self._pulse is not None:
            self._pulse.look()

    async def close(self, *, shutdown: bool) -> None:
        """See `Backend`; the pods go a moment later."""
        await asyncio.to_thread(self._close, shutdown=shutdown)

    def release(self) -> None:
        """See `Backend`; nothing in a process that was forked from the cluster's."""
        if os.getpid() == self._process and not self._released:
            with contextlib.suppress(DaskTrainingError):
                self._close(shutdown=self.shutdown_on_close)

    def abandon(self) -> None:
        """See `Backend`."""
        self._stop.set()
        self._started.wait(_CLEAN_UP_SECONDS)
        self.release()

    def _close(self, *, shutdown: bool) -> None:
        self._released = True
        if self._pulse is not None:
            self._pulse.stop()
        try:
            if shutdown and self._job is not None:
                self._job.delete()
                keys.forget(self._job.uid)
        finally:
            for tunnel in self._tunnels:
                tunnel.close()
            keys.tls_config.leave(self)
            self._connection.close()


def new(connection: Connection, options: Options) -> Remote:
    """A cluster that is made when it is opened."""

    def start(say: Callable[[str], None], stop: threading.Event) -> SessionJob:
        return launch(connection, options, say, stop, time.monotonic() + options.startup_seconds)

    return Remote(
        connection,
        start,
        name=options.name,
        wait=options.wait,
        shutdown_on_close=options.shutdown_on_close,
        beats=options.shutdown_on_close,
    )


def existing(connection: Connection, name: str, *, shutdown_on_close: bool) -> Remote:
    """A cluster that is there, made with shutdown_on_close=False by this user on this machine."""

    def start(say: Callable[[str], None], stop: threading.Event) -> SessionJob:  # noqa: ARG001 - nothing takes long
        path = jobs_path(connection.namespace, name)
        try:
            body = connection.request("GET", path)
        except NotFoundError:
            raise NotFoundError(f"there is no cluster {name} in namespace {connection.namespace}") from None
        if body["spec"].get("mode") != "Session":
            raise NotAttachableError(f"{name} is a job of mode {body['spec'].get('mode')}, not a session's cluster")
        if (end := ended(body)) is not None:
            raise NotAttachableError(f"cluster {name} has ended: {': '.join(end)}")
        return SessionJob(connection, body, keys.kept(str(body["metadata"]["uid"]), name))

    return Remote(connection, start, name=name, wait=0, shutdown_on_close=shutdown_on_close, beats=False)
