"""Mode Workers: each worker runs the code once, and its end is known for good."""

from __future__ import annotations

import pytest

from dask_training.api import Label
from dask_training.reconcile import Delete, WriteStatus

QUOTA = 'pods "x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2'
EVICTED = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drained"}


@pytest.fixture
def group(cluster):
    """A job of `workers` workers in mode Workers."""

    def make(workers=2, stopped=(), **spec):
        given = {"replicas": workers, **({"stopped": list(stopped)} if stopped else {})}
        return cluster(mode="Workers", workers=given, **spec)

    return make


def members(job):
    return job.status["workers"]["members"]


def states(job):
    return [member["state"] for member in members(job)]


def torn_down(job):
    return job.reconcile().vanish().pass_time(5).reconcile().vanish().reconcile()


def said(job, code, reason="RunnerFailed", message="ValueError: no, line 3 of spec.runner.script"):
    return job.said(
        reason=reason, message=message, succeeded=code == 0, exitCode=code, scriptExitCode=code, artifacts=None
    )


def fail(job, index, code=3):
    return job.end(job.pod("worker", index), code, said(job, code))


def succeed(job, index):
    return job.end(job.pod("worker", index), 0, said(job, 0, "Completed", "the code ran to its end"))


def made(job, kind):
    return [each for each in job.requests if isinstance(each, dict) and each["kind"] == kind]


def stop(job, *indexes):
    return job.edit(workers={"stopped": list(indexes)})


# The whole course.


def test_two_workers_that_end_well_are_a_success(group):
    job = group().reconcile()
    kinds = [each["kind"] if isinstance(each, dict) else type(each).__name__ for each in job.requests]
    assert kinds == ["WriteStatus", "Service", "NetworkPolicy", "Pod", "Pod", "WriteStatus"]
    assert states(job) == ["scheduling", "scheduling"]
    assert job.status["phase"] == "Starting"
    job.pass_time(1).start().reconcile()
    assert (job.status["phase"], job.status["message"]) == ("Running", "2 running")
    assert job.status["workers"]["summary"] == "2/2"
    assert job.status["progress"]["summary"] == "0/2"
    assert job.holds("ClusterReady")
    succeed(job.pass_time(5), 1).reconcile()
    assert (job.status["phase"], job.status["message"]) == ("Running", "1 running, 1 succeeded")
    assert job.status["workers"]["summary"] == "1/2"
    assert job.status["progress"]["summary"] == "1/2"
    torn_down(succeed(job.pass_time(5), 0))
    assert (job.status["phase"], job.status["reason"]) == ("Succeeded", "Completed")
    assert job.status["message"] == "2 succeeded"
    assert (job.status["workers"]["summary"], job.status["progress"]["summary"]) == ("0/2", "2/2")
    assert job.objects == {}
    assert len(made(job, "Pod")) == 2
    assert [event.reason for event in job.events] == [
        "AttemptStarted",
        "ClusterReady",
        "Completed",
        "ResourcesReleased",
    ]


def test_each_worker_s_course_stays_in_the_status(group):
    job = group(1).reconcile().pass_time(1)
    began = job.stamp(-1)
    pod = job.pod("worker", 0)
    job.waiting(pod, "ContainerCreating")
    job.reconcile()
    assert states(job) == ["starting"]
    job.pass_time(2).start()
    started = job.stamp()
    pod["status"]["podIP"] = "10.244.0.9"
    job.reconcile()
    assert (states(job), members(job)[0]["ip"]) == (["running"], "10.244.0.9")
    fail(job.pass_time(10), 0)
    ended = job.stamp()
    torn_down(job.pass_time(1))
    assert members(job) == [
        {
            "index": 0,
            "id": pod["metadata"]["name"],
            "state": "failed",
            "createdAt": began,
            "runningAt": started,
            "finishedAt": ended,
            "ip": "10.244.0.9",
            "exitCode": 3,
            "message": "ValueError: no, line 3 of spec.runner.script",
        }
    ]


def test_a_failed_worker_lets_the_others_go_on_and_fails_the_job_in_the_end(group):
    job = fail(group(3).running(), 1).pass_time(1).reconcile()
    assert (job.status["phase"], states(job)) == ("Running", ["running", "failed", "running"])
    assert "WorkerFailed" in [event.reason for event in job.events]
    torn_down(succeed(succeed(job, 0), 2))
    assert (job.status["phase"], job.status["reason"]) == ("Failed", "WorkersFailed")
    assert job.status["message"] == (
        "1 of 3 workers failed.\nworker 1 failed (exit code 3): ValueError: no, line 3 of spec.runner.script"
    )
    assert job.objects == {}
    assert job.status["attempt"] == 1


