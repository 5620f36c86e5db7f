"""What a cluster did and took, counted on its scheduler while it works; `read` asks for it at the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from distributed import Scheduler, SchedulerPlugin
from tornado.ioloop import PeriodicCallback

from dask_training.runner.run_summary import BytesMoved, ClusterFacts, PrefixTasks, Tasks, ThreadSeconds
from dask_training.runner.worker_usage import AGE, USAGE, WorkerUsage

READ: Final = "dask_training_facts"
MOST_PREFIXES: Final = 100
OTHER: Final = "other"
_LOOK_SECONDS: Final = 1.0
_ASK_SECONDS: Final = 2.0
_PREFIX_CHARACTERS: Final = 100


@dataclass
class _Worker:
    """One worker process: when it came and went (monotonic), how old it was when it came, what it last said."""

    threads: int
    joined: float
    age: float = 0.0
    left: float | None = None
    usage: WorkerUsage = field(default_factory=WorkerUsage)


@dataclass
class _Counted:
    """Tasks of one prefix."""

    done: int = 0
    failed: int = 0
    seconds: float = 0.0


class Accounting(SchedulerPlugin):
    """Counts tasks as they end, workers as they come and go, and bytes as they are put on workers.

    `clock` gives seconds that never go back.
    """

    name = "dask-training-accounting"

    def __init__(self, scheduler: Scheduler, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._began = clock()
        self._tasks: dict[str, _Counted] = {}
        self._workers: dict[str, _Worker] = {}
        self._at: dict[str, str] = {}  # address -> the server id of the worker that is there now
        self._scattered = 0
        self._lost = 0
        _count_scattered(scheduler, self._note_scattered)
        scheduler.handlers[READ] = self.facts
        # It begins with the scheduler and ends with it.
        scheduler.periodic_callbacks[self.name] = PeriodicCallback(self._look, _LOOK_SECONDS * 1000)

    def transition(self, key: Any, start: str, finish: str, *_: Any, **kwargs: Any) -> None:
        """Counts a task that has ended; all other transitions leave at once."""
        if start != "processing" or finish not in ("memory", "erred"):
            return
        counted = self._of_prefix(self._scheduler.tasks[key].prefix.name)
        if finish == "erred":
            counted.failed += 1
        else:
            counted.done += 1
        for span in kwargs.get("startstops") or ():
            if span["action"] == "compute":
                counted.seconds += span["stop"] - span["start"]

    def _of_prefix(self, name: str) -> _Counted:
        counted = self._tasks.get(name)
        if counted is None:
            if len(self._tasks) >= MOST_PREFIXES:
                name = OTHER
            counted = self._tasks.setdefault(name, _Counted())
        return counted

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """A worker has joined."""
        state = scheduler.workers[worker]
        age = state.extra.get(AGE, 0.0)
        joined = _Worker(state.nthreads, self._clock(), age=age if isinstance(age, int | float) else 0.0)
        self._workers[state.server_id] = joined
        self._at[worker] = state.server_id

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        """A worker has left, on its own account or not."""
        gone = self._workers.get(self._at.pop(worker, ""))
        if gone is not None:
            gone.left = self._clock()
        events = scheduler.get_events(worker)
        said = [event for _, event in events if isinstance(event, dict) and event.get("action") == "remove-worker"]
        if said and not said[-1].get("expected", False):
            self._lost += 1

    def _note_scattered(self, nbytes: int) -> None:
        self._scattered += nbytes

    def _look(self) -> None:
        """What workers say with their heartbeats is read now: of one that dies it is all that is known."""
        for address, identity in self._at.items():
            state = self._scheduler.workers.get(address)
            if state is not None:
                self._take(identity, state.metrics.get(USAGE))

    def _take(self, identity: str, said: Any) -> None:
        with contextlib.suppress(msgspec.ValidationError):
            usage = msgspec.convert(said, WorkerUsage)
            self._workers[identity].usage = usage

    async def facts(self) -> dict[str, Any]:
        """All that is known now, as `ClusterFacts` in plain values; workers are asked, which takes milliseconds."""
        self._look()
        here = dict(self._at)
        asked = (asyncio.wait_for(getattr(self._scheduler.rpc(address), USAGE)(), _ASK_SECONDS) for address in here)
        # Of who does not answer, what is known is what it said last.
        for identity, said in zip(here.values(), await asyncio.gather(*asked, return_exceptions=True), strict=True):
            self._take(identity, said)
        known: dict[str, Any] = msgspec.to_builtins(self._facts())
        return known

    def _facts(self) -> ClusterFacts:
        now, workers = self._clock(), list(self._workers.values())
        by_prefix = {
            name[:_PREFIX_CHARACTERS]: PrefixTasks(done=each.done, failed=each.failed, seconds=round(each.seconds, 6))
            for name, each in self._tasks.items()
        }
        lived = [(worker, (now if worker.left is None else worker.left) - worker.joined) for worker in workers]
        peaks = [worker.usage.peak_memory for worker in workers if worker.usage.peak_memory]
        tasks = tasks_of(by_prefix)
        return ClusterFacts(
            tasks=tasks,
            moved=BytesMoved(
                received=sum(worker.usage.received for worker in workers),
                scattered=self._scattered,
                spilled=sum(worker.usage.spilled for worker in workers),
                peak_worker_memory=max(peaks, default=None),
            ),
            thread_seconds=ThreadSeconds(
                available=round(sum(worker.threads * seconds for worker, seconds in lived), 3),
                busy=round(tasks.seconds, 3),
            ),
            lost=self._lost,
            worker_seconds=round(sum(worker.age + seconds for worker, seconds in lived), 3),
            scheduler_seconds=round(now - self._began, 3),
        )


def tasks_of(by_prefix: dict[str, PrefixTasks]) -> Tasks:
    """The sums over the prefixes."""
    done, failed = (sum(getattr(each, name) for each in by_prefix.values()) for name in ("done", "failed"))
    seconds = round(sum(each.seconds for each in by_prefix.values()), 6)
    mean = round(seconds / (done + failed), 6) if done + failed else None
    return Tasks(done=done, failed=failed, seconds=seconds, mean_seconds=mean, by_prefix=by_prefix)


async def read(client: Any) -> ClusterFacts:
    """The facts of the cluster of a client; needs the client's event loop.

    Raises whatever a scheduler that is gone, or not ours, makes distributed raise.
    """
    return msgspec.convert(await getattr(client.scheduler, READ)(), ClusterFacts)


def _count_scattered(scheduler: Scheduler, note: Callable[[int], None]) -> None:
    """Calls `note` with the bytes that clients have put on workers; no hook of a plugin tells of that."""
    upstream = scheduler.update_data

    def update_data(*, who_has: dict[Any, list[str]], nbytes: dict[Any, int], client: str | None = None) -> None:
        upstream(who_has=who_has, nbytes=nbytes, client=client)
        note(sum(nbytes.get(key, 0) * len(workers) for key, workers in who_has.items()))

    scheduler.update_data = update_data
    scheduler.handlers["update_data"] = update_data
    scheduler.stream_handlers["update-data"] = update_data
