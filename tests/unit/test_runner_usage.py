"""Who uses a Session's cluster: told by a real scheduler, with real clients."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

import pytest
from distributed import Client, Scheduler, Worker

from dask_training.runner.pod import endpoint
from dask_training.runner.pod.usage import SessionEnd, SessionLimits, Usage

HOST = "tcp://127.0.0.1:0"


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Ended:
    reasons: list[str] = field(default_factory=list)


async def until(condition, seconds=10.0):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - upstream has no event for it
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def cluster(clock=None, **scheduler):
    usage = []

    def add(made):
        usage.append(Usage(made, clock=clock) if clock else Usage(made))
        made.add_plugin(usage[0])

    made = Scheduler(host="127.0.0.1", port=0, dashboard_address=":0", dashboard=False, **scheduler)
    add(made)
    async with made:
        yield made, usage[0]


def worker_of(scheduler):
    return Worker(scheduler.address, nthreads=1, dashboard=False, memory_limit=0)


def test_clients_are_counted_and_so_is_the_time_without_one():
    async def story():
        clock = Clock()
        async with cluster(clock) as (scheduler, usage):
            assert (usage.clients, usage.no_client_seconds) == (0, None)  # nobody could use it yet
            async with worker_of(scheduler):
                clock.now += 5
                assert usage.no_client_seconds == 5
                async with (
                    Client(scheduler.address, asynchronous=True, set_as_default=False) as client,
                    Client(scheduler.address, asynchronous=True, set_as_default=False),
                ):
                    assert (usage.clients, usage.no_client_seconds) == (2, None)
                    assert await client.submit(sum, [1, 2]) == 3
                await until(lambda: usage.clients == 0)
                clock.now += 7
                assert usage.no_client_seconds == 7
            async with worker_of(scheduler):  # another worker does not begin it anew
                assert usage.no_client_seconds == 7

    asyncio.run(story())


def test_a_client_that_comes_before_the_first_worker_is_a_client():
    async def story():
        async with cluster() as (scheduler, usage):
            async with (
                Client(scheduler.address, asynchronous=True, set_as_default=False),
                worker_of(scheduler),
            ):
                assert usage.no_client_seconds is None
            await until(lambda: usage.no_client_seconds is not None)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (SessionLimits(0.3), "no task for 0.3 s (spec.idleTimeoutSeconds)"),
        (SessionLimits(600, 0.3), "no client for 0.3 s (spec.session.noClientTimeoutSeconds)"),
    ],
    ids=["idle", "no client"],
)
def test_a_scheduler_that_nobody_uses_ends_itself_and_says_why(limits, reason):
    async def story():
        ended = Ended()
        made = Scheduler(host="127.0.0.1", port=0, dashboard_address=":0", dashboard=False)
        usage = endpoint.add(made, "token", has_runner=False)
        SessionEnd(made, usage, limits, ended.reasons.append, slack=0.2)
        async with made, worker_of(made):
            await asyncio.wait_for(made.finished(), 10)
        assert ended.reasons == [reason]

    asyncio.run(story())


def test_a_session_outlives_its_clients_where_nothing_says_when_it_ends(monkeypatch):
    monkeypatch.setattr(endpoint, "_RUNNER_GONE_SECONDS", 0.0)

    async def story():
        ended = Ended()
        made = Scheduler(host="127.0.0.1", port=0, dashboard_address=":0", dashboard=False)
        usage = endpoint.add(made, "token", has_runner=False)
        SessionEnd(made, usage, SessionLimits(600), ended.reasons.append, slack=0)
        async with made:
            for _ in range(2):
                async with Client(made.address, asynchronous=True, set_as_default=False):
                    assert usage.clients == 1
                await until(lambda: usage.clients == 0)
            await asyncio.sleep(1.2)  # it looks once a second
            assert (made.status.name, ended.reasons) == ("running", [])

    asyncio.run(story())


def test_limits_are_read_from_the_pod_s_environment(monkeypatch):
    assert SessionLimits.from_environment() is None
    monkeypatch.setenv("DASK_TRAINING_IDLE_TIMEOUT", "1200")
    assert SessionLimits.from_environment() == SessionLimits(1200, None)
    monkeypatch.setenv("DASK_TRAINING_NO_CLIENT_TIMEOUT", "120")
    assert SessionLimits.from_environment() == SessionLimits(1200, 120)
