"""Plans carried out against a server that refuses, delays, loses and lies."""

import base64
import dataclasses
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dask_training.handlers.cache import Cache
from dask_training.handlers.executor import Executor, merge_patch
from dask_training.handlers.refusals import Refusals
from dask_training.kube.errors import ThrottledError, UnknownOutcomeError
from dask_training.kube.resources import JOBS, PODS, SERVICES
from dask_training.manifests.attempt import signed_secret_name
from dask_training.reconcile import Delete, JobEvent, Plan, SecretRequest

KEY = ("team", "forest")
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture
def stage(kubernetes, job):
    """An executor, its cache and its job on a fake server."""

    class Stage(kubernetes):
        async def __aenter__(self):
            await super().__aenter__()
            self.cache, self.refusals, self.posted = Cache(), Refusals(), []
            self.executor = Executor(
                self.client, self.cache, self.refusals, post=lambda *a: self.posted.append(a[1:]), now=lambda: NOW
            )
            self.cache.put(JOBS, self.api.put(JOBS.kind, job()))
            self.api.log.clear()
            return self

        async def do(self, plan):
            return await self.executor.run(KEY, self.cache.job(KEY), plan)

    return Stage


@pytest.fixture
def secret():
    return SecretRequest(
        name="forest-1",
        namespace="team",
        labels={},
        owner={"kind": "Service", "name": "forest-1", "uid": "s", "apiVersion": "v1"},
        common_name="forest-1",
        roles=("scheduler", "worker"),
        lifetime_seconds=3600,
        data={"token": b"t"},
    )


@pytest.fixture
def signing_secret(secret):
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return dataclasses.replace(secret, signing_request=request.public_bytes(serialization.Encoding.PEM).decode())


STARTED = (JobEvent("Normal", "Started", "attempt 1"),)


def test_the_status_comes_first_where_it_must_and_is_known_at_once(run, stage, job, child):
    async def scene():
        async with stage() as kube:
            pods = tuple(child("Pod", job(), f"p{number}") for number in range(3))
            plan = Plan(status={"phase": "Starting", "attempt": 1}, status_first=True, create=pods, events=STARTED)
            outcome = await kube.do(plan)
            assert (outcome.done, outcome.failures, outcome.conflicts) == (4, [], 0)
            assert [entry[:2] for entry in kube.api.writes()] == [("patch", "dasktrainingjobs")] + [
                ("create", "pods")
            ] * 3
            assert kube.cache.job(KEY)["status"] == {"phase": "Starting", "attempt": 1}
            assert len(kube.cache.children("uid-of-forest")[0]) == 3  # without any watch
            assert kube.posted == [("Normal", "Started", "attempt 1")]

    run(scene())


@pytest.mark.parametrize("answer", [409, 429, 500, "reset", "late"])
def test_nothing_follows_a_first_status_that_was_not_acknowledged(run, stage, job, child, fault, answer):
    async def scene():
        async with stage() as kube:
            kube.api.faults.append(fault("patch", "dasktrainingjobs", answer))
            plan = Plan(
                status={"phase": "Failed"},
                status_first=True,
                create=(child("Pod", job(), "p0"),),
                delete=(Delete.one("Service", "s", "u"),),
                events=STARTED,
            )
            outcome = await kube.do(plan)
            assert outcome.done == 0
            assert [entry[1] for entry in kube.api.writes()] == ["dasktrainingjobs"]
            assert kube.posted == []
            assert bool(outcome.conflicts) == (answer == 409)

    run(scene())


def test_a_status_conflict_brings_the_jobs_newest_version(run, stage, job):
    async def scene():
        async with stage() as kube:
            plan = Plan(status={"phase": "Starting"})
            kube.api.put(JOBS.kind, job() | {"spec": {"suspend": True}})
            outcome = await kube.do(plan)
            assert (outcome.conflicts, outcome.done, outcome.failures) == (1, 0, [])
            assert kube.cache.job(KEY)["spec"] == {"suspend": True}

    run(scene())


def test_a_status_that_was_written_though_it_timed_out_is_found_again(run, stage, fault):
    async def scene():
        async with stage() as kube:
            kube.api.faults.append(fault("patch", "dasktrainingjobs", "late", nth=1))
            plan = Plan(status={"phase": "Starting"}, status_first=True)
            assert isinstance((await kube.do(plan)).failures[0], UnknownOutcomeError)
            assert (await kube.do(plan)).conflicts == 1
            assert kube.cache.job(KEY)["status"] == {"phase": "Starting"}

    run(scene())


