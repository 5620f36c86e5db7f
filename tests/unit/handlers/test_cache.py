"""What is remembered, and that older news never replaces newer."""

import datetime

import pytest

from dask_training.handlers.cache import TOMBSTONE_SECONDS, Cache
from dask_training.handlers.gone import KEPT_SECONDS
from dask_training.kube.resources import JOBS, PODS, SERVICES

KEY = ("team", "forest")


def at(version, body, **metadata):
    return body | {
        "metadata": body["metadata"]
        | {"uid": f"uid-of-{body['metadata']['name']}"}
        | metadata
        | {"resourceVersion": str(version)}
    }


@pytest.fixture
def cache():
    return Cache()


@pytest.fixture
def pod(job, child):
    def make(version, name="p0", phase="Pending"):
        return at(version, child("Pod", job(), name, status={"phase": phase}))

    return make


def test_a_change_names_its_job(cache, job, pod, child):
    assert cache.put(JOBS, at(5, job())) == KEY
    assert cache.put(PODS, pod(6)) == KEY
    assert cache.put(SERVICES, at(7, child("Service", job(), "s", spec={"clusterIP": "10.0.0.1"}))) == KEY
    pods, services = cache.children("uid-of-forest")
    assert [body["metadata"]["name"] for body in pods + services] == ["p0", "s"]
    assert services[0]["spec"] == {"clusterIP": "10.0.0.1"}
    assert cache.job(KEY)["metadata"]["resourceVersion"] == "5"


def test_what_says_nothing_new_changes_nothing(cache, pod):
    cache.put(PODS, pod(6))
    assert cache.put(PODS, pod(6)) is None
    assert cache.put(PODS, pod(7)) is None  # only fields that are not kept have changed
    assert cache.put(PODS, pod(8, phase="Running")) == KEY


def test_a_watch_that_lags_does_not_undo_what_was_written(cache, job):
    cache.put(JOBS, at(9, job(phase="Running")))
    assert cache.put(JOBS, at(5, job(phase="Starting"))) is None
    assert cache.job(KEY)["status"]["phase"] == "Running"


def test_a_job_made_anew_under_its_name_takes_the_place_at_once(cache, job):
    cache.put(JOBS, at(9, job(phase="Failed")))
    assert cache.put(JOBS, at(5, job(), uid="another")) == KEY
    assert cache.job(KEY)["metadata"]["uid"] == "another"


def test_news_of_an_old_objects_end_leaves_the_new_one_alone(cache, job):
    cache.put(JOBS, at(9, job(), uid="another"))
    assert cache.remove(JOBS, at(10, job())["metadata"]) is None
    assert cache.job(KEY)["metadata"]["uid"] == "another"


def test_what_is_gone_does_not_come_back_from_an_older_list(pod):
    now = [0.0]
    cache = Cache(clock=lambda: now[0])
    cache.put(PODS, pod(6))
    assert cache.remove(PODS, pod(7)["metadata"]) == KEY
    assert cache.put(PODS, pod(6)) is None
    assert cache.children("uid-of-forest") == ([], [])
    now[0] = TOMBSTONE_SECONDS + 1
    cache.remove(PODS, pod(1, "other")["metadata"])
    assert len(cache._graves) == 1  # graves do not pile up


def test_a_list_drops_what_it_lacks_but_nothing_newer_than_itself(cache, pod):
    for version, name in ((5, "listed"), (6, "lost"), (20, "new")):
        cache.put(PODS, pod(version, name))
    assert cache.drop_unlisted(PODS, {"uid-of-listed"}, None, "10") == {KEY}
    assert [body["metadata"]["name"] for body in cache.children("uid-of-forest")[0]] == ["listed", "new"]


def test_a_list_of_one_namespace_or_job_says_nothing_of_others(cache, job, child):
    other = at(3, child("Pod", job("other", "elsewhere"), "q0"))
    cache.put(PODS, other)
    cache.put(PODS, at(3, child("Pod", job(), "p0")))
    assert cache.drop_unlisted(PODS, set(), "team", "10") == {KEY}
    assert cache.drop_unlisted(PODS, set(), None, "10", job="uid-of-forest") == set()
    assert len(cache.children("uid-of-other")[0]) == 1


