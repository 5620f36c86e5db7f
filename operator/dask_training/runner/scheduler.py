"""The scheduler process of a run on this machine: `python -m dask_training.runner.scheduler --help`; and for pods."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NoReturn

import dask
from distributed import Scheduler
from distributed.diagnostics.task_stream import TaskStreamPlugin
from distributed.http.utils import get_handlers

from dask_training.api import ExitCode
from dask_training.runner import lifeline
from dask_training.runner.accounting import Accounting
from dask_training.runner.channel import Channel, Ready

_CLOSE_SECONDS = 1.5  # a pod's scheduler has two once it is told to end

# Not upstream's proxy and json: nobody asks them, and they tell anybody what a job computes.
_ROUTES = ["distributed.http.health", "distributed.http.statics"]
# With the dashboard alone: what Prometheus reads, and what the dashboard's link "Info" leads to.
_DASHBOARD_ROUTES = ["distributed.http.scheduler.prometheus", "distributed.http.scheduler.info"]


class TaskStream(TaskStreamPlugin):
    """What the performance report is made from; upstream's fails on a task whose workers died."""

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Notes a task that was run."""
        if kwargs.get("startstops"):
            super().transition(key, start, finish, *args, **kwargs)


@dataclass(frozen=True, kw_only=True)
class SchedulerOptions:
    """Where a scheduler listens (port 0: any free one), and whether it has a dashboard.

    `also_host`: a second address to listen on, at the same port. `http_host`: where its pages and status are, if not on
    `host`; "" is every address. `quiet_seconds`: for so long it leaves the processors to those who start beside it.
    """

    host: str
    port: int = 0
    also_host: str | None = None
    http_host: str | None = None
    http_port: int = 0
    dashboard: bool
    quiet_seconds: float = 0.0


def main() -> None:
    """Runs a scheduler until it is closed or gets SIGTERM."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--host", required=True, help="the address to listen on")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--dashboard-port", type=int, default=None, help="0: any free one; without it: no dashboard")
    arguments = parser.parse_args()
    lifeline.watch()
    options = SchedulerOptions(
        host=arguments.host,
        port=arguments.port,
        http_port=arguments.dashboard_port or 0,
        dashboard=arguments.dashboard_port is not None,
    )
    channel = Channel()

    def ready(scheduler: Scheduler) -> None:
        dashboard = f"http://{options.host}:{scheduler.http_server.port}/status" if options.dashboard else None
        channel.send(Ready(address=scheduler.address, dashboard=dashboard))

    run(serve(options, ready))


async def serve(
    options: SchedulerOptions,
    on_ready: Callable[[Scheduler], None],
    prepare: Callable[[Scheduler], None] | None = None,
) -> None:
    """Runs a scheduler to its end; `prepare` gets it before it listens, `on_ready` as soon as it does."""
    dask.config.set({"distributed.scheduler.http.routes": list(_ROUTES)})
    http_host = options.host if options.http_host is None else options.http_host
    http_address = f"{_bracketed(http_host)}:{options.http_port}"
    host: Any = [options.host, options.also_host] if options.also_host else options.host
    scheduler = Scheduler(host=host, port=options.port, dashboard_address=http_address, dashboard=False)
    if prepare is not None:
        prepare(scheduler)
    scheduler.add_plugin(Accounting(scheduler))
    told_to_end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_end.set)
    await scheduler
    scheduler.add_plugin(TaskStream(scheduler))
    on_ready(scheduler)
    pages = asyncio.ensure_future(_add_pages(scheduler, options))
    ends = [asyncio.ensure_future(end) for end in (scheduler.finished(), told_to_end.wait())]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    for task in (pages, *ends):
        task.cancel()
    # It tells the workers first, and then may wait for ever for the last word of one that is gone.
    closing = asyncio.ensure_future(scheduler.close(reason="told to end"))
    await asyncio.wait({closing}, timeout=_CLOSE_SECONDS)


def run(serving: Coroutine[Any, Any, None]) -> NoReturn:
    """Serves, then ends the process: threads that still import for the dashboard are not waited for."""

    async def serve_and_leave() -> NoReturn:
        await serving
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ExitCode.OK)

    asyncio.run(serve_and_leave())


async def _add_pages(scheduler: Scheduler, options: SchedulerOptions) -> None:
    """After the scheduler listens: importing bokeh takes longer than all the rest of the start."""
    await asyncio.sleep(options.quiet_seconds)
    pages = await asyncio.to_thread(importlib.import_module, "distributed.dashboard.scheduler")
    if not options.dashboard:
        return  # bokeh is imported all the same: the reports at the end want it
    routes = await asyncio.to_thread(get_handlers, scheduler, _DASHBOARD_ROUTES)
    scheduler.http_application.add_handlers(r".*$", routes)
    pages.connect(scheduler.http_application, scheduler.http_server, scheduler, prefix="/")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


if __name__ == "__main__":
    main()
