"""How many workers the work that a scheduler knows of asks for, and which of its workers have nothing to do."""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import dask
from dask.utils import parse_timedelta
from distributed import Scheduler
from distributed.core import Status

_TARGET_DURATION = "distributed.adaptive.target-duration"
_SAMPLE = 100  # waiting tasks that are looked at one by one
_FULL = 0.6  # with more of the workers' memory in use than this, more workers are asked for
_ROOM = 2  # workers that stay have at least so many times the memory that all data takes
_MOST_NAMES = 500
_LEAVING = frozenset({Status.closing_gracefully, Status.closing, Status.closed})


class Demand(NamedTuple):
    """`target` workers are asked for; `idle` ones may close, those that hold the least data first."""

    target: int
    idle: list[str]


def target_seconds() -> float:
    """For how long a worker more has to be of use: Dask's own setting, of which ours is the default.

    Raises ValueError if it is no duration above 0.
    """
    given = dask.config.get(_TARGET_DURATION)
    try:
        seconds = float(parse_timedelta(given))
    except (ValueError, TypeError, KeyError, IndexError):  # the last one is upstream's for ""
        seconds = 0.0
    if not seconds > 0:
        raise ValueError(f"Dask's {_TARGET_DURATION} is {given!r}: must be a duration above 0, such as '5s' (spec.env)")
    return seconds


def demand(scheduler: Scheduler, *, threads: int) -> Demand:
    """What a scheduler's work asks for now; `threads` is what each worker has, for as long as none is there.

    As `Scheduler.adaptive_target`, but a worker on its way out neither counts nor asks for another one, workers
    without a memory limit can be idle, and one that holds an actor, which can't be moved, can't.
    """
    staying = [worker for worker in scheduler.workers.values() if worker.status not in _LEAVING]
    idle = _idle(scheduler, staying)
    target = max(_for_tasks(scheduler, staying, threads), _for_memory(staying), len(staying) - len(idle))
    return Demand(target, [str(worker.name) for worker in idle[:_MOST_NAMES]])


def _for_tasks(scheduler: Scheduler, staying: list[Any], threads: int) -> int:
    """Workers that could all be busy for the target duration, with no more threads than there are tasks."""
    waiting = len(scheduler.queued) + len(scheduler.unrunnable)
    tasks = waiting + sum(len(worker.processing) - len(worker.long_running) for worker in staying)
    if not tasks:
        return 0
    sample = list(itertools.islice(itertools.chain(scheduler.queued, scheduler.unrunnable), _SAMPLE))
    seconds = sum(scheduler._get_prefix_duration(task.prefix) for task in sample)  # noqa: SLF001 - as upstream's target
    if waiting > _SAMPLE:
        seconds *= waiting / _SAMPLE
    seconds += sum(worker.occupancy for worker in staying)
    wanted = min(math.ceil(seconds / target_seconds()), tasks)
    each = sum(worker.nthreads for worker in staying) / len(staying) if staying else max(threads, 1)
    return max(math.ceil(wanted / each), 1)


def _for_memory(staying: list[Any]) -> int:
    limit = sum(worker.memory_limit for worker in staying)
    used = sum(worker.nbytes for worker in staying)
    return 2 * len(staying) if limit and used > _FULL * limit else 0


def _idle(scheduler: Scheduler, staying: list[Any]) -> list[Any]:
    """Those without any task, as many as can go without the data becoming too much for the others."""
    candidates = [worker for worker in staying if not (worker.processing or worker.long_running or worker.actors)]
    for plugin in list(scheduler.plugins.values()):
        candidates = plugin.valid_workers_downscaling(scheduler, candidates)
    limit = sum(worker.memory_limit for worker in staying)
    needed = _ROOM * sum(worker.nbytes for worker in staying) if limit else 0
    found = []
    for worker in sorted(candidates, key=lambda worker: worker.nbytes):
        limit -= worker.memory_limit
        if limit < needed:
            break
        found.append(worker)
    return found
