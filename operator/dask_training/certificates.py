"""Certificates of one attempt: a CA made in memory, its key dropped after signing, and one leaf for each role."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# A clock that is a little behind must not refuse a certificate that was just made.
_NOT_BEFORE = datetime.timedelta(hours=24)
# Python 3.13 checks as strictly as RFC 5280 is written: a CA whose path length is limited has to say that it may sign.
_CA_USAGE = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True)
class Leaf:
    """A role's certificate and private key, PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class Certificates:
    """The CA's certificate (PEM) and each role's leaf."""

    ca: bytes
    leaves: Mapping[str, Leaf]


def make_certificates(name: str, roles: Sequence[str], *, lifetime_seconds: float) -> Certificates:
    """A new CA (EC P-256) named `name` and a leaf for each role, good for `lifetime_seconds` from now."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} CA")])
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=lifetime_seconds)
    ca = (
        _builder(subject, subject, ca_key.public_key(), until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_CA_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    leaves = {role: _leaf(name, role, subject, ca_key, until) for role in roles}
    return Certificates(ca=ca.public_bytes(serialization.Encoding.PEM), leaves=leaves)


def _leaf(
    name: str, role: str, issuer: x509.Name, ca_key: ec.EllipticCurvePrivateKey, until: datetime.datetime
) -> Leaf:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} {role}")])
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        _builder(subject, issuer, key.public_key(), until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return Leaf(
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, until: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime.now(datetime.UTC) - _NOT_BEFORE)
        .not_valid_after(until)
    )