def test_a_worker_that_nobody_saw_running_is_a_success_all_the_same(group):
    job = group(1).reconcile().pass_time(1)
    job.start()
    succeed(job.pass_time(1), 0)
    torn_down(job)
    assert (job.status["phase"], states(job)) == ("Succeeded", ["succeeded"])
    assert members(job)[0]["runningAt"]


def test_many_changes_are_written_once_a_second(group):
    job = group(40).running()
    count = len(job.statuses)
    for index in range(15):
        succeed(job.pass_time(0.1), index).reconcile()
    assert len(job.statuses) - count <= 2
    assert 0 < job.check_after <= 1


def test_more_failures_than_fit_into_a_message_are_counted(group):
    job = group(9).running()
    for index in range(9):
        fail(job, index)
    torn_down(job)
    lines = job.status["message"].splitlines()
    assert lines[0] == "9 of 9 workers failed."
    assert lines[-1] == "and 4 more: status.workers.members says how each ended"


def test_a_worker_s_last_lines_can_be_read_for_some_seconds(group):
    job = succeed(succeed(group().running(), 0), 1).reconcile()
    assert (job.status["phase"], job.status["reason"]) == ("Finalizing", "Completed")
    assert len(job.pods()) == 2
    assert not any(isinstance(each, Delete) for each in job.requests)
    assert 4 < job.check_after <= 5
    torn_down(job)
    assert job.status["phase"] == "Succeeded"


# Never twice.


def test_a_worker_whose_pod_is_deleted_has_failed_and_is_never_made_again(group):
    job = group().running()
    job.kubectl_delete_pod(job.pod("worker", 0)).reconcile()
    assert states(job) == ["running", "running"], "it may still end well"
    job.vanish().pass_time(1).reconcile()
    assert states(job) == ["failed", "running"]
    assert members(job)[0]["message"] == "the pod was deleted"
    torn_down(succeed(job.pass_time(1), 1))
    assert job.status["reason"] == "WorkersFailed"
    assert len(made(job, "Pod")) == 2


def test_a_missing_pod_is_looked_for_before_it_counts(group):
    job = group().running()
    job.objects = {key: each for key, each in job.objects.items() if not key[1].endswith("worker-0")}
    todo = job.plan(confirmed=False)
    assert todo.confirm
    assert todo.status is None
    todo = job.pass_time(1).plan(confirmed=True)
    assert todo.status["workers"]["members"][0]["state"] == "failed"


def test_a_pod_that_was_made_is_told_of_before_anything_else(group):
    """Once it has been seen it is never made again, even if the operator ends here and the pod, too."""
    job = group(3)
    job.refuse = lambda each: (500, "no") if each["metadata"]["name"].endswith("worker-2") else None
    job.execute(job.plan())
    job.execute(job.plan())
    todo = job.plan()
    assert todo.status_first
    assert [bool(each.get("createdAt")) for each in todo.status["workers"]["members"]] == [True, True, False]


@pytest.mark.parametrize(
    ("code", "reason", "conditions", "message"),
    [
        (137, "OOMKilled", (), "it was killed when it went over its memory limit of 64Mi"),
        (137, "Error", (EVICTED,), "EvictionByEvictionAPI: drained"),
        (1, "Error", (), "it ended with exit code 1. Its last lines:\n  Segmentation fault"),
        (128, "StartError", (), "lacks what a job's pods run"),
    ],
)
def test_a_worker_that_could_not_say_why_it_ended(cluster, code, reason, conditions, message):
    workers = {"replicas": 1, "resources": {"limits": {"memory": "64Mi"}}}
    job = cluster(mode="Workers", workers=workers).running()
    torn_down(job.end(job.pod("worker", 0), code, "Segmentation fault", reason, conditions))
    assert message in members(job)[0]["message"]
    assert message.splitlines()[0] in job.status["message"]


def test_a_worker_that_its_node_refused_has_failed(group):
    job = group().running()
    pod = job.pod("worker", 0)
    pod["status"] = {
        "phase": "Failed",
        "reason": "OutOfcpu",
        "message": "Node didn't have enough",
        "startTime": job.stamp(),
    }
    job.pass_time(1).reconcile()
    assert members(job)[0]["message"] == "OutOfcpu: Node didn't have enough"
    assert len(made(job, "Pod")) == 2


