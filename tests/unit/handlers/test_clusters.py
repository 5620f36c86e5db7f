"""Looking for the clusters of clusterRef: each job's own, again and again, and news only when there are some."""

import asyncio

import pytest

from dask_training.cluster_ref import ReferencedCluster
from dask_training.handlers.cache import Cache
from dask_training.handlers.clusters import ReferencedClusters
from dask_training.kube.errors import NotFoundError, UnknownOutcomeError
from dask_training.kube.resources import JOBS

KEY = ("team", "forest")
SERVICE = {
    "metadata": {
        "name": "shared-scheduler",
        "uid": "s-1",
        "ownerReferences": [{"kind": "DaskCluster", "name": "shared", "uid": "c-1"}],
    },
    "spec": {"clusterIP": "10.0.0.9", "ports": [{"name": "tcp-comm", "port": 8786}]},
}


class Server:
    """Answers a GET with what `found` is: a body or an error."""

    def __init__(self) -> None:
        self.found: object = SERVICE
        self.asked: list[tuple[str, str]] = []

    async def get(self, resource, namespace, name):
        assert resource.kind == "Service"
        self.asked.append((namespace, name))
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@pytest.fixture
def scene(job):
    """A server, what looks at it, and whom it told; the job of KEY names DaskCluster shared."""
    server, cache, told = Server(), Cache(), []
    body = job(phase="Running", attempt=1)
    body["spec"]["clusterRef"] = {"kind": "DaskCluster", "name": "shared"}
    cache.put(JOBS, body)
    cache.put(JOBS, job(name="other", phase="Running", attempt=1))
    return server, ReferencedClusters(server, cache, told.append), told, body


def test_the_service_of_the_jobs_own_namespace_is_asked_for(run, scene):
    server, clusters, told, body = scene
    assert clusters.of("uid-of-forest") is None
    run(clusters.look(KEY, body))
    run(clusters.look(KEY, body))
    assert server.asked == [("team", "shared-scheduler")] * 2
    assert clusters.of("uid-of-forest") == ReferencedCluster("shared", "tcp://10.0.0.9:8786", "", "s-1")
    assert told == [KEY], "once, for nothing has changed since"


def test_a_cluster_that_goes_is_news(run, scene):
    server, clusters, told, body = scene
    run(clusters.look(KEY, body))
    server.found = NotFoundError("GET", "not found", status=404)
    run(clusters.look(KEY, body))
    assert told == [KEY, KEY]
    assert "there is no Service 'shared-scheduler'" in clusters.of("uid-of-forest").problem


def test_a_server_that_does_not_answer_changes_nothing(run, scene):
    server, clusters, told, body = scene
    run(clusters.look(KEY, body))
    server.found = UnknownOutcomeError("GET", "busy", status=503)
    run(clusters.look(KEY, body))
    assert told == [KEY]
    assert clusters.of("uid-of-forest").address == "tcp://10.0.0.9:8786"


def test_only_jobs_that_name_a_cluster_cost_a_request_and_a_finished_one_is_forgotten(run, until, job, scene):
    server, clusters, told, body = scene

    async def story():
        task = asyncio.create_task(clusters.run())
        await until(lambda: told)
        assert server.asked == [("team", "shared-scheduler")]
        done = job(phase="Succeeded", attempt=1)
        done["spec"] = body["spec"]
        done["metadata"]["resourceVersion"] = "99"
        clusters._cache.put(JOBS, done)
        await until(lambda: clusters.of("uid-of-forest") is None)
        task.cancel()
        await asyncio.wait({task})

    run(story())