def test_a_status_that_says_nothing_new_is_no_request(run, stage):
    async def scene():
        async with stage() as kube:
            await kube.do(Plan(status={"phase": "Starting", "progress": {"done": 1}}))
            kube.api.log.clear()
            await kube.do(Plan(status={"phase": "Starting", "progress": {"done": 1, "total": None}, "reason": None}))
            assert kube.api.log == []

    run(scene())


def test_the_job_that_is_gone_is_forgotten(run, stage):
    async def scene():
        async with stage() as kube:
            kube.api.drop(JOBS.kind, *KEY)
            outcome = await kube.do(Plan(status={"phase": "Starting"}, status_first=True))
            assert len(outcome.failures) == 1
            assert kube.cache.job(KEY) is None

    run(scene())


def test_stages_follow_each_other_and_stop_at_the_first_failure(run, stage, job, child, secret, fault):
    async def scene():
        async with stage() as kube:
            kube.api.faults.append(fault("create", "secrets", 500, nth=1))
            plan = Plan(create=(child("Pod", job(), "p0"), secret))
            outcome = await kube.do(plan)
            assert [str(failure)[:5] for failure in outcome.failures] == ["POST "]
            assert kube.api.names("Pod") == []
            assert (await kube.do(plan)).done == 2
            assert kube.api.names("Pod") == ["p0"]

    run(scene())


def test_what_succeeded_beside_a_failure_is_not_done_again(run, stage, job, child, fault):
    async def scene():
        async with stage() as kube:
            kube.api.faults.append(fault("create", "pods", 429, nth=2, headers={"Retry-After": "3"}))
            outcome = await kube.do(Plan(create=tuple(child("Pod", job(), f"p{number}") for number in range(3))))
            assert outcome.retry_after == 3
            assert isinstance(outcome.failures[0], ThrottledError)
            assert len(kube.cache.children("uid-of-forest")[0]) == 2

    run(scene())


@pytest.mark.parametrize("answer", ["late", "lost"])
def test_a_pod_made_though_its_request_failed_is_taken_as_ours(run, stage, job, child, fault, answer):
    async def scene():
        async with stage() as kube:
            kube.api.faults.append(fault("create", "pods", answer, nth=1))
            plan = Plan(create=(child("Pod", job(), "p0"),))
            assert len((await kube.do(plan)).failures) == 1
            assert (await kube.do(plan)).failures == []
            assert kube.api.names("Pod") == ["p0"]
            assert len(kube.cache.children("uid-of-forest")[0]) == 1

    run(scene())


def test_refusals_become_facts_for_the_next_plan_and_end_with_success(run, stage, job, child, fault):
    async def scene():
        async with stage() as kube:
            quota = {"message": 'pods "p0" is forbidden: exceeded quota: small', "reason": "Forbidden"}
            kube.api.faults.append(fault("create", "pods", 403, nth=1, body=quota))
            kube.api.faults.append(fault("create", "pods", 403, nth=1, body=quota))
            plan = Plan(create=(child("Pod", job(), "p0"),))
            outcome = await kube.do(plan)
            assert (outcome.done, outcome.failures, outcome.conflicts) == (0, [], 0)
            await kube.do(plan)
            (refusal,) = kube.refusals.of(KEY)
            assert (refusal.kind, refusal.name, refusal.code, refusal.is_quota) == ("Pod", "p0", 403, True)
            assert (refusal.count, refusal.since) == (2, NOW)
            assert (await kube.do(plan)).done == 1
            assert kube.refusals.of(KEY) == ()

    run(scene())


def test_a_name_taken_by_a_stranger_is_a_refusal(run, stage, job, child):
    async def scene():
        async with stage() as kube:
            kube.api.put("Service", child("Service", job(), "s", owner="someone else"))
            outcome = await kube.do(Plan(create=(child("Service", job(), "s"),)))
            assert (outcome.done, outcome.failures, outcome.conflicts) == (0, [], 0)
            (refusal,) = kube.refusals.of(KEY)
            assert refusal.code == 409
            assert kube.cache.children("uid-of-forest") == ([], [])

    run(scene())


def test_refusals_of_earlier_attempts_are_dropped(fault):
    refusals = Refusals()
    error = ThrottledError("x", "y", retry_after=1)
    for name in ("forest-aa-1-runner", "forest-aa-2-runner"):
        refusals.add(KEY, "Pod", name, error, NOW)
    refusals.keep_only(KEY, "forest-aa-2")
    assert [refusal.name for refusal in refusals.of(KEY)] == ["forest-aa-2-runner"]
    refusals.forget(KEY)
    assert refusals.of(KEY) == ()


