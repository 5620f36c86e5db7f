"""Reaching a cluster, and what its refusals are called."""

from __future__ import annotations

import threading
import time

import pytest
from machine import slowdown

from dask_training.client import TrainingClient
from dask_training.client.connection import Connection, jobs_path
from dask_training.errors import (
    ForbiddenError,
    KubernetesError,
    NoKubeconfigError,
    NotFoundError,
    NotInstalledError,
    UnreachableError,
)
from dask_training.model import JobFileError

JOB = {"metadata": {"name": "flights"}, "spec": {"runner": {"script": "print(1)\n"}}}


def test_context_and_namespace_are_kubectls(api):
    assert (Connection().context, Connection().namespace) == ("here", "default")
    assert Connection(context="lab").namespace == "lab"
    assert Connection(context="lab", namespace="mine").namespace == "mine"


def test_without_a_kubeconfig_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(NoKubeconfigError, match=r"there is no kubeconfig \(.*none\): set KUBECONFIG"):
        Connection()


def test_an_unknown_context_names_those_that_there_are(api):
    with pytest.raises(NoKubeconfigError, match="the kubeconfig has no context 'heer'; it has: here, lab"):
        Connection(context="heer")


@pytest.mark.parametrize("text", ["", "{", "clusters: 3\n", "current-context: gone\ncontexts: []\n"])
def test_a_broken_kubeconfig_is_no_traceback(tmp_path, monkeypatch, text):
    (tmp_path / "broken").write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "broken"))
    with pytest.raises(NoKubeconfigError, match=r"broken\) can't be used"):
        Connection()


def test_a_server_that_is_not_there_is_said_within_seconds(api):
    connection = Connection()
    api.close()
    started = time.monotonic()
    with pytest.raises(UnreachableError, match=r"can't be reached at http://127.0.0.1:\d+ \(context here\): .*refused"):
        connection.request("GET", jobs_path("default"))
    assert time.monotonic() - started < 3 * slowdown()


def test_a_server_that_says_nothing_is_given_up(api, monkeypatch):
    asked_enough = threading.Event()
    monkeypatch.setattr(type(api), "find", lambda self, path: asked_enough.wait(60) and ("", "", ""))
    with pytest.raises(UnreachableError, match="timed out"):
        Connection().request("GET", jobs_path("default"), read_seconds=0.2)
    asked_enough.set()


def test_without_the_crd_it_asks_for_the_operator(client, api):
    api.installed = False
    for action in (client.list, lambda: client.get("flights"), lambda: client.submit(JOB | KIND)):
        with pytest.raises(NotInstalledError, match="is the operator installed"):
            action()


KIND = {"apiVersion": "dask-training.io/v1alpha1", "kind": "DaskTrainingJob"}


def test_forbidden_names_verb_resource_and_namespace(client, api):
    message = (
        'dasktrainingjobs.dask-training.io is forbidden: User "alice" cannot list resource "dasktrainingjobs" '
        'in API group "dask-training.io" in the namespace "default"'
    )
    api.faults.append(("GET", "dasktrainingjobs", 403, {"reason": "Forbidden", "message": message}))
    with pytest.raises(ForbiddenError) as error:
        client.list()
    assert str(error.value) == (
        "you may not list dasktrainingjobs in namespace default (you are alice): "
        "ask whoever runs the cluster to bind the user role of the operator's chart to you there (userRole.bindings)"
    )


def test_a_quota_is_said_in_its_own_words(client, api):
    api.faults.append(("POST", "dasktrainingjobs", 403, {"reason": "Forbidden", "message": "exceeded quota: q"}))
    with pytest.raises(ForbiddenError, match="the cluster forbids it: exceeded quota: q"):
        client.submit(JOB | KIND)


def test_other_refusals(client, api):
    api.faults.append(("GET", "dasktrainingjobs", 401, {"reason": "Unauthorized", "message": "Unauthorized"}))
    with pytest.raises(ForbiddenError, match="log in again"):
        client.list()
    api.faults.append(("PATCH", "flights", 409, {"reason": "Conflict", "message": "changed"}))
    handle = _handle(client, api)
    with pytest.raises(KubernetesError, match="somebody else has changed it"):
        handle.suspend()


def _handle(client, api):
    api.job()
    return client.get("flights")


def test_passing_failures_are_asked_again_and_retry_after_is_kept(client, api):
    api.job()
    api.faults += [("GET", "dasktrainingjobs", status, {"message": "busy"}) for status in (429, 503, 500)]
    assert [job["metadata"]["name"] for job in client.list()] == ["flights"]
    assert len(api.sent("GET", "dasktrainingjobs")) == 4


