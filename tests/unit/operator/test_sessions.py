"""Mode Session: certificates before pods, who may keep a cluster, and how it ends."""

from __future__ import annotations

import base64
import datetime

import pytest
from cryptography import x509

from dask_training.api import Label
from dask_training.reconcile import SecretRequest
from dask_training.telemetry import Telemetry

MANAGER = "dask-training-heartbeat"


@pytest.fixture
def session(cluster, session_spec):
    """Makes a cluster with a Session of this spec."""

    def make(session=(), **spec):
        return cluster(**session_spec(session=session, **spec))

    return make


def roles(job):
    return sorted(pod["metadata"]["labels"][Label.ROLE] for pod in job.pods())


def used(**changes):
    return Telemetry(**{"workers": 2, "clients": 1, "idle_seconds": 0.0} | changes)


def ended(job):
    """Plays what follows to its end."""
    job.reconcile()
    assert job.status["phase"] == "Finalizing"
    job.vanish().reconcile()
    assert job.objects == {}
    return job.status["phase"], job.status["reason"], job.status["message"]


# Certificates.


def test_a_session_has_no_runner(session):
    job = session().running()
    assert roles(job) == ["scheduler", "worker", "worker"]
    assert job.status["phase"] == "Running"
    assert job.condition("RunnerStarted") is None


def test_the_certificate_is_written_before_any_pod_is_made(session):
    job = session().reconcile()
    kinds = [each.kind if isinstance(each, SecretRequest) else type(each).__name__ for each in job.requests]
    made = [each["kind"] for each in job.requests if isinstance(each, dict)]
    assert kinds[:4] == ["WriteStatus", "dict", "Secret", "Secret"]
    assert made == ["Service", "NetworkPolicy", "Pod", "Pod", "Pod"]
    (secret,) = (each for (kind, _), each in job.objects.items() if kind == "Secret")
    told = job.status["session"]
    assert base64.b64decode(secret["data"]["ca.pem"]).decode() == told["certificateAuthority"]
    for pod in job.pods():
        volumes = [each["secret"]["secretName"] for each in pod["spec"]["volumes"] if "secret" in each]
        assert volumes == [secret["metadata"]["name"]]


def test_the_certificate_is_for_the_client_s_key_and_for_nothing_but_a_client(session):
    job = session(activeDeadlineSeconds=600).reconcile()
    told = {name: x509.load_pem_x509_certificate(pem.encode()) for name, pem in job.status["session"].items()}
    certificate = told["certificate"]
    certificate.verify_directly_issued_by(told["certificateAuthority"])
    request = x509.load_pem_x509_csr(job.body["spec"]["session"]["certificateSigningRequest"].encode())
    assert certificate.public_key() == request.public_key()
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert 600 < left.total_seconds() <= 600 + 3600


def test_each_secret_of_a_session_goes_with_its_attempt(session, fault):
    job = session()
    job.fault = fault(3, done=False, killed=True)  # the status with the certificate is not written any more
    job.reconcile()
    secrets = [name for kind, name in job.objects if kind == "Secret"]
    assert len(secrets) == 2, "the first is nobody's"
    job.pass_time(1).start().reconcile()
    job.owner_gone = "Pod notebook is gone"
    ended(job)


def test_a_session_without_a_request_starts_and_says_that_nobody_can_use_it(cluster):
    job = cluster(mode="Session").running()
    assert "session" not in job.status
    assert "spec.session.certificateSigningRequest was not given" in job.status["message"]


def test_a_session_that_is_resumed_gets_another_certificate(session):
    job = session().running()
    first = job.status["session"]
    job.edit(suspend=True).reconcile().vanish().reconcile()
    job.edit(suspend=False).running()
    assert job.status["attempt"] == 2
    assert job.status["session"]["certificateAuthority"] != first["certificateAuthority"]
    assert len([kind for kind, _ in job.objects if kind == "Secret"]) == 1


@pytest.mark.parametrize("text", ["MIIB", "=", "A"])
def test_a_request_that_is_none_fails_the_job_before_anything_is_made(cluster, text):
    why = "can't be read as a certificate signing request"
    pem = f"-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n"
    job = cluster(mode="Session", session={"certificateSigningRequest": pem}).reconcile()
    assert (job.status["phase"], job.status["reason"]) == ("Failed", "ValidationFailed")
    assert job.status["message"].startswith(f"spec.session.certificateSigningRequest: {why}: make a request with")
    assert job.objects == {}


