"""What a process of a Dask cluster counts about itself while it is measured: bytes on its connections, tasks, data."""

from __future__ import annotations

from collections import Counter
from typing import Any

from distributed import Scheduler
from distributed.comm import tcp

COUNTS: Counter[str] = Counter()


def start_counting() -> None:
    """Count in this process from now on; before a scheduler or a worker is made in it."""
    read, finished, put = tcp.read_bytes_rw, Scheduler.stimulus_task_finished, Scheduler.update_data

    async def counted_read(stream: Any, length: int) -> Any:
        COUNTS["received"] += length  # from whomever: scheduler, clients, workers
        return await read(stream, length)

    def counted_finished(self: Scheduler, *args: Any, **options: Any) -> Any:
        COUNTS["tasks"] += 1
        return finished(self, *args, **options)

    def counted_put(self: Scheduler, *, who_has: Any, nbytes: Any, client: str | None = None) -> None:
        COUNTS["scattered"] += sum(nbytes[key] * len(holders) for key, holders in who_has.items())
        put(self, who_has=who_has, nbytes=nbytes, client=client)

    tcp.read_bytes_rw = counted_read
    Scheduler.stimulus_task_finished = counted_finished
    Scheduler.update_data = counted_put


def counts() -> dict[str, int]:
    """This process's counts since its start."""
    return dict(COUNTS)


def moved(client: Any) -> dict[str, int]:
    """The counts of a client's whole cluster: bytes that workers and scheduler received, bytes put, tasks done."""
    scheduler = client.run_on_scheduler(counts)
    workers = client.run(counts)
    return {
        "received": sum(each.get("received", 0) for each in workers.values()),
        "throughScheduler": scheduler.get("received", 0),
        "scattered": scheduler.get("scattered", 0),
        "tasks": scheduler.get("tasks", 0),
    }
