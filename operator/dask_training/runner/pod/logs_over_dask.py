"""How a pod's log reaches the runner: over Dask, before the pod is gone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_training.runner.pod.init import read_log

if TYPE_CHECKING:
    from distributed import Scheduler, Worker

READ = "dask_training_read_log"
KEEP = "dask_training_keep_log"
READ_KEPT = "dask_training_read_kept_logs"
_READ_SECONDS = 5.0  # a worker that is deaf for so long keeps its own log alone
_MOST_KEPT = 32
_LONGEST_KEPT = 1024**2  # characters: what is left of a worker that went must not fill the scheduler's memory


def serve_worker_log(worker: Worker, log: Path) -> None:
    """Lets others read the worker's log."""

    async def read() -> str:
        return read_log(log)

    worker.handlers[READ] = read


async def hand_over_worker_log(worker: Worker, log: Path) -> None:
    """Leaves the log with the scheduler: the worker will not be there when the logs are collected."""
    await worker.scheduler.dask_training_keep_log(name=str(worker.name), text=read_log(log)[-_LONGEST_KEPT:])


def serve_scheduler_logs(scheduler: Scheduler, log: Path) -> None:
    """Lets others read the scheduler's log, and the logs of workers that left."""
    kept: dict[str, str] = {}

    async def keep(name: str, text: str) -> None:
        kept[name] = text[-_LONGEST_KEPT:]
        while len(kept) > _MOST_KEPT:
            del kept[next(iter(kept))]

    async def read() -> str:
        return read_log(log)

    async def read_kept() -> dict[str, str]:
        return kept

    scheduler.handlers |= {READ: read, KEEP: keep, READ_KEPT: read_kept}


async def collect(client: Any) -> dict[str, str]:
    """The logs that can be had now, by pod; needs the client's event loop."""
    workers = {worker["name"]: address for address, worker in (await client.scheduler.identity())["workers"].items()}
    names = [str(name) for name in workers]
    found = await asyncio.gather(
        getattr(client.scheduler, READ)(),
        getattr(client.scheduler, READ_KEPT)(),
        *(asyncio.wait_for(getattr(client.rpc(address), READ)(), _READ_SECONDS) for address in workers.values()),
        return_exceptions=True,
    )
    scheduler, kept, *texts = found
    logs = dict(kept) if isinstance(kept, dict) else {}
    logs |= {name: text for name, text in zip(names, texts, strict=True) if isinstance(text, str)}
    if isinstance(scheduler, str):
        logs["scheduler"] = scheduler
    return {_short(name): text for name, text in logs.items()}


def _short(name: str) -> str:
    """`worker-3` for `<attempt>-worker-3`."""
    _, found, number = name.rpartition("-worker-")
    return f"worker-{number}" if found and number.isdigit() else name.replace("/", "_")
