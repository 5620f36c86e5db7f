"""What is left of deleted jobs goes, and nothing of a job that lives."""

import datetime

import pytest

from dask_training.handlers.cache import Cache
from dask_training.handlers.leftovers import Leftovers
from dask_training.kube.resources import JOBS, PODS, SERVICES

KEY = ("team", "forest")
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture
def scene(kubernetes, job, child):
    """A server with a job, two pods and a Service of it, all of which the operator has seen."""

    class Scene(kubernetes):
        async def __aenter__(self):
            await super().__aenter__()
            self.cache = Cache()
            self.leftovers = Leftovers(self.client, self.cache, lambda: NOW)
            self.job = self.api.put("DaskTrainingJob", job())
            self.cache.put(JOBS, self.job)
            for name in ("p0", "p1"):
                self.put("Pod", PODS, child("Pod", self.job, name))
            self.put("Service", SERVICES, child("Service", self.job, "s0", spec={"clusterIP": "10.0.0.1"}))
            self.api.log.clear()
            return self

        def put(self, kind, resource, body):
            self.cache.put(resource, self.api.put(kind, body))

        def delete_job(self):
            self.api.drop("DaskTrainingJob", "team", "forest")
            self.cache.remove(JOBS, self.job["metadata"])

        async def sweep(self):
            await self.leftovers.sweep(KEY, self.cache.job(KEY))

    return Scene


def test_pods_of_a_deleted_job_go_at_once_and_the_garbage_collector_takes_the_rest(run, scene):
    async def play():
        async with scene() as kube:
            kube.delete_job()
            await kube.sweep()
            assert kube.api.log == [("get", "dasktrainingjobs", "forest"), ("deletecollection", "pods", "")]
            assert kube.api.names("Pod") == []
            kube.api.log.clear()
            await kube.sweep()  # before a watch tells that they are gone
            assert kube.api.log == []

    run(play())


def test_a_job_that_lives_keeps_its_pods_even_if_the_cache_has_not_heard_of_it(run, scene):
    async def play():
        async with scene() as kube:
            await kube.sweep()
            assert kube.api.log == []
            kube.cache = kube.leftovers._cache = Cache()
            for name in ("p0", "p1"):
                kube.cache.put(PODS, kube.api.objects["pods", "team", name])
            await kube.sweep()
            assert kube.api.writes() == []
            assert kube.cache.job(KEY)["metadata"]["uid"] == "uid-of-forest"

    run(play())


def test_the_next_job_of_the_name_does_not_shelter_what_the_last_one_left(run, scene, job, child):
    async def play():
        async with scene() as kube:
            kube.delete_job()
            again = job()
            again["metadata"]["uid"] = "another"
            kube.put("DaskTrainingJob", JOBS, again)
            kube.put("Pod", PODS, child("Pod", again, "p2"))
            await kube.sweep()
            assert kube.api.names("Pod") == ["p2"]

    run(play())


def test_what_was_orphaned_goes_too(run, scene):
    async def play():
        async with scene() as kube:
            service = kube.api.objects["services", "team", "s0"]
            service["metadata"]["ownerReferences"] = []
            kube.put("Service", SERVICES, service)
            kube.delete_job()
            await kube.sweep()
            assert (kube.api.names("Pod"), kube.api.names("Service")) == ([], [])
            assert kube.cache.uids(KEY) == {"uid-of-forest"}, "the pods, until a watch tells of their end"

    run(play())


@pytest.mark.parametrize(("grace", "asked"), [(30, True), (2, False)])
def test_a_pod_that_would_take_its_time_is_hurried(run, scene, child, grace, asked):
    async def play():
        async with scene() as kube:
            kube.delete_job()
            for name in ("p0", "p1"):
                pod = kube.api.objects["pods", "team", name]
                pod["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace}
                kube.put("Pod", PODS, pod)
            await kube.sweep()
            assert (("deletecollection", "pods", "") in kube.api.log) is asked

    run(play())