def test_what_was_deleted_is_seen_as_such_before_a_watch_tells(cache, pod, job, child):
    cache.put(PODS, pod(5))
    cache.put(SERVICES, at(5, child("Service", job(), "s")))
    labels = {"dask-training.io/job-uid": "uid-of-forest", "dask-training.io/attempt": "1"}
    cache.mark_deleted("team", labels | {"dask-training.io/attempt": "2"}, "2026-01-01T00:00:00Z", 2)
    assert "deletionTimestamp" not in cache.children("uid-of-forest")[0][0]["metadata"]
    cache.mark_deleted("team", labels, "2026-01-01T00:00:00Z", 2)
    metadata = cache.children("uid-of-forest")[0][0]["metadata"]
    assert (metadata["deletionTimestamp"], metadata["deletionGracePeriodSeconds"]) == ("2026-01-01T00:00:00Z", 2)
    cache.mark_one_deleted(SERVICES, "uid-of-forest", "uid-of-s", "2026-01-01T00:00:00Z", None)
    assert cache.children("uid-of-forest")[1] == []


def test_nothing_is_kept_of_jobs_that_are_gone(cache, job, pod):
    cache.put(JOBS, at(5, job(phase="Running")))
    cache.put(PODS, pod(6))
    assert cache.phases() == {"Running": 1}
    cache.remove(PODS, pod(7)["metadata"])
    cache.remove(JOBS, at(8, job())["metadata"])
    assert (len(cache), cache._families, cache.phases()) == (0, {}, {})
    cache.remove(PODS, pod(9, "never seen")["metadata"])
    assert cache._families == {}


def test_objects_without_a_job_are_not_kept(cache, pod):
    body = pod(5)
    body["metadata"]["labels"] = {}
    assert cache.put(PODS, body) is None
    assert cache._families == {}


def test_only_what_decisions_need_is_kept(cache, pod, job):
    body = pod(5)
    body["metadata"] |= {"managedFields": [{"x": "y" * 1000}], "annotations": {"a": "b"}}
    body["spec"] = {
        "nodeName": "n",
        "volumes": [1],
        "containers": [{"name": "c", "image": "i", "env": [{"name": "A"}]}],
    }
    body["status"] |= {"containerStatuses": [{"name": "c", "imageID": "z", "state": {"running": {}}}], "qosClass": "x"}
    cache.put(PODS, body)
    kept = cache.children("uid-of-forest")[0][0]
    assert "managedFields" not in kept["metadata"]
    assert kept["spec"] == {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}
    assert kept["status"] == {"phase": "Pending", "containerStatuses": [{"name": "c", "state": {"running": {}}}]}
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "x" * 1000, "mine": "1"}
    beat = {"manager": "dask-training-heartbeat", "time": "2026-03-01T12:00:00Z"}
    fields = [{"manager": "kubectl", "time": "2026-03-01T11:00:00Z"}, beat | {"fieldsV1": {"f:metadata": {}}}]
    cache.put(JOBS, at(5, job(), annotations=annotations, managedFields=fields))
    assert cache.job(KEY)["metadata"]["annotations"] == {"mine": "1"}
    assert cache.job(KEY)["metadata"]["managedFields"] == [beat]
    cache.put(JOBS, at(6, job(), managedFields=fields[:1]))
    assert "managedFields" not in cache.job(KEY)["metadata"]


def test_pods_that_are_gone_are_remembered_as_they_were_seen_last_for_a_while(pod):
    now = [0.0]
    cache = Cache(clock=lambda: now[0])
    for name in ("p0", "p1"):
        cache.put(PODS, pod(6, name=name, phase="Running"))
    cache.remove(PODS, pod(9, name="p0")["metadata"])
    [(body, when)] = cache.gone("uid-of-forest")
    assert (body["metadata"]["name"], body["status"]["phase"]) == ("p0", "Running")
    assert abs((datetime.datetime.now(datetime.UTC) - when).total_seconds()) < 60
    assert cache.gone("another") == []
    now[0] = KEPT_SECONDS - 1
    cache.remove(PODS, pod(10, name="p1")["metadata"])
    assert [body["metadata"]["name"] for body, _ in cache.gone("uid-of-forest")] == ["p0", "p1"]
    now[0] = KEPT_SECONDS + 1
    assert [body["metadata"]["name"] for body, _ in cache.gone("uid-of-forest")] == ["p1"]
