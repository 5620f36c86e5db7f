"""Kopf against the fake server: what is seen, what is missed, and what the periodic list puts right."""

import asyncio
import logging

import pytest

from dask_training.handlers.cache import Cache
from dask_training.handlers.health import WatchProgress
from dask_training.handlers.resync import Resync
from dask_training.handlers.watches import Backoffs, Watches
from dask_training.kube.resources import JOBS

KEY = ("team", "forest")
pytestmark = pytest.mark.filterwarnings("ignore:.*:FutureWarning")


@pytest.fixture
def watch(kubernetes, job):
    class Watch(kubernetes):
        def __init__(self, namespaces=None):
            super().__init__()
            self.namespaces = namespaces

        async def __aenter__(self):
            await super().__aenter__()
            self.before = asyncio.all_tasks()
            self.cache, self.told, self.progress = Cache(), [], WatchProgress()
            self.watches = Watches(self.connection, self.cache, self.told.append, self.progress, self.namespaces)
            self.resync = Resync(self.client, self.cache, self.namespaces, self.told.append, self.progress.gap)
            self.started = []
            self.watches.started = lambda: self.started.append(1)
            self.task = asyncio.create_task(self.watches.run())
            while len(self.api.streams) < 3 * len(self.namespaces or [None]):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
            return self

        async def __aexit__(self, *_):
            self.task.cancel()
            others = asyncio.all_tasks() - self.before
            for task in others:  # kopf's own
                task.cancel()
            self.api.cut_watches()
            await asyncio.wait(others, timeout=3)
            await super().__aexit__(*_)

    logging.getLogger("kopf").setLevel(logging.CRITICAL)
    yield Watch
    logging.getLogger("kopf").setLevel(logging.NOTSET)


def test_events_reach_the_cache_and_name_their_job(run, until, watch, job, child):
    async def scene():
        async with watch() as kube:
            kube.api.put(JOBS.kind, job())
            await until(lambda: kube.cache.job(KEY))
            kube.api.put("Pod", child("Pod", job(), "p0"))
            await until(lambda: kube.cache.children("uid-of-forest")[0])
            stranger = child("Pod", job(), "stranger")
            stranger["metadata"]["labels"] = {}
            kube.api.put("Pod", stranger)
            kube.api.drop("Pod", "team", "p0")
            await until(lambda: not kube.cache.children("uid-of-forest")[0])
            assert kube.told == [KEY] * 3
            assert kube.started == [1]
            assert kube.progress.silent() == {}
            assert kube.api.writes(events=True) == []  # no finalizers, no patches, no Events of kopf's own

    run(scene())


def test_in_named_namespaces_nothing_of_the_cluster_is_asked_for(run, watch):
    async def scene():
        async with watch(["team", "other"]) as kube:
            assert len(kube.api.streams) == 6
            plurals = {plural for _, plural, _ in kube.api.log}
            assert plurals == {"dasktrainingjobs", "pods", "services"}

    run(scene())


@pytest.mark.parametrize(
    "within", [b"", b'{"type": "MODIFIED", "object": {"metadata": {"na'], ids=["between", "within"]
)
def test_a_watch_that_is_cut_goes_on_where_it_was(run, until, watch, job, within):
    async def scene():
        async with watch() as kube:
            kube.api.cut_watches(within=within)
            kube.api.put(JOBS.kind, job())
            await until(lambda: kube.cache.job(KEY))

    run(scene())


def test_an_end_that_a_watch_has_missed_is_found_by_the_list(run, until, watch, job, child):
    async def scene():
        async with watch() as kube:
            kube.api.put(JOBS.kind, job())
            kube.api.put("Pod", child("Pod", job(), "p0"))
            await until(lambda: kube.cache.children("uid-of-forest")[0])
            kube.api.drop("Pod", "team", "p0")
            kube.api.history.clear()
            kube.api.cut_watches(forget=True)  # 410: the history between is gone
            await until(lambda: len(kube.api.streams) == 3)
            lists = asyncio.create_task(kube.resync.run())  # as a gap makes it
            assert kube.progress.gap.is_set()
            await until(lambda: not kube.cache.children("uid-of-forest")[0])
            assert kube.cache.job(KEY)
            lists.cancel()

    run(scene())


@pytest.mark.parametrize("answer", [500, 429, "reset"])
def test_a_watch_that_is_refused_comes_again(run, until, watch, job, fault, answer):
    async def scene():
        async with watch() as kube:
            kube.api.faults += [fault("watch", "dasktrainingjobs", answer, nth=nth) for nth in (1, 1)]
            kube.api.cut_watches()
            kube.api.put(JOBS.kind, job())
            await until(lambda: kube.cache.job(KEY))

    run(scene())


def test_back_offs_never_end_and_never_grow_beyond_their_bound():
    waits = [wait for wait, _ in zip(Backoffs(), range(200), strict=False)]
    assert len(waits) == 200
    assert all(0 < wait <= 15 for wait in waits)
    assert not hasattr(Backoffs(), "__len__")  # kopf gives up after len() tries


def test_lists_say_what_changed_and_nothing_else(run, kubernetes, job, child):
    async def scene():
        async with kubernetes() as kube:
            cache, told = Cache(), []
            resync = Resync(kube.client, cache, None, told.append, asyncio.Event())
            kube.api.put(JOBS.kind, job())
            kube.api.put("Pod", child("Pod", job(), "p0"))
            await resync.once()
            assert set(told) == {KEY}
            told.clear()
            await resync.once()
            assert told == []
            kube.api.drop(JOBS.kind, *KEY)
            await resync.once()
            assert (told, len(cache)) == ([KEY], 0)

    run(scene())