def test_a_worker_on_a_dead_node_does_not_hold_the_job(group):
    job = group(1).running()
    job.kubectl_delete_pod(job.pod("worker", 0)).pass_time(9 + 60).reconcile()
    assert states(job) == ["running"]
    job.pass_time(2).reconcile()
    assert (states(job), job.status["reason"]) == (["failed"], "WorkersFailed")
    job.pass_time(130).reconcile()
    assert job.status["phase"] == "Failed"
    assert job.objects == {}


# Stopping.


def test_a_stopped_worker_gets_ten_seconds_and_the_others_go_on(group):
    job = stop(group().running().pass_time(2), 0).reconcile()
    (delete,) = [each for each in job.requests if isinstance(each, Delete)]
    assert (delete.name[-8:], delete.grace) == ("worker-0", 10)
    assert states(job) == ["stopped", "running"]
    job.end(job.pods("worker")[0], 143).vanish().pass_time(1).reconcile()
    assert states(job) == ["stopped", "running"]
    assert job.status["phase"] == "Running"
    torn_down(succeed(job, 1))
    assert (job.status["phase"], job.status["message"]) == ("Succeeded", "1 succeeded, 1 stopped")
    assert len(made(job, "Pod")) == 2


def test_a_job_whose_workers_are_all_stopped_has_succeeded(group):
    job = torn_down(stop(group().running().pass_time(2), 0, 1))
    assert (job.status["phase"], states(job)) == ("Succeeded", ["stopped", "stopped"])
    assert job.objects == {}


def test_the_last_worker_that_is_stopped_has_its_ten_seconds_too(group):
    job = stop(group(1).running().pass_time(2), 0).reconcile()
    assert job.status["phase"] == "Finalizing"
    job.pass_time(8).reconcile()
    assert job.pods("worker")[0]["metadata"]["deletionGracePeriodSeconds"] == 10
    job.vanish().reconcile()
    assert job.status["phase"] == "Succeeded"


def test_a_worker_that_is_stopped_before_it_starts_is_never_made(group):
    job = group(2, stopped=[1]).running()
    assert [pod["metadata"]["labels"][Label.INDEX] for pod in job.pods()] == ["0"]
    assert states(job) == ["running", "stopped"]


def test_a_worker_that_had_ended_is_not_stopped(group):
    job = succeed(group().running().pass_time(2), 0)
    stop(job, 0).reconcile()
    assert states(job) == ["succeeded", "running"]


# What does not start.


def test_a_quota_s_refusal_of_one_worker_ends_the_whole_group(group):
    job = group(3)
    job.refuse = lambda each: (403, QUOTA) if each["metadata"]["name"].endswith("worker-2") else None
    torn_down(job)
    assert (job.status["phase"], job.status["reason"]) == ("Failed", "QuotaExceeded")
    assert QUOTA in job.status["message"]
    assert states(job) == ["failed"] * 3
    assert job.objects == {}
    assert len(made(job, "Pod")) == 3, "tried once"


def test_a_quota_that_is_not_counted_for_yet_is_waited_for(group):
    job = group()
    job.refuse = lambda _: (403, 'pods "x" is forbidden: status unknown for quota: small, resources: pods')
    job.reconcile().pass_time(1).reconcile()
    assert job.status["reason"] == "QuotaExceeded"
    assert job.status["phase"] in ("Pending", "Starting")
    job.refuse = lambda _: None
    assert job.pass_time(60).running().status["phase"] == "Running"


def test_an_image_that_is_not_there_ends_the_job_when_none_has_started(group):
    job = group().reconcile().pass_time(1)
    for pod in job.pods():
        job.waiting(pod, "ImagePullBackOff", "manifest unknown")
    job.reconcile()
    assert (job.status["phase"], job.status["reason"]) == ("Starting", "ImagePullFailed")
    torn_down(job.pass_time(61))
    assert (job.status["phase"], job.status["reason"]) == ("Failed", "ImagePullFailed")
    assert states(job) == ["failed", "failed"]


def test_a_worker_that_can_not_start_beside_others_fails_alone(group):
    job = group().reconcile().pass_time(1)
    job.waiting(job.pod("worker", 1), "ImagePullBackOff", "manifest unknown")
    job.set_state(job.pod("worker", 0), "Running", {"running": {"startedAt": job.stamp()}})
    job.reconcile().pass_time(62).reconcile()
    assert states(job) == ["running", "failed"]
    assert "manifest unknown" in members(job)[1]["message"]
    (delete,) = [each for each in job.requests if isinstance(each, Delete)]
    assert (delete.name[-8:], delete.grace) == ("worker-1", 2)
    torn_down(succeed(job.pass_time(1).vanish(), 0))
    assert job.status["reason"] == "WorkersFailed"


