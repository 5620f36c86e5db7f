"""Whether the pod that a job belongs to is still there: asked of a real HTTP server."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from dask_training.handlers.cache import Cache
from dask_training.handlers.owners import OwnerPoller, ended, owner_of
from dask_training.kube.resources import JOBS

KEY = ("team", "forest")
CREATED = "2026-03-01T12:00:00Z"


def pod(*containers, uid="uid-of-notebook", restarts="Always", **status):
    metadata = {"name": "notebook", "namespace": "team", "uid": uid}
    return {
        "metadata": metadata,
        "spec": {"restartPolicy": restarts},
        "status": {"phase": "Running", "containerStatuses": list(containers)} | status,
    }


def terminated(when, code=137):
    return {"terminated": {"exitCode": code, "finishedAt": when}}


RUNNING = {"state": {"running": {"startedAt": "2026-03-01T11:00:00Z"}}, "lastState": {}}


@pytest.fixture
def owned(job):
    """Makes a job that belongs to Pod notebook."""

    def make(mode="Session", **reference):
        body = job(phase="Running", attempt=1)
        body["metadata"]["creationTimestamp"] = CREATED
        reference = {"apiVersion": "v1", "kind": "Pod", "name": "notebook", "uid": "uid-of-notebook"} | reference
        body["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x"}, reference]
        body["spec"] = {"mode": mode}
        return body

    return make


@pytest.fixture
def looking(kubernetes):
    """A poller that looks every hundredth of a second, and the jobs that it has told of."""

    @contextlib.asynccontextmanager
    async def look(body, *pods):
        async with kubernetes() as kube:
            for each in pods:
                kube.api.put("Pod", each)
            cache, told = Cache(), []
            cache.put(JOBS, kube.api.put(JOBS.kind, body))
            poller = OwnerPoller(kube.client, cache, told.append, period=0.01)
            task = asyncio.create_task(poller.run())
            try:
                yield kube, poller, told
            finally:
                task.cancel()
                await asyncio.wait({task})

    return look


def asked(kube):
    return [entry for entry in kube.api.log if entry[:2] == ("get", "pods")]


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ((), "Pod notebook is gone"),
        ((pod(RUNNING, uid="another"),), "Pod notebook is gone"),
        ((pod(RUNNING, phase="Failed"),), "Pod notebook has ended"),
        ((pod({"state": terminated("2026-03-01T12:30:00Z")}),), "Pod notebook was started again"),
        ((pod({"state": terminated("2026-03-01T12:30:00Z")}, restarts="Never"),), "Pod notebook has ended"),
        ((pod({"state": terminated("2026-03-01T12:30:00Z")}, restarts="OnFailure"),), "Pod notebook was started again"),
        ((pod({"state": terminated("2026-03-01T12:30:00Z", 0)}, restarts="OnFailure"),), "Pod notebook has ended"),
    ],
    ids=["none", "another of that name", "ended", "killed", "killed for good", "failed, begins again", "ended well"],
)
def test_a_job_whose_pod_is_no_more_is_told_of_once(run, until, owned, looking, there, words):
    async def scene():
        async with looking(owned(), *there) as (kube, poller, told):
            await until(lambda: told)
            assert poller.gone("uid-of-forest") == words
            await until(lambda: len(asked(kube)) >= 3)
            assert told == [KEY]

    run(scene())


@pytest.mark.parametrize("trouble", [None, 500, 403, "reset"])
def test_a_pod_that_is_there_or_can_t_be_looked_at_ends_nothing(run, until, owned, looking, fault, trouble):
    async def scene():
        async with looking(owned(), pod(RUNNING)) as (kube, poller, told):
            if trouble is not None:
                kube.api.faults.append(fault("get", "pods", trouble))
            await until(lambda: len(asked(kube)) >= 3)
            assert (poller.gone("uid-of-forest"), told) == ("", [])

    run(scene())


def test_what_is_known_of_a_job_goes_with_it(run, until, owned, looking):
    async def scene():
        async with looking(owned()) as (kube, poller, told):
            await until(lambda: told)
            poller._cache.remove(JOBS, kube.api.objects[JOBS.plural, *KEY]["metadata"])
            await until(lambda: not poller.gone("uid-of-forest"))

    run(scene())


def test_only_jobs_of_a_session_s_pod_end_with_it(owned, job):
    assert owner_of(owned()) == ("team", "notebook", "uid-of-notebook")
    assert owner_of(owned(mode="Workers")) is not None
    assert owner_of(owned(mode="Batch")) is None, "Kubernetes deletes it with the pod, and nothing else ends it"
    assert owner_of(owned(kind="Job")) is None
    assert owner_of(job()) is None


@pytest.mark.parametrize(
    ("containers", "gone"),
    [
        ([RUNNING], False),
        ([RUNNING | {"lastState": terminated("2026-03-01T11:00:00Z")}], False),
        ([RUNNING | {"lastState": terminated("2026-03-01T12:00:01Z")}], True),
        (
            [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": terminated("2026-03-01T12:00:01Z")}],
            True,
        ),
        ([RUNNING, {"state": terminated("2026-03-01T12:00:01Z")}], False),
        ([], False),
    ],
    ids=["runs", "was started again before", "was started again", "waits for it", "one of two", "nothing known"],
)
def test_a_container_that_ended_after_the_job_was_made_took_the_session_with_it(containers, gone):
    assert ended(pod(*containers), CREATED) == ("Pod notebook was started again" if gone else "")
