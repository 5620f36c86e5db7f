"""The scheduler process of a run: `python -m dask_training.runner.scheduler --help`."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import signal
from typing import Any

from distributed import Scheduler
from distributed.diagnostics.task_stream import TaskStreamPlugin

from dask_training.runner import lifeline
from dask_training.runner.channel import Channel, Ready


class TaskStream(TaskStreamPlugin):
    """What the performance report is made from; upstream's fails on a task whose workers died."""

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Notes a task that was run."""
        if kwargs.get("startstops"):
            super().transition(key, start, finish, *args, **kwargs)


def main() -> None:
    """Runs a scheduler until it is closed or gets SIGTERM."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--host", required=True, help="the address to listen on")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--dashboard-port", type=int, default=None, help="0: any free one; without it: no dashboard")
    arguments = parser.parse_args()
    lifeline.watch()
    asyncio.run(_serve(arguments.host, arguments.port, arguments.dashboard_port, Channel()))


async def _serve(host: str, port: int, dashboard_port: int | None, channel: Channel) -> None:
    http_address = f"{host}:{dashboard_port or 0}"
    scheduler = Scheduler(host=host, port=port, dashboard_address=http_address, dashboard=False)
    closing: set[asyncio.Future[None]] = set()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: closing.add(asyncio.ensure_future(scheduler.close())))
    async with scheduler:
        scheduler.add_plugin(TaskStream(scheduler))
        dashboard = None if dashboard_port is None else f"http://{host}:{scheduler.http_server.port}/status"
        channel.send(Ready(address=scheduler.address, dashboard=dashboard))
        if dashboard:
            # After the scheduler listens: importing bokeh takes longer than all the rest of the start.
            pages = await asyncio.to_thread(importlib.import_module, "distributed.dashboard.scheduler")
            pages.connect(scheduler.http_application, scheduler.http_server, scheduler, prefix="/")
        await scheduler.finished()


if __name__ == "__main__":
    main()
