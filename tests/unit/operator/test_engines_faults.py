"""Mode Workers, whatever request fails and wherever the operator is killed: the same end, and no code run twice."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

QUOTA = 'pods "x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2'


def runs(job, index):
    pod = job.pod("worker", index)
    return pod is not None and pod["status"]["phase"] == "Running"


def end(job, index, code):
    if not runs(job, index):
        return job
    reason = "RunnerFailed" if code else "Completed"
    text = job.said(reason=reason, succeeded=code == 0, exitCode=code, scriptExitCode=code, artifacts=None)
    return job.end(job.pod("worker", index), code, text)


def stop(job, index):
    """As a client does it: numbers are only ever added."""
    stopped = job.body["spec"]["workers"].get("stopped", [])
    return job if index in stopped else job.edit(workers={"stopped": [*stopped, index]})


def refuse(job):
    job.refuse = lambda each: (403, QUOTA) if each["metadata"]["name"].endswith("worker-1") else None
    return job


# What may befall a job: each is followed by the operator's looking at it until there is nothing to do.
STEPS = {
    "start": lambda job: job.start(),
    "worker 0 ends well": lambda job: end(job, 0, 0),
    "worker 1 ends well": lambda job: end(job, 1, 0),
    "worker 0 fails": lambda job: end(job, 0, 3),
    "worker 1 is killed": lambda job: end(job, 1, 137),
    "worker 0 is deleted": lambda job: job.kubectl_delete_pod(job.pod("worker", 0)),
    "stop worker 0": lambda job: stop(job, 0),
    "stop worker 1": lambda job: stop(job, 1),
    "vanish": lambda job: job.vanish(),
    "suspend": lambda job: job.edit(suspend=True),
    "resume": lambda job: job.edit(suspend=False),
    "wait": lambda job: job.pass_time(30),
    "wait for long": lambda job: job.pass_time(700),
}
OVER = ("succeeded", "failed", "stopped", "timedout")


class Watch:
    """Holds what must be true at any moment against what was seen before."""

    def __init__(self):
        self.uids = {}
        self.over = {}

    def check(self, job):
        for pod in job.pods():
            known = self.uids.setdefault(pod["metadata"]["name"], pod["metadata"]["uid"])
            assert known == pod["metadata"]["uid"], "its code may have run, and it was made again"
        for member in job.status.get("workers", {}).get("members", ()):
            if member["state"] in OVER:
                known = self.over.setdefault(member["id"], member)
                assert known == member, "it was over, and has changed"


def story(job, steps):
    """Plays the steps, then lets the job come to its end."""
    watch = Watch()
    watch.check(job.reconcile())
    for step in steps:
        STEPS[step](job.pass_time(1))
        watch.check(job.reconcile())
    job.edit(suspend=False)
    for _ in range(20):
        if job.status.get("phase") in ("Succeeded", "Failed"):
            break
        watch.check(job.reconcile().pass_time(1).start().reconcile().pass_time(20).reconcile())
        for index in range(job.body["spec"]["workers"]["replicas"]):
            end(job, index, 0)
        watch.check(job.pass_time(1).reconcile())
        watch.check(job.vanish().reconcile().pass_time(30).reconcile())
    return job


def outcome(job):
    """What must be the same with and without a fault."""
    status = job.status
    return (
        status.get("phase"),
        status.get("reason"),
        [(each["number"], each["reason"]) for each in status.get("attempts", ())],
        [(each["index"], each["state"], each.get("exitCode")) for each in status["workers"]["members"]],
        [(each["type"], each["status"], each["reason"]) for each in status["conditions"]],
        sorted(job.objects),
    )


STORIES = {
    "success": ["start", "wait", "worker 0 ends well", "worker 1 ends well"],
    "failure": ["start", "worker 0 fails", "wait", "worker 1 ends well"],
    "killed": ["start", "worker 1 is killed", "wait"],
    "deleted": ["start", "wait", "worker 0 is deleted", "vanish", "wait"],
    "stopped": ["start", "wait", "stop worker 1", "vanish", "wait"],
    "stopped at once": ["stop worker 0", "start", "wait"],
    "stopped too late": ["start", "worker 0 ends well", "stop worker 0", "wait"],
    "suspended": ["start", "wait", "suspend", "vanish", "wait", "resume", "start", "wait"],
    "never started": ["wait for long", "vanish", "wait"],
}


@pytest.mark.parametrize("name", [*STORIES, "refused by a quota"])
@pytest.mark.parametrize(("done", "killed"), [(False, False), (True, True)], ids=["refused", "killed after it"])
def test_every_request_may_fail(cluster, fault, name, killed, done):
    spec = {"mode": "Workers", "workers": {"replicas": 2}}
    prepare, steps = (refuse, ["start", "wait"]) if name not in STORIES else (lambda job: job, STORIES[name])
    reference = story(prepare(cluster(**spec)), steps)
    assert reference.status["phase"] in ("Succeeded", "Failed")
    assert reference.objects == {}
    for number in range(len(reference.requests)):
        job = story(prepare(cluster(**spec, fault=fault(number, done=done, killed=killed))), steps)
        assert outcome(job) == outcome(reference), f"request {number}: {reference.requests[number]}"


faults = st.tuples(st.integers(0, 40), st.booleans(), st.booleans())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=12), at=faults, replicas=st.integers(2, 5))
def test_any_story_ends_runs_no_code_twice_and_leaves_nothing(cluster, fault, steps, at, replicas):
    number, done, killed = at
    spec = {"mode": "Workers", "workers": {"replicas": replicas}}
    job = story(cluster(**spec, fault=fault(number, done=done, killed=killed)), steps)
    assert job.status["phase"] in ("Succeeded", "Failed")
    assert job.objects == {}
    assert {each["state"] for each in job.status["workers"]["members"]} <= set(OVER)
    before = len(job.requests)
    job.pass_time(60).reconcile()
    assert len(job.requests) == before, "a finished job is left alone"
    job.pass_time(90_000).reconcile()
    assert "deletionTimestamp" in job.body["metadata"], "its time to live is over"
