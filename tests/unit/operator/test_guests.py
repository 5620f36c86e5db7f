"""A job on a cluster of somebody else's: what is made for it, what is not, and how it ends when that cluster does."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dask_training.cluster_ref import ReferencedCluster
from dask_training.telemetry import Telemetry

REF = {"clusterRef": {"name": "shared"}}


def kinds(job):
    return sorted(kind for kind, _ in job.objects)


def torn_down(job):
    return job.reconcile().vanish().reconcile().pass_time(30).reconcile()


# From the cluster's Service to its address.


@pytest.mark.parametrize(
    ("change", "address", "dashboard"),
    [
        ({}, "tcp://10.96.0.99:8786", "http://10.96.0.99:8787/status"),
        ({"clusterIP": "fd00::7"}, "tcp://[fd00::7]:8786", "http://[fd00::7]:8787/status"),
        ({"clusterIP": "None"}, "tcp://shared-scheduler.ml:8786", "http://shared-scheduler.ml:8787/status"),
        ({"ports": [{"name": "tcp-comm", "port": 9000}]}, "tcp://10.96.0.99:9000", ""),
        ({"ports": [{"port": 8786}]}, "tcp://10.96.0.99:8786", ""),
    ],
)
def test_the_service_says_where_the_scheduler_is(host, change, address, dashboard):
    service = host()
    service["spec"] |= change
    found = ReferencedCluster.of("shared", "ml", service)
    assert (found.address, found.dashboard, found.problem) == (address, dashboard, "")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda service: service["metadata"].update(deletionTimestamp="2026-03-01T12:00:00Z"), "there is no Service"),
        (lambda service: service["metadata"].pop("ownerReferences"), "is not that of DaskCluster 'shared'"),
        (lambda service: service["metadata"]["ownerReferences"][0].update(kind="Deployment"), "it has another owner"),
        (lambda service: service["spec"].update(ports=[{"name": "web", "port": 80}]), "neither a port 'tcp-comm'"),
    ],
)
def test_a_service_that_is_not_a_clusters_is_told_of(host, change, said):
    service = host()
    change(service)
    found = ReferencedCluster.of("shared", "ml", service)
    assert found.address == ""
    assert said in found.problem


def test_a_service_that_is_not_there_is_told_of():
    found = ReferencedCluster.of("shared", "ml", None)
    assert (found.address, found.uid) == ("", "")
    assert found.problem.startswith("there is no Service 'shared-scheduler' in namespace 'ml'")


# What is made.


def test_the_runner_is_all_there_is(cluster):
    job = cluster(**REF).reconcile()
    assert kinds(job) == ["NetworkPolicy", "Pod", "Secret", "Service"]
    [pod] = job.pods()
    container = pod["spec"]["containers"][0]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert environment["DASK_SCHEDULER_ADDRESS"] == "tcp://10.96.0.99:8786"
    assert [each["containerPort"] for each in container["ports"]] == [8787]
    [secret] = [each for (kind, _), each in job.objects.items() if kind == "Secret"]
    assert set(secret["data"]) == {"job.json", "token"}
    [mounted] = [each["secret"] for each in pod["spec"]["volumes"] if each["name"] == "dask-training-credentials"]
    assert {each["key"] for each in mounted["items"]} == {"job.json", "token"}
    [policy] = [each for (kind, _), each in job.objects.items() if kind == "NetworkPolicy"]
    assert policy["spec"]["policyTypes"] == ["Ingress"], "what goes out is not limited: the cluster is anywhere"
    assert [[port["port"] for port in rule["ports"]] for rule in policy["spec"]["ingress"]] == [[8787]]
    [service] = [each for (kind, _), each in job.objects.items() if kind == "Service"]
    assert service["spec"]["selector"] == policy["spec"]["podSelector"]["matchLabels"] | {
        "dask-training.io/role": "runner"
    }
    assert job.status["schedulerAddress"] == "tcp://10.96.0.99:8786"
    assert job.status["dashboardURL"] == "http://10.96.0.99:8787/status"


def test_it_succeeds_and_leaves_nothing(cluster):
    job = cluster(**REF).running().pass_time(3).reconcile()
    assert (job.status["phase"], job.status["workers"]["summary"]) == ("Running", "2/2")
    assert job.holds("ClusterReady")
    torn_down(job.succeed())
    assert (job.status["phase"], job.objects) == ("Succeeded", {})


def test_it_waits_for_the_workers_that_it_asks_for(cluster):
    job = cluster(**REF, workers={"replicas": 4, "minReplicas": 3}).running().pass_time(3).reconcile()
    assert (job.status["phase"], job.status["workers"]["summary"]) == ("Starting", "2/3")
    assert "waiting for 3 workers" in job.status["message"]
    job.host_workers = 5
    job.pass_time(6).reconcile()
    assert (job.status["phase"], job.status["workers"]["summary"]) == ("Running", "5/5")


def test_a_scaled_guest_makes_no_workers(cluster):
    job = cluster(**REF).running().edit(workers={"replicas": 6}).pass_time(6).reconcile()
    assert len(job.pods()) == 1


# When the cluster is not there.


def test_no_pod_is_made_before_the_cluster_was_looked_for(cluster):
    job = cluster(**REF)
    job.as_guest = dict
    job.reconcile()
    assert kinds(job) == ["Service"]
    job.pass_time(601).reconcile()
    assert (job.status["reason"], job.status["message"].splitlines()[0]) == (
        "StartupDeadlineExceeded",
        "the operator could not look for the cluster of spec.clusterRef within 600 s (see its log).",
    )


def test_a_cluster_that_is_made_a_moment_later_is_found(cluster, host):
    job = cluster(**REF)
    job.host = None
    job.reconcile()
    assert kinds(job) == ["Service"]
    assert (job.status["phase"], job.status["reason"]) == ("Starting", "ConfigError")
    assert "there is no Service 'shared-scheduler'" in job.status["message"]
    job.host = host()
    job.pass_time(20).running().pass_time(3).reconcile()
    assert (job.status["phase"], job.status["attempt"]) == ("Running", 1)


def test_a_cluster_that_stays_away_fails_the_job_after_a_minute(cluster):
    job = cluster(**REF)
    job.host = None
    job.reconcile()
    assert 59 <= job.check_after <= 60
    torn_down(job.pass_time(61))
    assert (job.status["phase"], job.status["reason"], job.objects) == ("Failed", "ConfigError", {})
    assert "kubectl -n ml get daskclusters" in job.status["message"]


def test_a_cluster_that_goes_ends_the_attempt_once_the_runner_had_its_time(cluster):
    job = cluster(**REF).running().pass_time(3).reconcile()
    job.host = None
    job.reconcile()
    assert (job.status["phase"], job.status["reason"]) == ("Running", "SchedulerLost")
    said = job.said(reason="SchedulerFailed", message="it does not answer", succeeded=False, exitCode=69)
    job.pass_time(4).end(job.pod("runner"), 69, said)
    torn_down(job)
    assert (job.status["phase"], job.status["reason"]) == ("Failed", "SchedulerDisrupted")
    assert "DaskCluster 'shared' (spec.clusterRef) is not at tcp://10.96.0.99:8786 any more" in job.status["message"]
    assert job.status["artifacts"]["files"] == 4, "what the runner could keep is kept"


def test_a_runner_that_does_not_notice_is_ended(cluster):
    job = cluster(**REF).running().pass_time(3).reconcile()
    job.host = None
    job.reconcile()
    torn_down(job.pass_time(21))
    assert (job.status["phase"], job.status["reason"]) == ("Failed", "SchedulerDisrupted")


def test_the_next_attempt_takes_the_cluster_that_is_there_then(cluster, host):
    job = cluster(**REF, backoffLimit=1).running().pass_time(3).reconcile()
    job.host = host("10.96.0.100")
    job.reconcile().pass_time(21).reconcile().vanish().reconcile().pass_time(30).running().pass_time(3).reconcile()
    assert (job.status["attempt"], job.status["phase"]) == (2, "Running")
    assert "it is at tcp://10.96.0.100:8786 now" in job.status["attempts"][0]["message"]
    assert job.status["schedulerAddress"] == "tcp://10.96.0.100:8786"


def test_a_scheduler_that_does_not_answer_though_its_service_is_there_is_the_runners_to_tell(cluster):
    job = cluster(**REF).running().pass_time(3).reconcile()
    said = job.said(reason="SchedulerFailed", message="no answer from tcp://x", succeeded=False, exitCode=69)
    torn_down(job.end(job.pod("runner"), 69, said))
    assert (job.status["reason"], job.status["message"]) == ("SchedulerFailed", "no answer from tcp://x")


def test_the_runners_address_stays_what_it_was_made_with(cluster, host, operator_settings):
    job = cluster(**REF).reconcile()
    job.host = host("10.96.0.100")
    job.reconcile()
    assert job.status["schedulerAddress"] == "tcp://10.96.0.99:8786"


# Whatever happens, in any order.

STEPS = {
    "start": lambda job, _: job.start(),
    "succeed": lambda job, _: job.succeed() if runs(job) else job,
    "fail": lambda job, _: job.fail() if runs(job) else job,
    "delete the runner": lambda job, _: job.kubectl_delete_pod(job.pod("runner")),
    "delete the cluster": lambda job, _: setattr(job, "host", None),
    "make the cluster": lambda job, host: setattr(job, "host", host("10.96.0.100")),
    "lose its workers": lambda job, _: setattr(job, "host_workers", 0),
    "have its workers back": lambda job, _: setattr(job, "host_workers", 2),
    "vanish": lambda job, _: job.vanish(),
    "suspend": lambda job, _: job.edit(suspend=True),
    "resume": lambda job, _: job.edit(suspend=False),
    "wait": lambda job, _: job.pass_time(30),
    "wait for long": lambda job, _: job.pass_time(700),
}


def runs(job):
    pod = job.pod("runner")
    return pod is not None and pod["status"]["phase"] == "Running"


def check(job):
    """What must hold at any moment."""
    alive = [pod for pod in job.pods() if "deletionTimestamp" not in pod["metadata"]]
    assert len(alive) <= 1
    assert {pod["metadata"]["labels"]["dask-training.io/role"] for pod in job.pods()} <= {"runner"}
    assert all(action.get("kind") in ("Service", "NetworkPolicy", "Pod") for action in made(job))


def made(job):
    return [action for action in job.requests if isinstance(action, dict)]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=12),
    at=st.tuples(st.integers(0, 40), st.booleans(), st.booleans()),
    limit=st.integers(0, 2),
)
def test_any_story_ends_and_leaves_nothing(cluster, fault, host, steps, at, limit):
    number, done, killed = at
    job = cluster(**REF, backoffLimit=limit, fault=fault(number, done=done, killed=killed)).reconcile()
    for step in steps:
        STEPS[step](job.pass_time(1), host)
        check(job.reconcile())
    job.host, job.host_workers = host(), 2
    job.edit(suspend=False)
    for _ in range(40):
        if job.status.get("phase") in ("Succeeded", "Failed"):
            break
        job.reconcile().pass_time(1).start().reconcile().pass_time(20).reconcile()
        STEPS["succeed"](job, host)
        check(job.reconcile())
        check(job.vanish().reconcile().pass_time(30).reconcile())
    assert job.status["phase"] in ("Succeeded", "Failed")
    assert job.objects == {}


def test_a_lost_worker_of_theirs_is_borne_for_the_grace_that_the_job_gives(cluster):
    job = cluster(**REF, workers={"lossGraceSeconds": 30}).running().pass_time(3).reconcile()
    job.host_workers = 0
    job.pass_time(6).reconcile()
    assert (job.status["phase"], job.status["reason"]) == ("Running", "WorkersLost")
    todo = job.pass_time(76).plan(telemetry=Telemetry(workers=0))
    assert todo.status["reason"] == "WorkersUnavailable"
