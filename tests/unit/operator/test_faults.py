"""Whatever request fails, and wherever the operator is killed: the job comes to the same end, and nothing is left."""

from __future__ import annotations

import base64

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dask_training.api import Label
from dask_training.telemetry import Telemetry

EVICTED = [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drained"}]


def unused(job):
    """A Session's scheduler tells that it has had no client and no task for as long as it has been there."""
    job.telemetry = Telemetry(workers=1, clients=0, no_client_seconds=1e6, idle_seconds=1e6)
    return job


def gone(job):
    job.owner_gone = "Pod notebook is gone"
    return job


# What may befall a job: each is followed by the operator's looking at it until there is nothing to do.
STEPS = {
    "start": lambda job: job.start(),
    "start the scheduler": lambda job: job.start("scheduler"),
    "start the runner": lambda job: job.start("runner"),
    "start workers": lambda job: job.start("worker"),
    "succeed": lambda job: job.succeed() if runs(job, "runner") else job,
    "fail": lambda job: job.fail() if runs(job, "runner") else job,
    "lose the runner": lambda job: job.end(job.pod("runner"), 143, conditions=EVICTED) if runs(job, "runner") else job,
    "delete the runner": lambda job: job.kubectl_delete_pod(job.pod("runner")),
    "lose the scheduler": lambda job: job.end(job.pod("scheduler"), 137, reason="OOMKilled"),
    "delete the scheduler": lambda job: job.kubectl_delete_pod(job.pod("scheduler")),
    "lose a worker": lambda job: job.end(job.pod("worker", 0), 137, reason="OOMKilled"),
    "delete a worker": lambda job: job.kubectl_delete_pod(job.pod("worker", 1)),
    "vanish": lambda job: job.vanish(),
    "suspend": lambda job: job.edit(suspend=True),
    "resume": lambda job: job.edit(suspend=False),
    "scale up": lambda job: job.edit(workers={"replicas": 4}),
    "scale down": lambda job: job.edit(workers={"replicas": 1}),
    "shut down": lambda job: job.end(job.pod("scheduler"), 0),
    "client leaves": unused,
    "owner ends": gone,
    "wait": lambda job: job.pass_time(30),
    "wait for long": lambda job: job.pass_time(700),
}
RULES = {"rules": [{"action": "Ignore", "onReasons": ["RunnerDisrupted"]}]}


def runs(job, role):
    pod = job.pod(role)
    return pod is not None and pod["status"]["phase"] == "Running"


def live(job, role):
    return [pod for pod in job.pods(role) if "deletionTimestamp" not in pod["metadata"]]


def check(job):
    """What must hold at any moment."""
    assert len(live(job, "runner")) <= 1
    assert len(live(job, "scheduler")) <= 1
    assert len({pod["metadata"]["labels"][Label.ATTEMPT] for pod in live(job, None)}) <= 1
    if job.body["spec"].get("session") and job.fault is None:
        assert len([kind for kind, _ in job.objects if kind == "Secret"]) <= 1
    for pod in live(job, None) if job.body["spec"].get("session") else ():
        assert authority_of(job, pod) == job.status["session"]["certificateAuthority"], "its client can't connect"


def authority_of(job, pod):
    """The certificate authority that a pod is shown."""
    (name,) = (each["secret"]["secretName"] for each in pod["spec"]["volumes"] if "secret" in each)
    return base64.b64decode(job.objects["Secret", name]["data"]["ca.pem"]).decode()


def story(job, steps):
    """Plays the steps, then lets the job come to its end."""
    job.reconcile()
    for step in steps:
        STEPS[step](job.pass_time(1))
        check(job.reconcile())
    job.edit(suspend=False)
    for _ in range(40):
        if job.status.get("phase") in ("Succeeded", "Failed"):
            break
        job.reconcile().pass_time(1).start().reconcile().pass_time(20).reconcile()
        STEPS["succeed" if "runner" in job.body["spec"] else "client leaves"](job)
        check(job.reconcile())
        check(job.vanish().reconcile().pass_time(30).reconcile())
    return job


def end(job):
    """What must be the same with and without a fault."""
    status = job.status
    return (
        status.get("phase"),
        status.get("reason"),
        [(each["number"], each["reason"], each.get("ignored")) for each in status.get("attempts", ())],
        status.get("failed"),
        status.get("ignored"),
        [(each["type"], each["status"], each["reason"]) for each in status["conditions"]],
        sorted(job.objects),
    )


def left(job):
    return sorted(key for key in job.objects)


STORIES = {
    "success": ["start", "wait", "succeed"],
    "failure": ["start", "fail"],
    "retried": ["start", "fail", "vanish", "wait", "start", "wait", "succeed"],
    "scheduler lost": ["start", "wait", "lose the scheduler", "wait", "vanish", "wait"],
    "runner evicted": ["start", "lose the runner", "vanish", "wait"],
    "runner deleted": ["start", "wait", "delete the runner", "wait", "vanish"],
    "workers lost": ["start", "wait", "lose a worker", "wait", "delete a worker", "vanish", "start", "wait"],
    "suspended": ["start", "wait", "suspend", "vanish", "wait", "resume", "start", "wait"],
    "suspended before it starts": ["suspend", "vanish", "wait", "resume", "start"],
    "resumed at once": ["start", "wait", "suspend", "resume", "vanish", "start", "wait"],
    "scaled": ["start", "wait", "scale up", "start", "wait", "scale down", "wait", "vanish"],
    "never started": ["wait for long", "vanish", "wait"],
}


SESSIONS = {
    "idle": ["start", "wait", "client leaves", "wait"],
    "owner gone": ["start", "wait", "owner ends", "vanish"],
    "owner gone at once": ["owner ends"],
    "scheduler killed": ["start", "wait", "lose the scheduler", "vanish"],
    "scheduler deleted": ["start", "wait", "delete the scheduler", "vanish"],
    "shut down by its client": ["start", "shut down"],
    "suspended": ["start", "wait", "suspend", "vanish", "wait", "resume", "start", "wait"],
}


@pytest.mark.parametrize("name", SESSIONS)
@pytest.mark.parametrize(("done", "killed"), [(False, False), (True, True)], ids=["refused", "killed after it"])
def test_every_request_of_a_session_may_fail(cluster, session_spec, fault, name, killed, done):
    spec = session_spec(session={"noClientTimeoutSeconds": 20}, workers={"replicas": 1})
    reference = story(cluster(**spec), SESSIONS[name])
    assert reference.status["phase"] in ("Succeeded", "Failed")
    assert left(reference) == []
    for number in range(len(reference.requests)):
        job = story(cluster(**spec, fault=fault(number, done=done, killed=killed)), SESSIONS[name])
        assert end(job) == end(reference), f"request {number}: {reference.requests[number]}"


@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize(("done", "killed"), [(False, False), (True, True)], ids=["refused", "killed after it"])
def test_every_request_may_fail(cluster, fault, name, killed, done):
    spec = {"backoffLimit": 2, "failurePolicy": RULES}
    steps = STORIES[name]
    reference = story(cluster(**spec), steps)
    assert reference.status["phase"] in ("Succeeded", "Failed")
    assert left(reference) == []
    for number in range(len(reference.requests)):
        job = story(cluster(**spec, fault=fault(number, done=done, killed=killed)), steps)
        assert end(job) == end(reference), f"request {number}: {reference.requests[number]}"


faults = st.tuples(st.integers(0, 60), st.booleans(), st.booleans())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=12), at=faults, replicas=st.integers(1, 3))
def test_any_session_ends_and_leaves_nothing(cluster, session_spec, fault, steps, at, replicas):
    number, done, killed = at
    spec = session_spec(workers={"replicas": replicas})
    job = story(cluster(**spec, fault=fault(number, done=done, killed=killed)), steps)
    assert job.status["phase"] in ("Succeeded", "Failed")
    assert left(job) == []
    suspended = [each for each in job.status["attempts"] if each["reason"] == "Suspended"]
    assert len(job.status["attempts"]) - len(suspended) == 1, "a Session that has failed is not begun again"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=12),
    at=faults,
    limit=st.integers(0, 3),
    replicas=st.integers(1, 5),
)
def test_any_story_ends_and_leaves_nothing(cluster, fault, steps, at, limit, replicas):
    number, done, killed = at
    spec = {"backoffLimit": limit, "failurePolicy": RULES, "workers": {"replicas": replicas}}
    job = story(cluster(**spec, fault=fault(number, done=done, killed=killed)), steps)
    assert job.status["phase"] in ("Succeeded", "Failed")
    assert left(job) == []
    before = len(job.requests)
    job.pass_time(60).reconcile()
    assert len(job.requests) == before, "a finished job is left alone"
    job.pass_time(90_000).reconcile()
    assert "deletionTimestamp" in job.body["metadata"], "its time to live is over"
