"""Who is to blame when a worker dies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from dask_training.errors import TaskKilledWorkersError
from dask_training.joblib_backend.payload import brief, describe

TRIES = 3  # a task whose workers die so often fails


class Suspect(Protocol):
    """A batch, as far as blame goes."""

    tasks: Sequence[Any]
    strikes: int
    verdict: BaseException | None


def blame(batch: Suspect, strikes: int, worker: str) -> None:
    """The batch has so many strikes now; a single task with too many gets its verdict."""
    batch.strikes = strikes
    if strikes >= TRIES and len(batch.tasks) == 1:
        batch.verdict = TaskKilledWorkersError(
            f"{brief(batch.tasks[0])} was tried {strikes} times, and each time its worker died (last {worker}). Most "
            "likely it needs more memory than a worker has: raise spec.workers.resources.limits.memory, or use fewer "
            "threads or less data per task. Otherwise it crashes the interpreter: run this one call alone to see how"
        )


def name_batch(tasks: Sequence[Any]) -> str:
    """A batch, for messages."""
    return brief(tasks[0]) if len(tasks) == 1 else describe(tasks)