def test_a_secret_that_is_refused_is_told_of_and_tried_again(session):
    job = session()
    job.refuse = lambda each: (403, "exceeded quota: secrets") if each["kind"] == "Secret" else None
    job.reconcile()
    assert (job.status["reason"], job.pods()) == ("QuotaExceeded", [])
    assert "exceeded quota: secrets" in job.status["message"]
    assert "session" not in job.status
    job.refuse = lambda _: None
    job.pass_time(5).running()
    assert job.status["phase"] == "Running"


# Who keeps a Session.


def test_a_session_says_who_uses_it_and_when_it_ends(session):
    job = session(session={"noClientTimeoutSeconds": 30, "heartbeatTimeoutSeconds": 60}).running()
    job.telemetry = used(clients=0, no_client_seconds=1.0)
    job.pass_time(11).reconcile()
    assert job.status["progress"]["summary"] == "no client"
    assert job.status["message"] == (
        "2/2 workers. Connect to status.schedulerAddress with the certificate in status.session. Ends after 1200 s"
        " without a task (spec.idleTimeoutSeconds), or after 30 s without a client"
        " (spec.session.noClientTimeoutSeconds), or after 60 s without a heartbeat"
        " (spec.session.heartbeatTimeoutSeconds)"
    )
    job.telemetry = used(clients=2)
    job.pass_time(11).reconcile()
    assert job.status["progress"] == {"summary": "2 clients"}
    assert job.status["message"].startswith("2/2 workers. Ends after 1200 s without a task")


@pytest.mark.parametrize(
    ("telemetry", "reason"),
    [
        (used(idle_seconds=60.0), "no task for 60 s (spec.idleTimeoutSeconds)"),
        (used(idle_seconds=59.9), None),
        (used(clients=0, no_client_seconds=20.0), "no client for 20 s (spec.session.noClientTimeoutSeconds)"),
        (used(clients=0, no_client_seconds=19.9), None),
        (used(clients=1, no_client_seconds=None, idle_seconds=None), None),
        (None, None),
    ],
    ids=["idle", "almost idle", "no client", "a client short ago", "a client that computes", "nothing known"],
)
def test_a_session_ends_when_nobody_uses_it(session, telemetry, reason):
    job = session(session={"noClientTimeoutSeconds": 20}, idleTimeoutSeconds=60).running().pass_time(100)
    job.telemetry = telemetry
    if reason is None:
        assert job.reconcile().status["phase"] == "Running"
    else:
        assert ended(job) == ("Succeeded", "IdleTimeout", reason)


def test_it_is_looked_at_again_when_its_time_may_be_over(session):
    job = session(session={"noClientTimeoutSeconds": 20}, idleTimeoutSeconds=60).running().pass_time(100)
    job.telemetry = used(clients=0, no_client_seconds=5.0, idle_seconds=20.0)
    job.reconcile()
    assert job.check_after == 15
    job.telemetry = used(clients=0, no_client_seconds=19.5, idle_seconds=20.0)
    assert job.plan().check_after == 1, "what is known may be older than that"
    job.telemetry = used(idle_seconds=59.0)
    assert job.plan().check_after == 1


def test_without_a_time_for_it_no_client_is_needed(session):
    job = session().running().pass_time(1000)
    job.telemetry = used(clients=0, no_client_seconds=1000.0, idle_seconds=1000.0)
    assert job.reconcile().status["phase"] == "Running"


def test_time_before_the_cluster_is_ready_does_not_count(session):
    job = session(session={"noClientTimeoutSeconds": 20}, idleTimeoutSeconds=30).reconcile().pass_time(100)
    job.telemetry = used(clients=0, no_client_seconds=90.0, idle_seconds=90.0)
    assert job.start().reconcile().status["phase"] == "Running"
    assert job.pass_time(19).reconcile().status["phase"] == "Running"
    assert job.pass_time(1).reconcile().status["reason"] == "IdleTimeout"