def test_the_secret_holds_its_certificates_and_one_that_is_there_stays(run, stage, secret):
    async def scene():
        async with stage() as kube:
            await kube.do(Plan(create=(secret,)))
            made = kube.api.objects["secrets", "team", "forest-1"]
            assert sorted(made["data"]) == ["ca.pem", "scheduler.pem", "token", "worker.pem"]
            assert b"PRIVATE KEY" in base64.b64decode(made["data"]["worker.pem"])
            assert (await kube.do(Plan(create=(secret,)))).done == 1
            assert kube.api.objects["secrets", "team", "forest-1"] == made
            assert not [entry for entry in kube.api.log if entry[0] == "get"]  # it may not be read

    run(scene())


def test_a_session_s_certificate_is_written_with_the_secret_that_fits_it(run, stage, signing_secret):
    async def scene():
        async with stage() as kube:
            assert (await kube.do(Plan(create=(signing_secret,)))).done == 1
            ((_, _, name),) = (key for key in kube.api.objects if key[0] == "secrets")
            told = kube.cache.job(KEY)["status"]["session"]
            assert told == kube.api.objects[JOBS.plural, *KEY]["status"]["session"]
            data = kube.api.objects["secrets", "team", name]["data"]
            assert base64.b64decode(data["ca.pem"]).decode() == told["certificateAuthority"]
            assert "client.pem" not in data
            assert name == signed_secret_name("forest-1", told["certificateAuthority"])

    run(scene())


def test_of_two_operators_that_sign_at_once_one_is_heard(run, stage, signing_secret):
    async def scene():
        async with stage() as kube:
            old = kube.cache.job(KEY)
            assert (await kube.do(Plan(create=(signing_secret,)))).done == 1
            told = kube.cache.job(KEY)["status"]
            late = await kube.executor.run(KEY, old, Plan(create=(signing_secret,)))
            assert (late.done, late.conflicts) == (0, 1)
            assert kube.cache.job(KEY)["status"] == told == kube.api.objects[JOBS.plural, *KEY]["status"]
            assert len(kube.api.names("Secret")) == 2  # the other one goes with the Service, as this one does

    run(scene())


def test_deletes_go_beside_the_last_status_and_are_known_at_once(run, stage, job, child):
    async def scene():
        async with stage() as kube:
            for number in range(2):
                kube.cache.put(PODS, kube.api.put("Pod", child("Pod", job(), f"p{number}")))
            kube.cache.put(SERVICES, kube.api.put("Service", child("Service", job(), "s")))
            uid = kube.api.objects["services", "team", "s"]["metadata"]["uid"]
            labels = {"dask-training.io/job-uid": "uid-of-forest", "dask-training.io/attempt": "1"}
            plan = Plan(
                status={"phase": "Succeeded"},
                status_first=True,
                delete=(Delete.collection(labels, 2), Delete.one("Service", "s", uid)),
            )
            assert (await kube.do(plan)).done == 3
            assert kube.api.writes()[0][0] == "patch"
            assert (kube.api.names("Pod"), kube.api.names("Service")) == ([], [])
            pods, services = kube.cache.children("uid-of-forest")
            assert all(pod["metadata"]["deletionTimestamp"] for pod in pods)
            assert services == []

    run(scene())


def test_the_job_itself_is_deleted_by_its_uid_alone(run, stage, job):
    async def scene():
        async with stage() as kube:
            await kube.do(Plan(delete=(Delete.one(JOBS.kind, "forest", "an older uid"),)))
            assert kube.api.names(JOBS.kind) == ["forest"]

    run(scene())


@pytest.mark.parametrize(
    ("before", "after", "patch"),
    [
        ({}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1, "b": 2}, {"a": 1}, {"b": None}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"x": 1}}, {"a": {"y": None}}),
        ({"a": {"x": 1}}, {"a": {"x": 1}}, {}),
        ({"a": {}}, {"a": [1]}, {"a": [1]}),
        ({"a": [1, 2]}, {"a": [2]}, {"a": [2]}),
        ({"a": 1}, {"a": None}, {"a": None}),
        ({}, {"a": None}, {}),
    ],
)
def test_merge_patches_hold_only_what_changes(before, after, patch):
    assert merge_patch(before, after) == patch
