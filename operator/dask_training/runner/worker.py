"""The worker process of a run on this machine: `python -m dask_training.runner.worker --help`; and what pods share."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import distributed.worker  # noqa: F401 - the slow part, imported before the scheduler is looked for
from distributed.core import Status

from dask_training import dask_ml_compat, joblib_backend
from dask_training.runner import lifeline, preimport
from dask_training.runner.address import scheduler_address
from dask_training.runner.channel import Channel, Ready
from dask_training.runner.drain import drain
from dask_training.runner.worker_usage import CountingWorker

DRAINED = "drained"
# Reasons that distributed gives for closing a worker that is not wanted any more.
_GOODBYES = frozenset({DRAINED, "scheduler-close", "scheduler-close-worker"})


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """A worker: its name, where it listens, how much it may use (`memory_limit` in bytes, 0: no limit)."""

    name: str
    host: str
    port: int = 0
    threads: int
    memory_limit: int
    local_directory: Path
    startup_timeout: float


class JobWorker(CountingWorker):
    """A worker that remembers why it was closed."""

    closed_because = ""

    async def close(self, *args: Any, reason: str = "worker-close", **kwargs: Any) -> str | None:
        """As upstream's; what still runs is waited for by `drain` alone."""
        self.closed_because = self.closed_because or reason
        result: str | None = await super().close(*args, reason=reason, **{**kwargs, "executor_wait": False})
        return result

    @property
    def was_dismissed(self) -> bool:
        """Whether it is gone because it was told to, and need not be started again."""
        return self.closed_because in _GOODBYES


async def serve(
    address: str,
    options: WorkerOptions,
    on_ready: Callable[[JobWorker], None],
    before_leaving: Callable[[JobWorker], Awaitable[None]] | None = None,
) -> bool:
    """Runs a worker to its end; whether it was told to end, by the scheduler or by SIGTERM.

    On SIGTERM it drains, with `before_leaving` awaited before it begins to.
    """
    worker = JobWorker(
        address,
        name=options.name,
        host=options.host,
        port=options.port,
        nthreads=options.threads,
        memory_limit=options.memory_limit,
        local_directory=str(options.local_directory),
        death_timeout=options.startup_timeout,
        dashboard=False,
    )
    leaving: list[asyncio.Future[None]] = []
    serving = asyncio.current_task()

    async def leave() -> None:
        if before_leaving is not None and worker.status is Status.running:
            await before_leaving(worker)
        await drain(worker)
        await worker.close(reason=DRAINED)

    def terminate() -> None:
        if not leaving:
            leaving.append(asyncio.ensure_future(leave()))
            if worker.status is Status.init and serving is not None:
                serving.cancel()  # a worker that waits for its scheduler does not notice that it was closed

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        async with worker:
            on_ready(worker)
            await worker.finished()
    except asyncio.CancelledError:
        if not leaving:
            raise
    # A scheduler that has retired it may hang up before it has answered: that is no loss.
    return worker.was_dismissed or bool(leaving)


def main() -> None:
    """Runs a worker until the scheduler goes, or it gets SIGTERM: then it hands its results to others first."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--host", required=True, help="the address to listen on")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--memory-limit", type=int, default=0, help="bytes; 0: none")
    parser.add_argument("--local-directory", type=Path, required=True, help="where it spills to")
    parser.add_argument("--address-file", type=Path, help="a file that will hold the scheduler's address")
    parser.add_argument("--startup-timeout", type=float, required=True, help="seconds to wait for the scheduler")
    arguments = parser.parse_args()
    lifeline.watch()
    channel = Channel()
    dask_ml_compat.install()
    preimport.start()
    joblib_backend.register()  # for Parallel calls inside tasks
    options = WorkerOptions(
        name=arguments.name,
        host=arguments.host,
        threads=arguments.threads,
        memory_limit=arguments.memory_limit,
        local_directory=arguments.local_directory,
        startup_timeout=arguments.startup_timeout,
    )
    address = scheduler_address(arguments.address_file, timeout=arguments.startup_timeout)
    asyncio.run(serve(address, options, lambda worker: channel.send(Ready(address=worker.address))))


if __name__ == "__main__":
    main()
