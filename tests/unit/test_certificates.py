"""Certificates of an attempt hold before every Python that a job's image may have."""

from __future__ import annotations

import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from dask_training.certificates import SigningRequestError, make_certificates, requested_key

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


# A client's own key.


def request_for(key, name="me"):
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    authority = x509.BasicConstraints(ca=True, path_length=None)
    builder = x509.CertificateSigningRequestBuilder().subject_name(name).add_extension(authority, critical=True)
    return builder.sign(key, digest).public_bytes(serialization.Encoding.PEM).decode()


def new_key(kind, size=0):
    if kind == "rsa":
        return rsa.generate_private_key(65537, size)
    return ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(kind())


@pytest.mark.parametrize(
    "kind", [(ec.SECP256R1,), (ec.SECP384R1,), ("ed25519",), ("rsa", 2048)], ids=["P-256", "P-384", "Ed25519", "RSA"]
)
def test_a_client_s_key_gets_a_certificate_that_a_scheduler_accepts(tmp_path, kind):
    key = new_key(*kind)
    made = make_certificates("s-1", ["scheduler"], lifetime_seconds=600, signing_request=request_for(key, name="root"))
    certificate = x509.load_pem_x509_certificate(made.client)
    assert certificate.public_key() == key.public_key()
    assert certificate.subject.rfc4514_string() == "CN=s-1 session"  # of the request the key counts, and no more
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert b"PRIVATE" not in made.client + made.ca

    def context_of(protocol, pem, private):
        found = ssl.SSLContext(protocol)
        found.check_hostname, found.verify_mode = False, ssl.CERT_REQUIRED
        found.verify_flags |= STRICT
        found.load_verify_locations(cadata=made.ca.decode())
        (tmp_path / "own.pem").write_bytes(pem + private)
        found.load_cert_chain(tmp_path / "own.pem")
        return found

    own = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    scheduler = made.leaves["scheduler"]
    server = context_of(ssl.PROTOCOL_TLS_SERVER, scheduler.certificate, scheduler.key)
    assert handshake(server, context_of(ssl.PROTOCOL_TLS_CLIENT, made.client, own)) == "TLSv1.3"
    worker = context_of(ssl.PROTOCOL_TLS_CLIENT, scheduler.certificate, scheduler.key)
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        handshake(context_of(ssl.PROTOCOL_TLS_SERVER, made.client, own), worker)  # who would act as the scheduler


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ((ec.SECP521R1,), "its key is of a kind, or a size, that is not signed"),
        ((ec.SECP256K1,), "its key is of a kind, or a size, that is not signed"),
        (("rsa", 1024), "its key is of a kind, or a size, that is not signed"),
    ],
    ids=["P-521", "secp256k1", "short RSA"],
)
def test_other_keys_are_not_signed(kind, why):
    with pytest.raises(SigningRequestError, match=why):
        requested_key(request_for(new_key(*kind)))


def test_a_request_that_another_key_has_signed_is_refused():
    mine, other = (x509.load_pem_x509_csr(request_for(new_key(ec.SECP256R1)).encode()) for _ in range(2))
    raw, key = mine.public_bytes(serialization.Encoding.DER), serialization.Encoding.DER
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    bits = [each.public_key().public_bytes(key, form) for each in (mine, other)]
    forged = x509.load_der_x509_csr(raw.replace(bits[0], bits[1])).public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(SigningRequestError, match="is not signed with the key that it is for"):
        requested_key(forged)


NONE = "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n"


@pytest.mark.parametrize("text", ["", "x", NONE])
def test_what_is_no_request_is_said_to_be_none(text):
    with pytest.raises(SigningRequestError, match="make a request with an EC key"):
        requested_key(text)
