"""States of pods, and the reason and message that a reader finds for them."""

from __future__ import annotations

import json

import pytest

EVICTED = [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "node drained"}]
PREEMPTED = [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "by x"}]
NO_PACKAGE = (
    "/usr/bin/python: Error while finding module specification\nModuleNotFoundError: No module named 'dask_training'"
)


def torn_down(job):
    return job.reconcile().vanish().reconcile()


def said(reason, *, code=1, message="m", **more):
    return json.dumps({"reason": reason, "message": message, "succeeded": False, "exitCode": code, **more})


# How the runner ended: exit code, termination message, the kubelet's reason, conditions -> reason, words of message.
RUNNER_ENDS = {
    "raised": (1, said("RunnerFailed", message="KeyError: 'x', line 2"), "Error", [], "RunnerFailed", ["line 2"]),
    "killed": (139, said("RunnerKilled", code=139), "Error", [], "RunnerKilled", ["m"]),
    "child out of memory": (137, said("RunnerOOMKilled", code=137), "Error", [], "RunnerOOMKilled", ["m"]),
    "out of memory": (137, "", "OOMKilled", [], "RunnerOOMKilled", ["512Mi", "spec.runner.resources.limits.memory"]),
    "packages": (
        78,
        said("PackagesFailed", code=78, message="ERROR: No match"),
        "Error",
        [],
        "PackagesFailed",
        ["No match"],
    ),
    "store": (74, said("ArtifactStoreFailed", code=74), "Error", [], "ArtifactStoreFailed", ["m"]),
    "deadline": (124, said("DeadlineExceeded", code=124), "Error", [], "DeadlineExceeded", ["m"]),
    "workers": (69, said("WorkersUnavailable", code=69), "Error", [], "WorkersUnavailable", ["m"]),
    "evicted, stored": (143, said("Interrupted", code=143), "Error", EVICTED, "RunnerDisrupted", ["node drained"]),
    "evicted, silent": (137, "", "Error", EVICTED, "RunnerDisrupted", ["node drained", "backoffLimit"]),
    "preempted": (137, "", "Error", PREEMPTED, "RunnerDisrupted", ["PreemptionByScheduler"]),
    "told to stop": (143, said("Interrupted", code=143), "Error", [], "RunnerDisrupted", ["SIGTERM"]),
    "killed from outside": (137, "", "Error", [], "RunnerKilled", ["SIGKILL"]),
    "no dask_training": (1, NO_PACKAGE, "Error", [], "ConfigError", ["dask-training[runtime]", "own:1"]),
    "dask_training without its extra": (
        1,
        "Traceback\nModuleNotFoundError: No module named 'distributed'",
        "Error",
        [],
        "ConfigError",
        ["No module named distributed", "dask-training[runtime]"],
    ),
    "no python": (
        128,
        'exec: "python": executable file not found in $PATH',
        "StartError",
        [],
        "ConfigError",
        ["executable file not found", "dask-training[runtime]"],
    ),
    "silent success": (0, "", "Completed", [], "InternalError", ["exit code 0", "without saying why"]),
    "silent failure": (1, "Traceback\nOSError: x", "Error", [], "InternalError", ["exit code 1", "OSError: x"]),
    "success that is none": (0, said("RunnerFailed"), "Completed", [], "InternalError", ["RunnerFailed"]),
    "failure that claims success": (1, said("Completed", succeeded=True), "Error", [], "InternalError", ["Completed"]),
    "a reason of its own": (1, said("GiveMeMoney"), "Error", [], "InternalError", ["GiveMeMoney"]),
    "a reason that is not a runner's": (1, said("QuotaExceeded"), "Error", [], "InternalError", ["QuotaExceeded"]),
    "evil words": (1, said("RunnerFailed", message="a\x1b[2Jb\u202e" * 400), "Error", [], "RunnerFailed", ["a[2Jb"]),
}


@pytest.mark.parametrize("name", RUNNER_ENDS)
def test_the_runners_end_decides(cluster, name):
    code, message, reason, conditions, expected, words = RUNNER_ENDS[name]
    job = cluster(image="own:1", runner={"module": "m", "resources": {"limits": {"memory": "512Mi"}}}).running()
    torn_down(job.end(job.pod("runner"), code, message, reason, conditions))
    assert (job.status["phase"], job.status["reason"]) == ("Failed", expected)
    assert [word for word in words if word not in job.status["message"]] == []
    assert "\x1b" not in json.dumps(job.status, ensure_ascii=False)
    assert "\u202e" not in json.dumps(job.status, ensure_ascii=False)
    assert len(job.status["message"]) <= 1000


# How the scheduler ended while the runner did not run any more.
SCHEDULER_ENDS = {
    "crashed": (1, "Traceback\nOSError: address in use", "Error", [], "SchedulerFailed", ["address in use"]),
    "out of memory": (137, "", "OOMKilled", [], "SchedulerOOMKilled", ["spec.scheduler.resources"]),
    "evicted": (137, "", "Error", EVICTED, "SchedulerDisrupted", ["node drained"]),
    "packages": (78, said("PackagesFailed", code=78, message="ERROR: no x"), "Error", [], "PackagesFailed", ["no x"]),
    "no dask_training": (1, NO_PACKAGE, "Error", [], "ConfigError", ["dask-training[runtime]"]),
}


