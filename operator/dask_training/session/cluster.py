"""`TrainingCluster`: a cluster of a session's own, as distributed's other clusters are."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import sys
import time
import weakref
from collections.abc import Awaitable, Collection, Generator
from datetime import datetime
from typing import Any, Final

from distributed import Client, rpc
from distributed.core import Status
from distributed.deploy.cluster import Cluster
from distributed.objects import SchedulerInfo
from distributed.utils import Log, Logs, format_dashboard_link

from dask_training import joblib_backend
from dask_training.client.connection import Connection
from dask_training.errors import ClusterStartError, ClusterStartTimeoutError, DaskTrainingError, OptionError
from dask_training.session import remote
from dask_training.session.backend import Backend
from dask_training.session.options import worker_count, worker_range

_logger = logging.getLogger("dask_training")
_CONNECT_SECONDS: Final = 5.0
_RECONNECT_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 0.1
_PROBLEM_SECONDS: Final = 2.0
_INFORM_SECONDS: Final = 1.0
_WORKERS_A_SECOND: Final = 50


class Adapting:
    """That the operator follows the work: what distributed's clusters have an Adaptive for."""

    periodic_callback = True

    def __init__(self, minimum: int, maximum: int) -> None:
        self.minimum = minimum
        self.maximum = maximum

    def __repr__(self) -> str:
        return f"Adapting(minimum={self.minimum}, maximum={self.maximum})"

    def stop(self) -> None:
        """Nothing runs here that could be stopped: `TrainingCluster.scale` ends it."""


