"""A worker's way out: it gives back what it has not begun, ends what it runs, and hands its results to others."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from distributed.core import Status

if TYPE_CHECKING:
    from collections.abc import Hashable

    from distributed import Worker

_POLL_SECONDS = 0.02
_RETRY_SECONDS = 0.5  # for results that nobody can take yet

# What the worker was given and has not begun.
_NOT_BEGUN = frozenset({"ready", "constrained", "waiting"})


async def drain(worker: Worker) -> None:
    """Returns when nothing would be lost or repeated if the worker ended, or when it has ended meanwhile.

    `Worker.close_gracefully` does not wait for running tasks: they would be run again elsewhere.
    """
    if worker.status not in (Status.running, Status.paused):
        return
    given_back: set[Hashable] = set()
    while worker.status in (Status.running, Status.paused, Status.closing_gracefully):
        if worker.status is not Status.closing_gracefully:  # a scheduler that can't retire it yet sets it back
            given_back.clear()  # and may have sent it any of that again
            worker.status = Status.closing_gracefully  # tells the scheduler too
        _give_back(worker, given_back)
        pause = _POLL_SECONDS
        with contextlib.suppress(OSError):  # a scheduler that is gone ends the worker by itself
            if not worker.state.executing and not worker.state.long_running and not await _processing(worker):
                if await _retire(worker):
                    return
                pause = _RETRY_SECONDS
        await asyncio.sleep(pause)


def _give_back(worker: Worker, given_back: set[Hashable]) -> None:
    """Lets the scheduler send elsewhere what waits here: the task that runs now may run for hours."""
    for task in list(worker.state.tasks.values()):
        if task.state in _NOT_BEGUN and task.key not in given_back:
            given_back.add(task.key)
            # On the same stream as the change of status, so that it never comes back to this worker.
            worker.batched_send({"op": "reschedule", "key": task.key, "stimulus_id": f"drain-{time.time()}"})


async def _processing(worker: Worker) -> bool:
    """Whether the scheduler has yet to hear of something that was done here."""
    found = await worker.scheduler.processing(workers=[worker.address])
    return bool(found.get(worker.address))


async def _retire(worker: Worker) -> bool:
    """Whether others have all results; they may have to come first."""
    retired = await worker.scheduler.retire_workers(
        workers=[worker.address], close_workers=False, remove=True, stimulus_id=f"drain-{time.time()}"
    )
    return worker.address in retired