@pytest.mark.parametrize("name", SCHEDULER_ENDS)
@pytest.mark.parametrize("runner_tells", [True, False])
def test_the_schedulers_end_decides(cluster, name, runner_tells):
    code, message, reason, conditions, expected, words = SCHEDULER_ENDS[name]
    job = cluster().running()
    job.end(job.pod("scheduler"), code, message, reason, conditions).reconcile()
    assert job.status["phase"] == "Running"
    if runner_tells:
        job.end(job.pod("runner"), 69, said("SchedulerFailed", code=69))
    else:
        job.pass_time(21)
    torn_down(job)
    assert (job.status["phase"], job.status["reason"]) == ("Failed", expected)
    assert [word for word in words if word not in job.status["message"]] == []


def test_a_scheduler_that_nobody_took_away_has_failed_as_the_runner_says(cluster):
    job = cluster().running()
    torn_down(job.end(job.pod("runner"), 69, said("SchedulerFailed", code=69, message="no answer for 30 s")))
    assert (job.status["reason"], job.status["message"]) == ("SchedulerFailed", "no answer for 30 s")


def test_a_scheduler_that_was_deleted_was_disrupted(cluster):
    job = cluster().running()
    job.kubectl_delete_pod(job.pod("scheduler")).reconcile().vanish().reconcile()
    assert job.condition("ClusterReady")["reason"] == "SchedulerLost"
    assert job.pod("scheduler") is None, "it would know nothing of the computation"
    torn_down(job.end(job.pod("runner"), 69, said("SchedulerFailed", code=69)))
    assert job.status["reason"] == "SchedulerDisrupted"


# What keeps pods from starting: container state -> reason, words, seconds until it is given up (None: not by itself).
WAITING = {
    "invalid image": (
        "InvalidImageName",
        "couldn't parse image name",
        "ImagePullFailed",
        ["own:1", "no valid name"],
        0,
    ),
    "no such image": (
        "ErrImagePull",
        'failed to resolve reference "own:1": own:1: not found',
        "ImagePullFailed",
        ["own:1", "not found", "spec.image"],
        60,
    ),
    "back-off": (
        "ImagePullBackOff",
        'Back-off pulling image "own:1": ErrImagePull: failed: 401 Unauthorized',
        "ImagePullFailed",
        ["failed: 401 Unauthorized", "imagePullSecrets"],
        60,
    ),
    "no such registry": (
        "ErrImagePull",
        "dial tcp: lookup registry.invalid: no such host",
        "ImagePullFailed",
        ["no such host"],
        60,
    ),
    "registry down": ("ErrImagePull", "dial tcp: i/o timeout", "ImagePullFailed", ["i/o timeout"], 300),
    "never pulled": ("ErrImageNeverPull", "not present", "ImagePullFailed", ["imagePullPolicy is Never"], 60),
    "no Secret": (
        "CreateContainerConfigError",
        'secret "s3" not found',
        "ConfigError",
        ["Secret 's3'", "not there"],
        60,
    ),
    "no ConfigMap": ("CreateContainerConfigError", 'configmap "c" not found', "ConfigError", ["ConfigMap 'c'"], 60),
    "no key": (
        "CreateContainerConfigError",
        "couldn't find key k in Secret ml/s",
        "ConfigError",
        ["key 'k' of Secret 's'"],
        60,
    ),
    "other": ("CreateContainerError", "context deadline exceeded", "ConfigError", ["context deadline exceeded"], 60),
}


@pytest.mark.parametrize("name", WAITING)
def test_what_keeps_a_pod_from_starting_is_told_at_once_and_given_up_in_time(cluster, name):
    reason, message, expected, words, seconds = WAITING[name]
    job = cluster(image="own:1", startupDeadlineSeconds=3600).reconcile()
    pod = job.pod("runner")
    pod["spec"]["containers"][0]["image"] = "own:1"
    job.waiting(pod, reason, message)
    job.pass_time(0.5).reconcile()
    assert job.status["reason"] == expected
    assert [word for word in words if word not in job.status["message"]] == []
    if seconds:
        assert job.status["phase"] == "Starting"
        assert job.pass_time(seconds - 2).reconcile().status["phase"] == "Starting"
        assert job.check_after <= 2
        job.pass_time(2)
    torn_down(job)
    assert (job.status["phase"], job.status["reason"]) == ("Failed", expected)
    assert [word for word in words if word not in job.status["message"]] == []


def test_a_missing_secret_that_is_made_in_time_is_no_failure(cluster):
    job = cluster().reconcile()
    job.waiting(job.pod("runner"), "CreateContainerConfigError", 'secret "s" not found')
    job.pass_time(30).reconcile().start().reconcile()
    assert (job.status["phase"], job.status["reason"]) == ("Running", "Running")


