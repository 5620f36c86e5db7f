"""A worker process of a run: `python -m dask_training.runner.worker --help`."""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

import distributed.worker  # noqa: F401 - the slow part, imported before the scheduler is looked for
from distributed import Worker

from dask_training import joblib_backend
from dask_training.runner import lifeline, preimport
from dask_training.runner.address import scheduler_address
from dask_training.runner.channel import Channel, Ready


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
    preimport.start()
    joblib_backend.register()  # for Parallel calls inside tasks
    address = scheduler_address(arguments.address_file, timeout=arguments.startup_timeout)
    asyncio.run(_serve(address, arguments, channel))


async def _serve(address: str, arguments: argparse.Namespace, channel: Channel) -> None:
    worker = Worker(
        address,
        name=arguments.name,
        host=arguments.host,
        nthreads=arguments.threads,
        memory_limit=arguments.memory_limit,
        local_directory=str(arguments.local_directory),
        death_timeout=arguments.startup_timeout,
        dashboard=False,
    )
    closing: set[asyncio.Future[None]] = set()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(
        signal.SIGTERM, lambda: closing.add(asyncio.ensure_future(worker.close_gracefully(reason="SIGTERM")))
    )
    async with worker:
        channel.send(Ready(address=worker.address))
        await worker.finished()


if __name__ == "__main__":
    main()