def test_a_failure_that_does_not_pass_is_said(client, api):
    api.faults += [("GET", "dasktrainingjobs", 503, {"message": "etcd is gone"})] * 4
    with pytest.raises(UnreachableError, match=r"can't answer now \(503: etcd is gone\)"):
        client.list()


def test_a_job_that_is_not_there_gets_the_nearest_names(client, api):
    with pytest.raises(NotFoundError, match=r"no job flights in namespace default \(context here\); it has none"):
        client.get("flights")
    api.job("flights")
    api.job("trains")
    with pytest.raises(NotFoundError, match="did you mean flights"):
        client.get("flihgts")
    with pytest.raises(NotFoundError, match="there are: flights, trains"):
        client.get("zzz")


def test_what_the_server_objects_to_has_its_fields(client, api):
    api.invalid = [
        {"reason": "FieldValueInvalid", "message": 'Invalid value: "object": must be 1', "field": "spec.workers"},
        {"reason": "FieldValueInvalid", "message": "Invalid value: -1: should be at least 0", "field": "spec.x"},
        {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.runner"},
    ]
    with pytest.raises(JobFileError) as error:
        client.submit(JOB | KIND)
    assert [(each.path, each.message) for each in error.value.problems] == [
        ("spec.workers", "must be 1"),
        ("spec.x", "should be at least 0, got -1"),
        ("spec.runner", "Required value"),
    ]
    assert str(error.value).startswith("the cluster refuses flights: spec.workers: must be 1")
    assert client.list() == []


def test_fields_that_an_older_cluster_does_not_know(client, api):
    message = 'strict decoding error: unknown field "spec.session", unknown field "spec.a.b"'
    api.faults.append(("POST", "dasktrainingjobs", 400, {"reason": "BadRequest", "message": message}))
    with pytest.raises(JobFileError) as error:
        client.submit(JOB | KIND)
    assert [each.path for each in error.value.problems] == ["spec.session", "spec.a.b"]
    assert "another version" in error.value.problems[0].message


def test_lists_are_read_page_by_page(client, api, monkeypatch):
    pages = [{"items": [1, 2], "metadata": {"continue": "x"}}, {"items": [3], "metadata": {}}]
    asked = []
    monkeypatch.setattr(client.connection, "request", lambda *_, query: asked.append(query) or pages[len(asked) - 1])
    assert client.connection.list("/x") == [1, 2, 3]
    assert [query.get("continue") for query in asked] == [None, "x"]


def test_a_client_is_closed_by_its_context(api):
    with TrainingClient() as client:
        client.list()
    assert client.connection.api_client.rest_client.pool_manager.pools.keys() == set()


def certified(name: str, *, issuer=None):
    """Certificate and key, PEM: of an authority, or for 127.0.0.1 by *issuer*."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
    builder = builder.issuer_name(issuer[2] if issuer else subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    certificate = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM), key, subject, pem


def test_what_is_deleted_at_the_process_end_can_still_be_reached(api, tmp_path, monkeypatch):
    """The Kubernetes client writes a kubeconfig's certificates to files, which it removes first of all then."""
    import base64
    import ssl

    from kubernetes.config import kube_config

    authority = certified("authority")
    server = certified("server", issuer=authority)
    client = certified("client", issuer=authority)
    (tmp_path / "server.pem").write_bytes(server[0] + server[3])
    (tmp_path / "ca.pem").write_bytes(authority[0])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    context.load_verify_locations(tmp_path / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    api.server.socket = context.wrap_socket(api.server.socket, server_side=True)
    data = {
        "certificate-authority-data": authority[0],
        "client-certificate-data": client[0],
        "client-key-data": client[3],
    }
    ca, certificate, key = (f"{name}: {base64.b64encode(pem).decode()}" for name, pem in data.items())
    config = tmp_path / "tls"
    config.write_text(
        f"""\
apiVersion: v1
kind: Config
current-context: here
clusters: [{{name: fake, cluster: {{server: "{api.url.replace("http:", "https:")}", {ca}}}}}]
users: [{{name: me, user: {{{certificate}, {key}}}}}]
contexts: [{{name: here, context: {{cluster: fake, user: me}}}}]
"""
    )
    monkeypatch.setenv("KUBECONFIG", str(config))
    connection = Connection()
    api.job("flights")
    assert len(connection.list(jobs_path("default"))) == 1
    kube_config._cleanup_temp_files()
    connection.api_client.rest_client.pool_manager.clear()
    assert len(connection.list(jobs_path("default"))) == 1
    connection.close()