def test_a_volume_that_can_not_be_mounted_is_told_of_from_its_events(cluster):
    job = cluster().reconcile()
    pod = job.pod("runner")
    job.waiting(pod, "ContainerCreating")
    job.pass_time(6)
    assert job.plan().events_of == (pod["metadata"]["name"],)
    message = 'MountVolume.SetUp failed for volume "code" : configmap "my-code" not found'
    job.pod_events = [
        {"reason": "FailedMount", "involvedObject": {"name": pod["metadata"]["name"]}, "message": message}
    ]
    job.reconcile()
    assert job.status["reason"] == "ConfigError"
    assert "ConfigMap 'my-code'" in job.status["message"]
    torn_down(job.pass_time(60))
    assert (job.status["phase"], job.status["reason"]) == ("Failed", "ConfigError")


@pytest.mark.parametrize("seconds", [60, 600])
def test_a_runner_that_can_not_start_is_no_less_in_the_way_when_the_workers_have(cluster, seconds):
    job = cluster(startupDeadlineSeconds=300).reconcile().start("scheduler", "worker").pass_time(3).reconcile()
    assert job.condition("ClusterReady")["status"] == "True"
    if seconds == 60:
        job.waiting(job.pod("runner"), "CreateContainerConfigError", 'secret "s" not found')
    torn_down(job.pass_time(seconds))
    expected = "ConfigError" if seconds == 60 else "StartupDeadlineExceeded"
    assert (job.status["phase"], job.status["reason"]) == ("Failed", expected)


def test_a_worker_too_many_that_can_not_start_fails_nothing(cluster):
    job = cluster().reconcile()
    job.waiting(job.pod("worker", 1), "CreateContainerConfigError", 'secret "s" not found')
    job.set_state(job.pod("worker", 0), "Running", {"running": {"startedAt": job.stamp()}})
    job.start("scheduler").pass_time(3).reconcile()
    assert job.condition("ClusterReady")["status"] == "True"
    assert job.pass_time(120).reconcile().status["phase"] == "Starting"


def test_a_pod_that_no_node_takes_waits_for_the_startup_deadline(cluster):
    job = cluster(startupDeadlineSeconds=600).reconcile()
    words = "0/1 nodes are available: 1 Insufficient cpu."
    for pod in job.pods():
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
        pod["status"] = {"phase": "Pending", "conditions": [condition]}
    job.pass_time(1).reconcile()
    assert job.status["reason"] == "Unschedulable"
    assert words in job.status["message"]
    assert job.pass_time(500).reconcile().status["phase"] == "Starting"
    torn_down(job.pass_time(100))
    assert (job.status["phase"], job.status["reason"]) == ("Failed", "Unschedulable")
    assert words in job.status["message"]


def test_what_keeps_workers_away_is_known_better_than_the_runner_can(cluster):
    job = cluster().reconcile().pass_time(1).start("scheduler", "runner")
    for pod in job.pods("worker"):
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}
        pod["status"] = {"phase": "Pending", "conditions": [condition]}
    job.reconcile().pass_time(600)
    torn_down(job.end(job.pod("runner"), 124, said("StartupDeadlineExceeded", code=124)))
    assert job.status["reason"] == "Unschedulable"
    assert "no room" in job.status["message"]


def test_packages_that_workers_can_not_install_end_the_attempt(cluster):
    job = cluster(workers={"replicas": 1}).reconcile().pass_time(1).start()
    ended = {"exitCode": 78, "reason": "Error", "message": said("PackagesFailed", code=78, message="ERROR: no y")}
    state = {"waiting": {"reason": "CrashLoopBackOff"}}
    job.set_state(job.pod("worker", 0), "Running", state, lastState={"terminated": ended}, restartCount=2)
    torn_down(job)
    assert (job.status["reason"], job.status["message"]) == ("PackagesFailed", "ERROR: no y")


@pytest.mark.parametrize(("reason", "message"), [("OOMKilled", ""), ("Error", said("WorkerOOMKilled", code=137))])
def test_workers_that_ran_out_of_memory_are_why_there_are_none(cluster, reason, message):
    job = cluster(workers={"replicas": 1, "resources": {"limits": {"memory": "300Mi"}}}).running()
    ended = {"exitCode": 137, "reason": reason, "message": message}
    state = {"waiting": {"reason": "CrashLoopBackOff"}}
    job.set_state(job.pod("worker", 0), "Running", state, lastState={"terminated": ended}, restartCount=2)
    torn_down(job.end(job.pod("runner"), 69, said("WorkersUnavailable", code=69)))
    assert job.status["reason"] == "WorkerOOMKilled"
    assert "300Mi (spec.workers.resources.limits.memory)" in job.status["message"]


def test_what_a_runner_stored_on_its_way_out_is_kept_in_status(cluster):
    job = cluster(activeDeadlineSeconds=60).running().pass_time(181).reconcile()
    assert job.status["reason"] == "DeadlineExceeded"
    assert "artifacts" not in job.status
    runner = next(pod for pod in job.pods("runner"))
    job.end(runner, 143, job.said(reason="Interrupted", succeeded=False, exitCode=143))
    torn_down(job)
    assert job.status["artifacts"]["files"] == 4
    assert job.holds("ArtifactsStored")
    assert job.status["reason"] == "DeadlineExceeded"
