"""Mode Session: a cluster for a client with a certificate of its own, which goes when nobody is there any more."""

from __future__ import annotations

import json
import time
from datetime import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from machine import slowdown

from dask_training import api
from dask_training.certificates import make_certificates

IMAGE = "dask-training-runtime:dev"
# What the session's pod runs: a shell that ends with its only program, as a kernel's container does.
PROGRAM = "sleep 600 & echo $! > /tmp/pid; wait"
# Connects as a client of a cluster, once for each line of standard input.
CONNECT = """
import asyncio, json, sys, time
from distributed import Client
from distributed.security import Security

async def connect(address, ca, certificate, key, timeout):
    security = Security(
        tls_ca_file=ca, tls_client_cert=certificate, tls_client_key=key, require_encryption=True
    )
    try:
        async with Client(address, security=security, timeout=timeout, asynchronous=True) as client:
            return sum(await client.gather(client.map(lambda number: number**2, range(10))))
    except OSError:
        return "refused"

for line in sys.stdin:
    print(asyncio.run(connect(**json.loads(line))), time.time(), flush=True)
"""


def new_request():
    """A client's new key and its certificate signing request, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode(), request.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture
def begin(jobs, make_job):
    """Applies a Session; `session` has what stands in its spec beside the client's request, `metadata` more."""

    def begin(name: str, request: str, *, session=(), metadata=(), **spec) -> str:
        body = make_job(name, mode="Session", **spec)
        del body["spec"]["runner"]
        body["spec"]["session"] = {"certificateSigningRequest": request, **dict(session)}
        body["metadata"] |= dict(metadata)
        jobs.apply(body)
        return name

    return begin


@pytest.fixture
def notebook(jobs):
    """The pod that has the session: its name and uid."""
    guarded = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {"name": "notebook", "image": IMAGE, "command": ["sh", "-c", PROGRAM], "securityContext": guarded}
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container | {"imagePullPolicy": "IfNotPresent"}],
    }
    jobs.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "notebook"}, "spec": spec})
    jobs.kubectl("wait", "--for=condition=Ready", "pod/notebook", f"--timeout={round(60 * slowdown())}s")
    found = jobs.api.get(f"/api/v1/namespaces/{jobs.namespace}/pods/notebook")
    return {"apiVersion": "v1", "kind": "Pod", "name": "notebook", "uid": found["metadata"]["uid"]}


def test_a_client_computes_with_the_certificate_of_its_own_key_and_nobody_else_does(jobs, begin, notebook):
    key, request = new_request()
    labels = {"team": "churn", "app.kubernetes.io/instance": "other"}
    begin("grid", request, session={"noClientTimeoutSeconds": 20}, metadata={"labels": labels})
    signed = jobs.until("grid", lambda body: body["status"].get("session"))["status"]["session"]
    body = jobs.phase("grid", "Running", 60)
    assert "Connect to status.schedulerAddress" in body["status"]["message"]
    assert {pod["metadata"]["labels"]["team"] for pod in jobs.made("grid")} == {"churn"}

    mine = {"ca": signed["certificateAuthority"], "certificate": signed["certificate"], "key": key}
    leaf = make_certificates("other", ["client"], lifetime_seconds=600).leaves["client"]
    other = mine | {"certificate": leaf.certificate.decode(), "key": leaf.key.decode()}
    tries = (other | {"timeout": 3}, mine | {"timeout": 60})
    lines = "\n".join(json.dumps({"address": body["status"]["schedulerAddress"]} | each) for each in tries)
    execute = ("exec", "-i", notebook["name"], "--", "python", "-c", CONNECT)
    refused, _, total, left = jobs.kubectl(*execute, stdin=lines).split()
    assert (refused, total) == ("refused", str(sum(n**2 for n in range(10))))

    status = jobs.end("grid", 40)["status"]
    assert (status["phase"], status["reason"]) == ("Succeeded", "IdleTimeout")
    assert status["message"] == "no client for 20 s (spec.session.noClientTimeoutSeconds)"
    ended = datetime.fromisoformat(status["completionTime"]).timestamp()  # the pods' clock is this machine's
    assert ended - float(left) > 20 - 2, "the time counts from when the client left"
    jobs.nothing_left("grid")


def test_a_session_goes_with_its_owner_its_heartbeat_or_its_scheduler(jobs, begin, notebook):
    _, request = new_request()
    begin("owned", request, metadata={"ownerReferences": [notebook]})
    begin("lost", request)
    jobs.phase("owned", "Running", 60)
    jobs.phase("lost", "Running", 60)

    jobs.kubectl("exec", "notebook", "--", "sh", "-c", "kill -9 $(cat /tmp/pid)", may_fail=True)
    killed = time.time()
    kill = "kill -9 $(cat /proc/1/task/1/children)"
    jobs.kubectl("exec", jobs.pod("lost", "scheduler"), "--", "sh", "-c", kill)
    begin("beating", request, session={"heartbeatTimeoutSeconds": 10})
    path = f"/apis/{api.API_VERSION}/namespaces/{jobs.namespace}/{api.PLURAL}/beating"

    def runs(body) -> bool:
        """As the helper does, from the first moment on."""
        beat = {"metadata": {"annotations": {api.HEARTBEAT_ANNOTATION: str(time.time())}}}
        how = {"kind": "merge-patch+json", "fieldManager": api.HEARTBEAT_MANAGER}
        assert jobs.api.send("PATCH", path, beat, **how)[0] == 200
        return body["status"].get("phase") == "Running"

    jobs.until("beating", runs, 60)
    beaten = time.monotonic()

    status = jobs.end("owned", 30)["status"]
    assert datetime.fromisoformat(status["completionTime"]).timestamp() - killed < 30 * slowdown()
    jobs.nothing_left("owned")
    assert (status["phase"], status["reason"]) == ("Succeeded", "OwnerGone")
    assert status["message"].startswith("Pod notebook has ended")
    status = jobs.end("lost", 30)["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "SchedulerFailed")
    status = jobs.end("beating", 30)["status"]
    assert (status["phase"], status["reason"]) == ("Succeeded", "IdleTimeout")
    assert status["message"].startswith("no heartbeat for 10 s (spec.session.heartbeatTimeoutSeconds)")
    assert 8 < time.monotonic() - beaten < 25 * slowdown()
    jobs.nothing_left()
