"""Certificates of an attempt hold before every Python that a job's image may have."""

from __future__ import annotations

import ssl

import pytest

from dask_training.certificates import make_certificates

# What ssl.create_default_context sets from Python 3.13 on.
STRICT = ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN


@pytest.fixture
def context(tmp_path):
    made = make_certificates("flights-1a2b3-1", ["scheduler", "worker"], lifetime_seconds=600)
    (tmp_path / "ca.pem").write_bytes(made.ca)

    def context(role: str, protocol: int, ca: bytes | None = None) -> ssl.SSLContext:
        leaf = tmp_path / f"{role}.pem"
        leaf.write_bytes(made.leaves[role].certificate + made.leaves[role].key)
        found = ssl.SSLContext(protocol)
        found.check_hostname = False
        found.verify_mode = ssl.CERT_REQUIRED
        found.verify_flags |= STRICT
        found.load_verify_locations(cadata=(ca or made.ca).decode())
        found.load_cert_chain(leaf)
        return found

    return context


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> str | None:
    """The protocol that both agree on."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(back, there),
        server.wrap_bio(there, back, server_side=True),
    ]
    for _ in range(5):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[0].version()


def test_both_sides_accept_each_other_as_strictly_as_python_3_13_checks(context):
    server, client = context("scheduler", ssl.PROTOCOL_TLS_SERVER), context("worker", ssl.PROTOCOL_TLS_CLIENT)
    assert handshake(server, client) == "TLSv1.3"


def test_another_attempt_s_ca_is_refused(context):
    other = make_certificates("flights-1a2b3-1", ["scheduler"], lifetime_seconds=600).ca
    server, client = context("scheduler", ssl.PROTOCOL_TLS_SERVER), context("worker", ssl.PROTOCOL_TLS_CLIENT, other)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client)