def test_workers_that_no_node_takes_time_out(group):
    job = group(2, startupDeadlineSeconds=60).reconcile()
    full = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}
    for pod in job.pods():
        pod["status"]["conditions"] = [full]
    job.pass_time(1).reconcile()
    assert job.status["reason"] == "Unschedulable"
    job.set_state(job.pod("worker", 0), "Running", {"running": {"startedAt": job.stamp()}})
    job.reconcile().pass_time(60).reconcile()
    assert states(job) == ["running", "timedout"]
    assert "0/1 nodes are available" in members(job)[1]["message"]
    torn_down(succeed(job.vanish().pass_time(1), 0))
    assert job.status["reason"] == "WorkersFailed"
    assert "worker 1 timed out: " in job.status["message"]


def test_a_group_that_never_starts_fails_by_the_deadline(group):
    job = torn_down(group(2, startupDeadlineSeconds=60).reconcile().pass_time(61))
    assert job.status["reason"] == "StartupDeadlineExceeded"
    assert states(job) == ["timedout", "timedout"]


def test_workers_that_go_on_past_the_deadline_time_out(group):
    job = group(2, activeDeadlineSeconds=100).running()
    succeed(job.pass_time(1), 0).reconcile()
    torn_down(job.pass_time(100))
    assert (job.status["phase"], job.status["reason"]) == ("Failed", "DeadlineExceeded")
    assert states(job) == ["succeeded", "timedout"]
    assert job.objects == {}


def test_somebody_elses_service_is_not_taken(group):
    job = group()
    job.execute(job.plan())
    service = next(each for (kind, _), each in job.objects.items() if kind == "Service")
    service["metadata"]["ownerReferences"][0]["uid"] = "another"
    job.reconcile()
    assert (job.status["phase"], job.status["reason"]) == ("Failed", "NameCollision")
    assert made(job, "Pod") == []


def test_a_group_ends_with_the_pod_that_it_belongs_to(group):
    job = succeed(group().running().pass_time(1), 0)
    job.reconcile().owner_gone = "Pod notebook is gone"
    job.pass_time(1).reconcile()
    assert {pod["metadata"]["deletionGracePeriodSeconds"] for pod in job.pods()} == {2}, "at once"
    torn_down(job)
    assert (job.status["phase"], job.status["reason"]) == ("Succeeded", "OwnerGone")
    assert states(job) == ["succeeded", "stopped"]


def test_a_group_ends_without_a_heartbeat(group):
    job = group(session={"heartbeatTimeoutSeconds": 30}).running()
    assert job.check_after <= 29
    entry = {"manager": "dask-training-heartbeat", "operation": "Update", "time": job.stamp(10)}
    job.body["metadata"]["managedFields"] = [entry]
    job.pass_time(35).reconcile()
    assert job.status["phase"] == "Running"
    job.pass_time(10)
    assert job.plan(confirmed=False).confirm, "a watch that lags behind may not have told of one"
    torn_down(job)
    assert (job.status["phase"], job.status["reason"]) == ("Succeeded", "IdleTimeout")
    assert states(job) == ["stopped", "stopped"]


# Suspending, and afterwards.


def test_a_suspended_group_is_stopped_and_starts_anew(group):
    job = group().running().pass_time(2).edit(suspend=True).reconcile()
    assert states(job) == ["stopped", "stopped"]
    job.vanish().reconcile()
    assert (job.status["phase"], job.objects) == ("Suspended", {})
    job.edit(suspend=False).pass_time(1).reconcile()
    assert (job.status["attempt"], states(job)) == (2, ["scheduling", "scheduling"])
    torn_down(succeed(succeed(job.pass_time(1).start().reconcile(), 0), 1))
    assert job.status["phase"] == "Succeeded"


def test_a_finished_group_is_deleted_when_its_time_is_over(group):
    job = group(ttlSecondsAfterFinished=30).running()
    torn_down(succeed(succeed(job, 0), 1)).pass_time(31).reconcile()
    assert job.requests[-1] == Delete.one("DaskTrainingJob", "job", job.body["metadata"]["uid"])


def test_nothing_is_left_to_do_twice(group):
    job = group().running()
    for step in (lambda: job, lambda: succeed(succeed(job, 0), 1).reconcile(), lambda: job.vanish().reconcile()):
        step()
        assert job.plan().is_empty
    assert not any(isinstance(each, WriteStatus) and each.status.get("artifacts") for each in job.requests)
