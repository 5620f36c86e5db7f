"""Pods that can't start: which image, Secret, ConfigMap, quota or node is missing, and what happens when it comes."""

import pytest
from machine import slowdown

NOWHERE = {"example.org/disk": "none-has-it"}


def failed(jobs, body, reason) -> str:
    status = body["status"]
    assert (status["phase"], status["reason"]) == ("Failed", reason), jobs.described(body)
    assert {event["type"] for event in jobs.told(body["metadata"]["name"], reason)} == {"Warning"}
    return status["message"]


def seconds(body) -> float:
    return body["status"]["timings"]["total"]


def says(jobs, name, *texts, timeout=30) -> dict:
    """The job, as soon as its message has all texts, while it still waits."""
    body = jobs.until(name, lambda body: all(text in body["status"].get("message", "") for text in texts), timeout)
    assert body["status"]["phase"] in ("Pending", "Starting"), jobs.described(body)
    return body


def refers(kind):
    """A variable from a key of an object that is not there."""
    return [{"name": "TOKEN", "valueFrom": {kind: {"name": "not-there", "key": "token"}}}]


def test_what_pods_lack_to_start_is_named_and_given_up_in_a_minute(jobs, operator):
    images = {
        "no-such-registry": "registry.example.invalid/team/runtime:1.0",
        "no-such-name": "Registry/Of:Nothing:",
        "never-pulled": "dask-training-runtime:not-loaded",
        "without-python": operator.image("store"),
        "without-dask": operator.image("operator"),
    }
    policy = dict.fromkeys(("never-pulled", "without-python", "without-dask"), "Never")
    for name, image in images.items():
        more = {"imagePullPolicy": policy[name]} if name in policy else {}
        jobs.start(name, "pass", image=image, **more)
    jobs.start("variable", "pass", env=refers("secretKeyRef"))
    volumes = [{"name": "tokens", "secret": {"secretName": "gone-secret"}}]
    mounts = [{"name": "tokens", "mountPath": "/tokens"}]
    jobs.start("volume", "pass", volumes=volumes, runner={"volumeMounts": mounts})
    jobs.start("code", "import helpers", code={"configMap": {"name": "gone-code"}})
    jobs.start("late", "import os; assert os.environ['TOKEN'] == 'now'", env=refers("configMapKeyRef"))

    # All is told long before it is given up, and what comes in time is no failure.
    says(jobs, "no-such-registry", images["no-such-registry"])
    says(jobs, "variable", "Secret 'not-there'")
    says(jobs, "volume", "Secret 'gone-secret'")
    says(jobs, "code", "ConfigMap 'gone-code'")
    says(jobs, "late", "ConfigMap 'not-there'")
    data = {"token": "now"}
    jobs.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "not-there"}, "data": data})
    assert jobs.end("late", 60)["status"]["phase"] == "Succeeded"

    ended = jobs.ends(*images, "variable", "volume", "code", timeout=120)
    for name in ("no-such-registry", "no-such-name", "never-pulled"):
        assert images[name] in failed(jobs, ended[name], "ImagePullFailed")
    assert seconds(ended["no-such-name"]) < 20 * slowdown(), "what can never be pulled is not waited for"
    for name in ("without-python", "without-dask"):
        message = failed(jobs, ended[name], "ConfigError")
        assert images[name] in message
        assert "dask-training[runtime]" in message
    assert "Secret 'not-there'" in failed(jobs, ended["variable"], "ConfigError")
    assert "Secret 'gone-secret'" in failed(jobs, ended["volume"], "ConfigError")
    assert "ConfigMap 'gone-code'" in failed(jobs, ended["code"], "ConfigError")
    assert max(seconds(body) for body in ended.values()) < 100 * slowdown()
    jobs.nothing_left()


def test_a_quota_is_waited_for_with_kubernetes_own_words(jobs):
    jobs.quota(1)
    jobs.start("patient", "pass", workers={"replicas": 2})
    body = says(jobs, "patient", "exceeded quota", "few", "pods=1")
    assert body["status"]["reason"] == "QuotaExceeded"
    jobs.quota(10)
    body = jobs.end("patient", 60)
    assert body["status"]["phase"] == "Succeeded", jobs.described(body)
    assert body["status"]["attempt"] == 1
    jobs.told("patient", "Completed")
    warnings = [event for event in jobs.events("patient") if event["type"] == "Warning"]
    assert [event["reason"] for event in warnings] == ["QuotaExceeded"], "said once"
    jobs.quota(0)
    jobs.start("hasty", "pass", startupDeadlineSeconds=5)
    assert "exceeded quota" in failed(jobs, jobs.end("hasty", 30), "QuotaExceeded")
    jobs.nothing_left()


def test_a_job_that_fits_on_no_node_says_so(jobs, operator):
    huge = {"requests": {"cpu": "900", "memory": "128Mi"}}
    jobs.start("huge", "pass", runner={"resources": huge})
    jobs.start("waits", "pass", workers={"minReplicas": 1, "resources": huge})
    jobs.start("nowhere", "pass", nodeSelector=NOWHERE, startupDeadlineSeconds=15)
    body = says(jobs, "nowhere", "0/1 nodes are available", "didn't match", timeout=15)
    assert body["status"]["reason"] == "Unschedulable"
    assert "0/1 nodes are available" in failed(jobs, jobs.end("nowhere", 30), "Unschedulable")
    for name in ("huge", "waits"):
        body = says(jobs, name, "Insufficient cpu")
        assert body["status"]["reason"] == "Unschedulable"
    jobs.delete("huge", "waits")
    jobs.nothing_left()


@pytest.mark.exclusive  # the other workers of the node's cores are in its way
def test_more_workers_than_have_room_are_no_hindrance(jobs, wait_script):
    (node,) = jobs.api.items("/api/v1/nodes")
    cpu = node["status"]["allocatable"]["cpu"]
    most = {"requests": {"cpu": f"{int(600 * float(cpu))}m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
    jobs.start("crowded", wait_script, workers={"replicas": 2, "threads": 1, "resources": most})
    runner = jobs.waiting("crowded")
    jobs.phase("crowded", "Running")  # what lacks while it starts is said in the same words
    body = jobs.until("crowded", lambda body: "Insufficient cpu" in body["status"].get("message", ""))
    assert (body["status"]["phase"], body["status"]["reason"]) == ("Running", "Running")
    assert body["status"]["workers"]["summary"] == "1/2"
    jobs.release(runner)
    body = jobs.end("crowded")
    assert body["status"]["phase"] == "Succeeded", jobs.described(body)
    jobs.nothing_left()
