"""Facts from raw objects: whatever Kubernetes and the pods say."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_training.api import Reason
from dask_training.costs import ResourceSeconds
from dask_training.observed import Observed, time_of
from dask_training.refusal import Refusal
from dask_training.status import Status, change, events
from dask_training.status.blockers import of_refusal
from dask_training.status.changes import Change
from dask_training.telemetry import Telemetry

UID = "u1"
NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)


def pod(role="runner", *, uid=UID, status=None, **metadata):
    labels = {"dask-training.io/job-uid": uid, "dask-training.io/role": role, "dask-training.io/attempt": "1"}
    labels |= {"dask-training.io/worker": "3"} if role == "worker" else {}
    spec = {"containers": [{"image": "i", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}]}
    metadata = {"name": f"job-{role}", "uid": "p", "labels": labels, **metadata}
    return {"metadata": metadata, "spec": spec, "status": status or {}}


def seen(*pods, **more):
    return Observed.of({"metadata": {"uid": UID}}, pods=pods, **more)


def only(raw):
    (found,) = seen(raw).pods
    return found


def test_a_pod_that_was_just_made():
    found = only(pod("worker", creationTimestamp="2026-03-01T12:00:00Z"))
    assert (found.role, found.attempt, found.index, found.image) == ("worker", 1, 3, "i")
    assert (found.amounts.cpu, found.amounts.memory_gib) == (0.5, 1.0)
    assert found.created == NOW
    assert not any((found.is_over, found.is_running, found.is_lost, found.has_run))


def test_pods_of_other_jobs_and_without_our_labels_are_left_out():
    bare = pod()
    bare["metadata"]["labels"] = {}
    odd = pod()
    odd["metadata"]["labels"]["dask-training.io/role"] = "spy"
    assert seen(pod(uid="u2"), bare, odd).pods == ()


def test_a_running_pod():
    running = {"phase": "Running", "containerStatuses": [{"state": {"running": {"startedAt": "2026-03-01T12:00:00Z"}}}]}
    found = only(pod(status=running))
    assert found.is_running
    assert found.running_since == NOW
    leaving = only(pod(status=running, deletionTimestamp="2026-03-01T12:00:00Z", deletionGracePeriodSeconds=30))
    assert not leaving.is_running
    assert leaving.is_lost
    assert leaving.loss == "the pod was deleted"
    draining = only(pod("worker", deletionTimestamp="2026-03-01T13:00:00Z", deletionGracePeriodSeconds=3600))
    assert draining.is_draining
    assert not draining.is_lost


def test_a_worker_that_was_scaled_away_is_no_loss_when_the_kubelet_takes_its_pod_away_either():
    def gone(code):
        status = {"containerStatuses": [{"state": {"terminated": {"exitCode": code, "reason": "Completed"}}}]}
        end = {"deletionTimestamp": "2026-03-01T12:00:00Z", "deletionGracePeriodSeconds": 0}
        return only(pod("worker", status=status, **end))

    assert not gone(0).is_lost
    assert gone(137).is_lost


def test_an_evicted_pod():
    found = only(
        pod(status={"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."})
    )
    assert found.is_over
    assert not found.has_run
    assert found.loss == "Evicted: The node was low on resource: memory."


def test_a_worker_that_is_restarted_is_not_over():
    ended = {"exitCode": 137, "reason": "OOMKilled"}
    status = {"phase": "Running", "containerStatuses": [{"state": {"terminated": ended}, "restartCount": 2}]}
    assert not only(pod("worker", status=status)).is_over
    assert only(pod("runner", status=status)).is_over
    assert only(pod("worker", status=status)).ended.out_of_memory


def test_only_what_the_scheduler_says_of_placing_counts_as_unschedulable():
    condition = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "gate"}
    assert only(pod(status={"conditions": [condition]})).unschedulable == ""
    assert only(pod(status={"conditions": [condition | {"reason": "Unschedulable"}]})).unschedulable == "gate"


def failed_mount(at, message):
    return {"reason": "FailedMount", "lastTimestamp": at, "message": message, "involvedObject": {"name": "p"}}


def test_the_latest_mount_error_counts():
    found = seen(events=[failed_mount("2026-03-01T12:01:00Z", "new"), failed_mount("2026-03-01T12:00:00Z", "old")])
    assert found.mount_errors == {"p": "new"}


def test_a_kubelet_that_is_busy_has_nothing_against_a_pods_volumes():
    words = 'MountVolume.SetUp failed for volume "code" : '
    missing = failed_mount("2026-03-01T12:00:00Z", words + 'configmap "mine" not found')
    busy = failed_mount(
        "2026-03-01T12:01:00Z", words + "failed to sync configmap cache: timed out waiting for the condition"
    )
    assert seen(events=[busy]).mount_errors == {}
    assert seen(events=[missing, busy]).mount_errors == {"p": missing["message"]}


@pytest.mark.parametrize(
    ("code", "message", "quota"),
    [
        (403, "exceeded quota: q", True),
        (403, "status unknown for quota: q, resources: pods", True),
        (403, "violates PodSecurity", False),
        (422, "exceeded quota", False),
    ],
)
def test_a_quota_is_told_from_other_refusals(code, message, quota):
    assert Refusal("Pod", "p", code, "Forbidden", message, NOW).is_quota is quota


def test_refused_objects_are_tried_ever_more_slowly():
    waits = [
        (Refusal("Pod", "p", 403, "", "", NOW, NOW, n).retry_at - NOW).total_seconds() for n in (1, 2, 3, 4, 5, 50)
    ]
    assert waits == [5, 10, 20, 40, 60, 60]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
keys = st.sampled_from(["workers", "codeStarted", "progress", "metrics", "idleSeconds", "versions", "x"])


@given(st.dictionaries(keys, json_values))
def test_no_answer_of_a_scheduler_does_harm(answer):
    telemetry = Telemetry.of(answer)
    assert telemetry.workers >= 0
    assert all(isinstance(value, float) for value in telemetry.metrics.values())


def test_what_a_scheduler_answers_is_taken():
    answer = {"workers": 2, "codeStarted": True, "progress": {"done": 3, "total": 9}, "metrics": {"a": 1, "b": "x"}}
    telemetry = Telemetry.of(answer | {"idleSeconds": 4, "versions": "differ"})
    known = Telemetry(2, code_started=True, done=3, total=9, metrics={"a": 1.0}, versions="differ", idle_seconds=4.0)
    assert telemetry == known


@pytest.mark.parametrize("text", ["2026-03-01T12:00:00Z", "2026-03-01T12:00:00.000000Z", "2026-03-01T12:00:00"])
def test_timestamps(text):
    assert time_of(text) == NOW


@pytest.mark.parametrize("text", [None, "", "yesterday"])
def test_no_timestamps(text):
    assert time_of(text) is None


# What of a change is urgent.


@pytest.mark.parametrize(
    ("changes", "weight"),
    [
        ({}, Change.NONE),
        (
            {"last_update_time": "x", "timings": {"total": 1.0}, "resource_seconds": ResourceSeconds(cpu=1.0)},
            Change.NONE,
        ),
        ({"message": "2/2 workers"}, Change.MINOR),
        ({"reason": "Running"}, Change.MINOR),
        ({"metrics": {"loss": 0.1}}, Change.MINOR),
        ({"reason": "Unschedulable"}, Change.TRANSITION),
        ({"phase": "Running"}, Change.TRANSITION),
        ({"attempt": 1}, Change.TRANSITION),
    ],
)
def test_numbers_may_wait_and_transitions_may_not(changes, weight):
    assert change(Status(), Status().replace(**changes)) is weight


def test_what_stands_in_the_way_is_told_once():
    blocked = Status(attempt=1, reason="Unschedulable", message="no room")
    assert events(Status(attempt=1), blocked) == (("Warning", "Unschedulable", "no room"),)
    assert events(blocked, blocked.replace(message="no room at all")) == ()


def test_a_huge_status_is_cut_to_what_the_api_server_should_hold():
    status = Status(metrics={f"{number}-{'x' * 120}": 1.0 for number in range(64)}, message="m" * 9000)
    status = status.with_workers(leaving=tuple(range(1000)))
    assert len(str(status.write())) < 20_000
    assert len(status.write()["message"]) == 1000


def test_a_store_that_does_not_answer_is_not_said_to_be_a_refusal_of_kubernetes():
    refusal = Refusal("Secret", "dask-training-store", 503, "StoreUnavailable", "no answer from store:7070", NOW)
    blocker = of_refusal(refusal)
    assert blocker.reason == Reason.ARTIFACT_STORE_FAILED
    assert blocker.message.startswith("the artifact store does not answer: no answer from store:7070\n")
    assert blocker.fails_at is None  # it may come back until the startup deadline