class TrainingCluster(Cluster):
    """A Dask cluster on Kubernetes (or on this machine) that ends with its session; made by `launch_cluster`.

    Use it as distributed's other clusters: `Client(cluster)`, `with`, `scale`, `adapt`, `wait_for_workers`,
    `get_logs`, `dashboard_link`, `close`. Made with asynchronous=True, its methods give what is to be awaited.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        startup_seconds: float,
        adapting: Adapting | None = None,
        threads_per_worker: int = 1,
        asynchronous: bool = False,
        loop: Any = None,
        quiet: bool = False,
    ) -> None:
        super().__init__(asynchronous=asynchronous, loop=loop, quiet=quiet, name=backend.name or "(new)")
        self._backend = backend
        self._startup_seconds = startup_seconds
        self._adaptive = adapting
        self._threads_per_worker = threads_per_worker
        self._reason = ""
        self._shared_info: Any = None
        self._informing: asyncio.Task[None] | None = None
        self._ending: asyncio.Future[None] | None = None
        self.security: Any = None
        self._finalizer = weakref.finalize(self, backend.release)
        if not self.called_from_running_loop:
            self._loop_runner.start()
            try:
                self.sync(self._start)
            except BaseException:  # Ctrl-C, too: nothing is to be left
                backend.abandon()
                self._ended_start()
                self._loop_runner.stop()
                raise

    @classmethod
    def from_name(
        cls,
        name: str,
        *,
        namespace: str | None = None,
        context: str | None = None,
        shutdown_on_close: bool = False,
        asynchronous: bool = False,
        quiet: bool = True,
    ) -> TrainingCluster:
        """A cluster that was launched with shutdown_on_close=False, by the same user on the same machine.

        It is there after `close`, unless *shutdown_on_close*; `close(shutdown=True)` ends it. Raises NotFoundError, or
        NotAttachableError if it has ended or its key is not here.
        """
        connection = Connection(context, namespace)
        backend = remote.existing(connection, name, shutdown_on_close=shutdown_on_close)
        return cls(backend, startup_seconds=60, asynchronous=asynchronous, quiet=quiet)

    @property
    def reason(self) -> str:
        """Why the cluster has ended by itself, such as "IdleTimeout: ..."; empty while it runs."""
        return self._reason

    # Starting.

    def __await__(self) -> Generator[Any, None, TrainingCluster]:
        async def started() -> TrainingCluster:
            if self.status == Status.created:
                await self._start()
            return self

        return started().__await__()

    async def _start(self) -> None:
        begin = time.monotonic()
        self.status = Status.starting
        try:
            access = await self._backend.open(self._log, self._on_end)
            self.name = self._backend.name
            self.security = access.security
            arguments = access.security.get_connection_args("client")
            self.scheduler_comm = rpc(access.address, timeout=_CONNECT_SECONDS, connection_args=arguments)
            if access.scheduler_info is None:
                await self._connect(begin + self._startup_seconds)
            else:
                self.scheduler_info = self._shared_info = access.scheduler_info
                self.status = Status.running
            if self._backend.wait:
                await self._await_workers(self._backend.wait, begin + self._startup_seconds)
        except BaseException:
            self._inform_no_more()
            with contextlib.suppress(Exception):
                await super()._close()
            with contextlib.suppress(DaskTrainingError):
                await self._backend.close(shutdown=self._backend.shutdown_on_close)
            self._ended_start()
            raise
        self._use_joblib_backend()
        count = len(self.scheduler_info["workers"])
        self._log(f"Cluster {self.name} is ready after {time.monotonic() - begin:.1f} s, workers: {count}")
        if link := self.dashboard_link:
            self._log(f"Dashboard: {link}")

    async def _connect(self, deadline: float) -> None:
        """The first connection to the scheduler, which may need a moment to listen."""
        while True:
            try:
                await self._refresh()
            except OSError as error:
                if self._reason:
                    raise ClusterStartError(f"cluster {self.name} could not be started: {self._reason}") from error
                if time.monotonic() > deadline:
                    raise ClusterStartTimeoutError(
                        f"the scheduler of cluster {self.name} can't be reached: {error}"
                    ) from error
                await asyncio.sleep(_LOOK_SECONDS)
            else:
                break
        self.status = Status.running
        self._sync_cluster_info_task = asyncio.ensure_future(self._sync_cluster_info())
        self._informing = asyncio.ensure_future(self._keep_informed())

    async def _await_workers(self, count: int, deadline: float) -> None:
        look_at = time.monotonic() + _PROBLEM_SECONDS
        told = ""
        while len(self.scheduler_info["workers"]) < count:
            now = time.monotonic()
            if now < look_at and not self._reason and now < deadline:
                await asyncio.sleep(_LOOK_SECONDS)
                with contextlib.suppress(OSError):
                    await (self._refresh() if self._shared_info is None else asyncio.sleep(0))
                continue
            problem = self._reason or await self._backend.problem()
            words = f"{len(self.scheduler_info['workers'])} of {count} workers are there"
            if self._reason:
                raise ClusterStartError(f"cluster {self.name} could not be started: {problem}")
            if now >= deadline:
                raise ClusterStartTimeoutError(
                    f"cluster {self.name}: {words} after {self._startup_seconds:.0f} s (startup_timeout): {problem}\n"
                    "It was removed. Mend that, or give it more time."
                )
            if (news := f"{words}: {problem}" if problem else words) != told:
                told = news
                self._log(news[:1].upper() + news[1:])
            look_at = now + _PROBLEM_SECONDS

    def _ended_start(self) -> None:
        self._finalizer.detach()
        self.status = Status.closed

    # While it runs.

    def scale(self, n: int) -> Awaitable[None] | None:
        """Have *n* workers; those that go hand over what they hold first. Ends `adapt`."""
        count = worker_count("n", n)
        return self.sync(self._scale, count)

    async def _scale(self, count: int) -> None:
        await self._backend.scale(count)
        self._adaptive = None
        self._use_joblib_backend()

    def adapt(self, minimum: int = 1, maximum: int | None = None, **unknown: Any) -> Awaitable[None] | None:
        """Let the number of workers follow the work, between the two; `scale` ends it."""
        if unknown:
            name = next(iter(unknown))
            raise OptionError(f"{name}: adapt() has minimum and maximum alone; the operator decides when")
        low, high = worker_range(minimum, maximum)
        return self.sync(self._adapt, low, high)

    async def _adapt(self, minimum: int, maximum: int) -> None:
        await self._backend.adapt(minimum, maximum)
        self._adaptive = Adapting(minimum, maximum) if maximum > minimum else None
        self._use_joblib_backend()

    def _use_joblib_backend(self) -> None:
        """Makes joblib's "dask" our backend in this process, which sends tasks enough for the cluster to grow."""
        if importlib.util.find_spec("joblib") is None:
            return
        threads = self._threads_per_worker
        most = self._adaptive.maximum * threads if self._adaptive is not None else 0
        joblib_backend.register(threads_per_worker=threads, most_cores=most)

    async def _wait_for_workers(self, n_workers: int = 0, timeout: Any = None) -> None:  # noqa: ASYNC109 - distributed's
        try:
            while True:  # a connection that is cut meanwhile is made again
                try:
                    await super()._wait_for_workers(n_workers, timeout)
                except TimeoutError:
                    raise
                except OSError:
                    if self.status != Status.running:
                        raise
                    await asyncio.sleep(_RECONNECT_SECONDS)
                else:
                    break
            if self._shared_info is not None:
                self.scheduler_info = self._shared_info
        except TimeoutError as error:
            if problem := await self._backend.problem():
                error.add_note(problem)
            raise

    async def _get_logs(
        self,
        cluster: bool = True,  # noqa: FBT001, FBT002 - as distributed has it
        scheduler: bool = True,  # noqa: FBT001, FBT002 - as above
        workers: bool | Collection[str] = True,  # noqa: FBT001, FBT002 - as above
    ) -> Logs:
        found = await self._backend.logs(scheduler=scheduler, workers=workers)
        if found is None:
            return await super()._get_logs(cluster=cluster, scheduler=scheduler, workers=workers)
        logs = Logs()
        if cluster:
            logs["Cluster"] = Log("\n".join(line for _, line in self._cluster_manager_logs))
        for name, text in found.items():
            logs[name] = Log(text)
        return logs

    @property
    def dashboard_link(self) -> str:
        """Where a browser finds the dashboard: outside of Kubernetes a port of this machine that leads to it."""
        if self.scheduler_comm is None or "dashboard" not in (self.scheduler_info.get("services") or {}):
            return ""
        place = self._backend.dashboard(self.scheduler_address)
        return str(super().dashboard_link if place is None else format_dashboard_link(*place))

    async def _refresh(self) -> None:
        self.scheduler_info = SchedulerInfo(await self.scheduler_comm.identity())

    async def _keep_informed(self) -> None:
        """Asks the scheduler how it is. distributed subscribes instead: that is for one cluster object at a time."""
        while self.status == Status.running:
            try:
                await self._refresh()
            except OSError:  # the connection was cut: the next question opens a new one
                self._backend.cut_off()
                await asyncio.sleep(_RECONNECT_SECONDS)
            else:
                await asyncio.sleep(max(_INFORM_SECONDS, len(self.scheduler_info["workers"]) / _WORKERS_A_SECOND))

    # Its end.

    def _on_end(self, reason: str, message: str) -> None:
        """From any thread: the cluster has ended by itself."""
        self._reason = f"{reason}: {message}"
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.add_callback(self._close_ended)

    async def _close_ended(self) -> None:
        if self.status == Status.running:
            _logger.warning("cluster %s has ended: %s", self.name, self._reason)
            self._cluster_manager_logs.append((datetime.now(), self._reason))  # noqa: DTZ005 - as distributed's
            clients = [each for each in Client._instances if each.cluster is self]  # noqa: SLF001 - there is no other way
            await self._close()
            for client in clients:  # else they would try for half a minute to connect again
                client.loop.add_callback(client._close, fast=True)  # noqa: SLF001 - as above

    def close(self, timeout: float | None = None, *, shutdown: bool | None = None) -> Any:
        """Let go of the cluster, and end it unless it was made with shutdown_on_close=False; or as *shutdown* says."""
        if shutdown is not None:
            self._backend.shutdown_on_close = shutdown
        result = super().close(timeout)
        if not self.asynchronous:
            self._loop_runner.stop()
        return result

    async def _close(self) -> None:
        if self.status == Status.created:
            self._ended_start()
        if self._ending is None and self.status != Status.closed:
            self._ending = asyncio.ensure_future(self._end())
        if self._ending is not None:  # whoever closes waits for it, and nobody who is cancelled stops it
            await asyncio.shield(self._ending)

    async def _end(self) -> None:
        self.status = Status.closing
        self._inform_no_more()
        try:
            # What costs goes first.
            await self._backend.close(shutdown=self._backend.shutdown_on_close)
        finally:
            self._finalizer.detach()
            await super()._close()

    def _inform_no_more(self) -> None:
        if self._informing is not None:
            self._informing.cancel()

    def _log(self, log: str) -> None:
        """Kept for `get_logs`, and shown: in a notebook below the cell, else on standard error."""
        self._cluster_manager_logs.append((datetime.now(), log))  # noqa: DTZ005 - as distributed's
        if not self.quiet:
            print(log, file=sys.stdout if in_notebook() else sys.stderr, flush=True)


def in_notebook() -> bool:
    """Whether an IPython kernel runs this, whose standard error is shown as if something had failed."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")
