"""What a real scheduler's tasks, workers and data ask for; the arithmetic that decides how many workers there are."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import dask
import pytest
from distributed import Client, Scheduler, Worker
from distributed.core import Status

from dask_training.runner.pod.demand import demand, target_seconds

GO = threading.Event()


def stand(_number=0):
    """A task that runs until the test is over."""
    GO.wait(30)


class Counter:
    """An actor, which can't be moved."""


class Scene:
    """A scheduler, its client and its workers, all in this process."""

    def __init__(self, scheduler, client, stack):
        self.scheduler, self.client, self._stack = scheduler, client, stack

    async def worker(self, name, *, threads=1, memory=0):
        options = {"nthreads": threads, "memory_limit": memory, "name": name}
        made = Worker(self.scheduler.address, dashboard=False, heartbeat_interval="50ms", **options)
        return await self._stack.enter_async_context(made)

    def asked(self, threads=1):
        return demand(self.scheduler, threads=threads)

    async def until(self, claim):
        for _ in range(2000):
            if claim():
                return
            await asyncio.sleep(0.01)
        pytest.fail(f"not in 20 s: the scheduler asks for {self.asked()}")


@pytest.fixture
def play():
    """Runs a scene: a coroutine function of one argument."""

    async def played(scene):
        memory = {f"distributed.worker.memory.{what}": False for what in ("target", "spill", "pause", "terminate")}
        wanted = {"distributed.adaptive.target-duration": "500ms", "distributed.admin.low-level-log-length": 0}
        with dask.config.set(wanted | memory):
            async with contextlib.AsyncExitStack() as stack:
                scheduler = await stack.enter_async_context(Scheduler(protocol="inproc", dashboard_address=":0"))
                client = await stack.enter_async_context(Client(scheduler.address, asynchronous=True))
                try:
                    await scene(Scene(scheduler, client, stack))
                finally:
                    GO.set()

    GO.clear()
    return lambda scene: asyncio.run(played(scene))


def test_without_workers_their_threads_are_known_all_the_same(play):
    async def scene(on):
        assert on.asked(threads=4) == (0, [])
        futures = [on.client.submit(stand, n) for n in range(8)]
        await on.until(lambda: len(on.scheduler.unrunnable) + len(on.scheduler.queued) == 8)
        assert on.asked(threads=4).target == 2
        assert on.asked(threads=1).target == 8
        assert on.asked(threads=64).target == 1
        del futures

    play(scene)


def test_no_more_threads_are_asked_for_than_there_are_tasks_however_long_they_take(play):
    async def scene(on):
        await on.worker("a", threads=2)
        futures = [on.client.submit(stand, n) for n in range(5)]
        await on.until(lambda: on.asked().target == 3)
        await asyncio.sleep(1.2)  # by now they are known to take longer than the unknown are taken to
        assert on.asked().target == 3, "five tasks are work for three workers of two threads"
        del futures

    play(scene)


def test_a_few_quick_tasks_ask_for_nobody_more(play):
    async def scene(on):
        await on.worker("a")
        await on.client.gather(on.client.map(abs, range(10)))  # now it is known how long they take
        for _ in range(100):  # one that had to wait makes it too much
            if on.scheduler.task_prefixes["abs"].duration_average <= 0.002:
                break
            await on.client.gather(on.client.map(abs, range(10), pure=False))
        futures = on.client.map(abs, range(100, 200))
        await on.until(lambda: on.scheduler.tasks)
        assert on.asked().target <= 1
        await on.client.gather(futures)

    play(scene)


def test_workers_at_work_are_neither_idle_nor_too_many(play):
    async def scene(on):
        workers = [await on.worker(name) for name in "abc"]
        future = on.client.submit(stand, workers=[workers[1].address])
        await on.until(lambda: any(each.processing for each in on.scheduler.workers.values()))
        asked = on.asked()
        assert sorted(asked.idle) == ["a", "c"]
        assert asked.target == 1
        del future

    play(scene)


def test_a_worker_on_its_way_out_does_not_count_nor_ask_for_another(play):
    async def scene(on):
        workers = [await on.worker(name) for name in "ab"]
        future = on.client.submit(stand, workers=[workers[0].address])
        await on.until(lambda: any(each.processing for each in on.scheduler.workers.values()))
        on.scheduler.workers[workers[0].address].status = Status.closing_gracefully
        assert on.asked() == (0, ["b"])
        del future

    play(scene)


def test_full_memory_asks_for_more_workers_and_data_keeps_those_that_there_are(play):
    async def scene(on):
        workers = [await on.worker(name, memory=1_000_000) for name in "abc"]
        data = await on.client.scatter([b"x" * 300_000], workers=[workers[0].address])
        assert on.asked() == (1, ["b", "c"]), "the least data first; what stays has room for twice the data"
        more = await on.client.scatter([b"y" * 600_000], workers=[workers[1].address])
        assert on.asked() == (2, ["c"])
        most = await on.client.scatter([b"z" * 950_000], workers=[workers[2].address])
        assert on.asked() == (6, []), "over 60 % of all memory is in use"
        del data, more, most

    play(scene)


def test_without_a_memory_limit_data_holds_no_worker(play):
    async def scene(on):
        workers = [await on.worker(name) for name in "ab"]
        data = await on.client.scatter([b"x" * 300_000], workers=[workers[0].address])
        assert on.asked() == (0, ["b", "a"])
        del data

    play(scene)


def test_the_holder_of_an_actor_is_not_idle(play):
    async def scene(on):
        workers = [await on.worker(name) for name in "ab"]
        actor = await on.client.submit(Counter, actor=True, workers=[workers[0].address])
        assert on.asked() == (1, ["b"])
        del actor

    play(scene)


@pytest.mark.parametrize(("given", "seconds"), [("5s", 5), ("500ms", 0.5), (2, 2)])
def test_the_target_duration_is_dasks_own_setting(given, seconds):
    with dask.config.set({"distributed.adaptive.target-duration": given}):
        assert target_seconds() == seconds


@pytest.mark.parametrize("given", ["", "soon", 0, "0s", "-1s", None])
def test_a_target_duration_that_can_not_be_used_is_named(given):
    with (
        dask.config.set({"distributed.adaptive.target-duration": given}),
        pytest.raises(ValueError, match="must be a duration above 0"),
    ):
        target_seconds()
