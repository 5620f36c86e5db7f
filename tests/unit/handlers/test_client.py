"""Requests to the API server and what comes of each answer."""

import time

import pytest
from machine import slowdown

from dask_training.kube.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NameCollisionError,
    NotFoundError,
    QuotaError,
    RefusedError,
    ThrottledError,
    UnknownOutcomeError,
    error_of,
)
from dask_training.kube.resources import EVENTS, JOBS, LEASES, NETWORK_POLICIES, PODS, SERVICES


@pytest.mark.parametrize(
    ("resource", "namespace", "name", "subresource", "path"),
    [
        (PODS, "team", None, None, "/api/v1/namespaces/team/pods"),
        (PODS, None, None, None, "/api/v1/pods"),
        (JOBS, "team", "rf", "status", "/apis/dask-training.io/v1alpha1/namespaces/team/dasktrainingjobs/rf/status"),
        (NETWORK_POLICIES, "a", "b", None, "/apis/networking.k8s.io/v1/namespaces/a/networkpolicies/b"),
        (LEASES, "a", "b", None, "/apis/coordination.k8s.io/v1/namespaces/a/leases/b"),
        (PODS, "a/../b", "..", None, "/api/v1/namespaces/a%2F..%2Fb/pods/.."),
    ],
)
def test_paths(resource, namespace, name, subresource, path):
    assert resource.path(namespace, name, subresource) == path


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, {"reason": "NotFound"}, NotFoundError),
        (409, {"reason": "AlreadyExists"}, AlreadyExistsError),
        (409, {"reason": "Conflict"}, ConflictError),
        (410, {"reason": "Expired"}, GoneError),
        (403, {"message": 'pods "x" is forbidden: exceeded quota: small'}, QuotaError),
        (403, {"message": 'pods "x" is forbidden: status unknown for quota: small, resources: pods'}, QuotaError),
        (403, {"message": "no rights"}, ForbiddenError),
        (422, {"reason": "Invalid"}, InvalidError),
        (400, {}, RefusedError),
        (429, {}, ThrottledError),
        (500, {}, UnknownOutcomeError),
        (503, {}, UnknownOutcomeError),
        (504, {}, UnknownOutcomeError),
        (302, {}, UnknownOutcomeError),
    ],
)
def test_each_answer_has_its_exception(status, body, kind):
    error = error_of("POST /x", status, body, {})
    assert type(error) is kind
    assert error.status == status
    assert str(error).startswith(f"POST /x: {status}")


@pytest.mark.parametrize(
    ("headers", "details", "seconds"),
    [({"Retry-After": "7"}, {}, 7), ({}, {"retryAfterSeconds": 3}, 3), ({}, {}, 1), ({"Retry-After": "soon"}, {}, 1)],
)
def test_a_429_says_when_again(headers, details, seconds):
    assert error_of("GET /x", 429, {"details": details}, headers).retry_after == seconds


def test_create_get_list_delete(run, kubernetes, job, child):
    async def scene():
        async with kubernetes() as kube:
            pod = child("Pod", job(), "p0")
            made = await kube.client.create(PODS, "team", pod)
            assert made["metadata"]["resourceVersion"]
            assert (await kube.client.get(PODS, "team", "p0"))["metadata"]["uid"] == made["metadata"]["uid"]
            with pytest.raises(AlreadyExistsError):
                await kube.client.create(PODS, "team", pod)
            await kube.client.delete(PODS, "team", "p0", uid="of another")
            assert kube.api.names("Pod") == ["p0"]
            await kube.client.delete(PODS, "team", "p0", uid=made["metadata"]["uid"], grace=2)
            await kube.client.delete(PODS, "team", "p0")
            assert kube.api.names("Pod") == []
            assert ("create", "pods", 409) in kube.requests

    run(scene())


def test_lists_come_page_by_page(run, kubernetes, job, child, monkeypatch):
    monkeypatch.setattr("dask_training.kube.client.PAGE_SIZE", 2)

    async def scene():
        async with kubernetes() as kube:
            for number in range(5):
                kube.api.put("Pod", child("Pod", job(), f"p{number}"))
            pages = [len(items) async for items, _ in kube.client.pages(PODS, "team")]
            assert pages == [2, 2, 1]

    run(scene())


def test_what_is_there_already_counts_only_if_it_has_the_same_owner(run, kubernetes, job, child):
    async def scene():
        async with kubernetes() as kube:
            ours, theirs = child("Service", job(), "ours"), child("Service", job(), "theirs", owner="someone")
            kube.api.put("Service", child("Service", job(), "ours"))
            kube.api.put("Service", theirs)
            there, new = await kube.client.create_owned(SERVICES, "team", ours)
            assert (there["metadata"]["name"], new) == ("ours", False)
            with pytest.raises(NameCollisionError, match="theirs exists and belongs to something else"):
                await kube.client.create_owned(SERVICES, "team", child("Service", job(), "theirs"))

    run(scene())


def test_a_status_is_written_only_at_the_version_that_was_read(run, kubernetes, job):
    async def scene():
        async with kubernetes() as kube:
            there = kube.api.put(JOBS.kind, job(phase="Running", reason="old"))
            version = there["metadata"]["resourceVersion"]
            new = await kube.client.patch_status(JOBS, "team", "forest", {"phase": "Failed", "reason": None}, version)
            assert new["status"] == {"phase": "Failed"}
            with pytest.raises(ConflictError):
                await kube.client.patch_status(JOBS, "team", "forest", {"phase": "Succeeded"}, version)

    run(scene())


@pytest.mark.parametrize("answer", ["reset", "lost", "late", 500, 503])
def test_what_may_or_may_not_be_done_is_unknown(run, kubernetes, job, child, fault, answer):
    async def scene():
        async with kubernetes() as kube:
            kube.api.faults.append(fault("create", "pods", answer, nth=1))
            with pytest.raises(UnknownOutcomeError):
                await kube.client.create(PODS, "team", child("Pod", job(), "p0"))
            assert kube.api.names("Pod") == (["p0"] if answer in ("lost", "late") else [])
            assert len(kube.requests) == 1  # nothing is tried twice

    run(scene())


def test_an_answer_that_does_not_come_is_unknown_after_the_time_out(run, kubernetes, job, monkeypatch):
    async def scene():
        hasty = kubernetes()
        hasty.timeout = 2
        async with hasty as kube:

            async def hang(*_):
                await kube.api_hangs

            import asyncio

            kube.api_hangs = asyncio.get_running_loop().create_future()
            monkeypatch.setattr(kube.api, "_do", hang)
            started = time.monotonic()
            with pytest.raises(UnknownOutcomeError, match="no answer"):
                await kube.client.get(JOBS, "team", "forest")
            assert 1.5 < time.monotonic() - started < 5 * slowdown()
            kube.api_hangs.cancel()

    run(scene())


def test_a_collection_is_never_deleted_without_labels(run, kubernetes):
    async def scene():
        async with kubernetes() as kube:
            with pytest.raises(ValueError, match="empty label selector"):
                await kube.client.delete_collection(PODS, "team", "")
            assert kube.api.log == []

    run(scene())


def test_a_field_selector_reaches_the_server(run, kubernetes):
    async def scene():
        async with kubernetes() as kube:
            pages = [page async for page, _ in kube.client.pages(EVENTS, "team", fields="involvedObject.name=p")]
            assert pages == [[]]

    run(scene())
