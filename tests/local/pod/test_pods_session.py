"""A Session's scheduler and worker as real processes, and clients with certificates of their own keys."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from distributed import Client
from distributed.security import Security
from machine import slowdown

from dask_training import api
from dask_training.certificates import make_certificates

POD = "127.0.0.2"  # the loopback is another of its addresses, as in a pod


@pytest.fixture
def session(pods):
    """An attempt of a Session that runs, and what its client needs to connect."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    pem = request.public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    attempt = pods(env={api.Env.POD_IP: POD, api.Env.IDLE_TIMEOUT: "600"})
    attempt.env[api.Env.SCHEDULER_ADDRESS] = f"tls://{POD}:{attempt.scheduler_port}"
    made = make_certificates("lab", ("scheduler", "worker"), lifetime_seconds=3600, signing_request=pem)
    attempt.certificates = made
    attempt.start_cluster()
    security = Security(
        tls_ca_file=made.ca.decode(),
        tls_client_cert=made.client.decode(),
        tls_client_key=private.decode(),
        require_encryption=True,
    )
    return attempt, security


def told(attempt):
    return attempt.status()[1]


def test_a_client_comes_from_within_and_by_a_port_forward_and_is_counted(session, wait_until):
    attempt, security = session
    wait_until(lambda: told(attempt).get("workers") == 1)
    assert told(attempt)["clients"] == 0
    assert told(attempt)["noClientSeconds"] >= 0
    for host in (POD, "127.0.0.1"):
        with Client(f"tls://{host}:{attempt.scheduler_port}", security=security, timeout=10 * slowdown()) as client:
            assert client.submit(sum, [1, 2]).result(timeout=20 * slowdown()) == 3
            assert (told(attempt)["clients"], told(attempt)["noClientSeconds"]) == (1, None)
    wait_until(lambda: told(attempt)["clients"] == 0)
    assert told(attempt)["noClientSeconds"] < 10


def test_a_client_may_shut_its_cluster_down(session, wait_until):
    attempt, security = session
    wait_until(lambda: told(attempt).get("workers") == 1)
    client = Client(attempt.env[api.Env.SCHEDULER_ADDRESS], security=security, timeout=10 * slowdown())
    client.shutdown()
    assert attempt.pods["scheduler"].wait(20) == 0
    assert attempt.pods["scheduler"].termination is None, "the operator takes that for its client's will"
    assert attempt.worker(0).wait(20) == 0
