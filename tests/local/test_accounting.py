"""What a scheduler counts of its cluster's work: a real scheduler and workers, all in this process."""

import asyncio
import time

import numpy as np
import pytest
from distributed import Client, Scheduler

from dask_training.runner import accounting
from dask_training.runner.accounting import MOST_PREFIXES, OTHER, Accounting
from dask_training.runner.worker_usage import CountingWorker


@pytest.fixture
def on_cluster():
    """Runs what it is given with (client, scheduler, workers) of a cluster of two workers, of 1 and 2 threads."""

    def run(body):
        async def with_cluster():
            async with Scheduler(host="127.0.0.1", port=0, dashboard=False, dashboard_address=":0") as scheduler:
                scheduler.add_plugin(Accounting(scheduler))
                scheduler.periodic_callbacks[Accounting.name].start()
                address = scheduler.address
                async with (
                    CountingWorker(address, nthreads=1, dashboard=False) as one,
                    CountingWorker(address, nthreads=2, dashboard=False) as two,
                    Client(address, asynchronous=True) as client,
                ):
                    return await body(client, scheduler, [one, two])

        return asyncio.run(with_cluster())

    return run


def fails():
    raise ValueError("as it should")


def add(*numbers):
    return sum(numbers)


def test_tasks_count_once_by_prefix_with_the_seconds_that_they_computed(on_cluster):
    async def work(client, scheduler, workers):
        await client.gather(client.map(time.sleep, [0.05] * 10, pure=False))
        await client.gather(client.map(add, range(20)))
        failed = client.submit(fails)
        await failed.exception()
        return await accounting.read(client)

    facts = on_cluster(work)
    tasks = facts.tasks
    assert {name: (each.done, each.failed) for name, each in tasks.by_prefix.items()} == {
        "sleep": (10, 0),
        "add": (20, 0),
        "fails": (0, 1),
    }
    assert (tasks.done, tasks.failed) == (30, 1)
    assert tasks.by_prefix["sleep"].seconds >= 0.5
    assert tasks.seconds == pytest.approx(sum(each.seconds for each in tasks.by_prefix.values()), abs=1e-4)
    assert tasks.mean_seconds == pytest.approx(tasks.seconds / 31, abs=1e-4)
    assert 0 < facts.thread_seconds.busy <= facts.thread_seconds.available
    assert facts.moved.peak_worker_memory > 20 * 1024**2


def test_bytes_that_clients_put_and_that_workers_send_each_other_are_counted(on_cluster):
    numbers = np.arange(250_000.0)  # two megabytes

    async def work(client, scheduler, workers):
        there = await client.scatter(numbers, workers=[workers[0].address])
        put = await accounting.read(client)
        await client.submit(np.sum, there, workers=[workers[1].address], allow_other_workers=False)
        return put, await accounting.read(client)

    put, moved = on_cluster(work)
    assert numbers.nbytes <= put.moved.scattered <= numbers.nbytes + 1000
    assert numbers.nbytes <= put.moved.received <= numbers.nbytes + 1000
    assert moved.moved.scattered == put.moved.scattered
    assert 2 * numbers.nbytes <= moved.moved.received <= 2 * numbers.nbytes + 2000
    assert moved.moved.spilled == 0


def test_threads_count_from_their_workers_coming_to_its_going(on_cluster):
    async def work(client, scheduler, workers):
        began = time.monotonic()
        await scheduler.retire_workers([workers[1].address])
        while len(scheduler.workers) > 1:  # noqa: ASYNC110 - the scheduler has no event for it
            await asyncio.sleep(0.01)
        before = await accounting.read(client)
        await asyncio.sleep(0.3)
        after = await accounting.read(client)
        return before, after, time.monotonic() - began

    before, after, seconds = on_cluster(work)
    alone = after.thread_seconds.available - before.thread_seconds.available
    assert 0.3 <= alone <= seconds  # one thread alone, for the one with two is gone
    assert after.worker_seconds - before.worker_seconds == pytest.approx(alone, abs=0.01)
    assert after.lost == 0  # it said goodbye


def test_a_worker_that_vanishes_is_lost_and_what_it_said_last_stays(on_cluster):
    async def work(client, scheduler, workers):
        await client.scatter(np.arange(250_000.0), workers=[workers[1].address])
        before = await accounting.read(client)
        await scheduler.remove_worker(workers[1].address, stimulus_id="test", expected=False, close=True)
        return before, await accounting.read(client)

    before, after = on_cluster(work)
    assert (before.lost, after.lost) == (0, 1)
    assert after.moved.received == before.moved.received >= 2_000_000


def test_however_many_prefixes_there_are_few_are_named(on_cluster):
    async def work(client, scheduler, workers):
        keys = [f"step{number}x-{number}" for number in range(MOST_PREFIXES + 30)]
        await client.gather([client.submit(add, 1, key=key) for key in keys])
        return await accounting.read(client)

    tasks = on_cluster(work).tasks
    assert tasks.done == MOST_PREFIXES + 30
    assert len(tasks.by_prefix) == MOST_PREFIXES + 1
    assert tasks.by_prefix[OTHER].done == 30