def test_a_session_ends_with_its_owner(session):
    job = session().running()
    job.owner_gone = "Pod notebook has ended"
    assert ended(job) == ("Succeeded", "OwnerGone", "Pod notebook has ended: what was made for it goes, too")


def test_a_session_whose_owner_is_gone_is_not_waited_for(session):
    job = session().reconcile()
    job.owner_gone = "Pod notebook is gone"
    assert ended(job)[1] == "OwnerGone"


def beat(job, manager=MANAGER, later=0):
    entry = {"manager": manager, "operation": "Update", "time": job.stamp(later)}
    job.body["metadata"].setdefault("managedFields", []).append(entry)
    return job


def test_a_session_ends_without_a_heartbeat(session):
    job = session(session={"heartbeatTimeoutSeconds": 10}).running()  # a second after it was made
    assert job.check_after <= 9
    beat(job.pass_time(8)).reconcile()
    beat(job, manager="kubectl", later=1000)
    assert job.check_after <= 10
    assert job.pass_time(9).reconcile().status["phase"] == "Running"
    phase, reason, message = ended(job.pass_time(1))
    assert (phase, reason) == ("Succeeded", "IdleTimeout")
    assert message == (
        "no heartbeat for 10 s (spec.session.heartbeatTimeoutSeconds): annotation dask-training.io/heartbeat was last"
        " changed at 2026-03-01T12:00:09Z"
    )


def test_a_first_heartbeat_is_waited_for_from_the_job_s_making_on(session):
    job = session(session={"heartbeatTimeoutSeconds": 10}).running().pass_time(9)
    assert ended(job)[2].endswith("annotation dask-training.io/heartbeat has not been changed since the job was made")


def test_a_heartbeat_that_a_lagging_watch_does_not_tell_of_is_looked_for(session):
    job = session(session={"heartbeatTimeoutSeconds": 10}).running().pass_time(30)
    todo = job.plan(confirmed=False)
    assert todo.confirm
    assert todo.status is None


# Lost parts.

EVICTED = [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drained"}]


@pytest.mark.parametrize(
    ("code", "how", "reason"),
    [
        (137, {"reason": "OOMKilled"}, "SchedulerOOMKilled"),
        (137, {"conditions": EVICTED}, "SchedulerDisrupted"),
        (1, {"message": "Traceback"}, "SchedulerFailed"),
    ],
    ids=["memory", "evicted", "crashed"],
)
def test_a_lost_scheduler_ends_a_session_with_its_reason(session, code, how, reason):
    job = session().running()
    job.end(job.pod("scheduler"), code, **how)
    phase, said, message = ended(job)
    assert (phase, said) == ("Failed", reason)
    assert "backoffLimit" not in message, "a Session has no more attempts"


def test_a_deleted_scheduler_ends_a_session(session):
    job = session().running()
    job.kubectl_delete_pod(job.pod("scheduler")).vanish()
    assert job.plan(confirmed=False).confirm, "a watch may lag behind"
    phase, reason, message = ended(job)
    assert (phase, reason) == ("Failed", "SchedulerDisrupted")
    assert message.endswith("start another session.")


@pytest.mark.parametrize(
    ("said", "reason", "message"),
    [
        ("", "Completed", "a client has shut the cluster down"),
        ('{"reason":"IdleTimeout","message":"no task for 60 s"}', "IdleTimeout", "no task for 60 s"),
        ('{"reason":"RunnerFailed","message":"made up"}', "Completed", "a client has shut the cluster down"),
    ],
    ids=["by a client", "by itself", "by something else"],
)
def test_a_scheduler_that_ends_well_ends_its_session_well(session, said, reason, message):
    job = session().running()
    job.end(job.pod("scheduler"), 0, said)
    assert ended(job) == ("Succeeded", reason, message)


def test_a_lost_worker_is_made_again(session):
    job = session().running().pass_time(200)
    job.kubectl_delete_pod(job.pod("worker", 0)).vanish().reconcile()
    assert roles(job) == ["scheduler", "worker", "worker"]


def test_nothing_but_the_certificate_is_written_with_the_secret(session):
    job = session()
    job.execute(job.plan())  # the attempt and its Service
    todo = job.plan()
    assert todo.status is None
    assert [each.kind for each in todo.create] == ["Secret"]
    assert todo.delete == ()
