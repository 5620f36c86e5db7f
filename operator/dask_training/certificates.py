"""Certificates of one attempt: a CA made in memory, its key dropped after signing, and one leaf for each role."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dask_training.errors import DaskTrainingError

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
    """The CA's certificate (PEM) and each role's leaf; `client` is the certificate for a client's own key."""

    ca: bytes
    leaves: Mapping[str, Leaf]
    client: bytes = b""


class SigningRequestError(DaskTrainingError):
    """A certificate signing request can't be signed; the message says why and what to do."""


PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
_CURVES = (ec.SECP256R1, ec.SECP384R1)
_RSA_BITS = (2048, 8192)


def requested_key(signing_request: str) -> PublicKey:
    """The public key of a certificate signing request (PEM), all that is taken from it. Raises SigningRequestError."""
    advice = "make a request with an EC key (P-256 or P-384), an Ed25519 key or an RSA key of 2048 to 8192 bits"
    try:
        request = x509.load_pem_x509_csr(signing_request.encode())
        key = request.public_key()
        signed = _is_sound(key) and request.is_signature_valid
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        raise SigningRequestError(f"can't be read as a certificate signing request: {advice}") from None
    if not isinstance(key, PublicKey) or not _is_sound(key):
        raise SigningRequestError(f"its key is of a kind, or a size, that is not signed: {advice}")
    if not signed:
        raise SigningRequestError("is not signed with the key that it is for: make it anew")
    return key


def _is_sound(key: object) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        return _RSA_BITS[0] <= key.key_size <= _RSA_BITS[1]
    return isinstance(key, ed25519.Ed25519PublicKey) or (
        isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES)
    )


def make_certificates(
    name: str, roles: Sequence[str], *, lifetime_seconds: float, signing_request: str = ""
) -> Certificates:
    """A new CA (EC P-256) named `name` and a leaf for each role, good for `lifetime_seconds` from now.

    With a `signing_request` (PEM) also a certificate for its key, with which its owner can be a client and nothing
    else. Raises SigningRequestError.
    """
    client_key = requested_key(signing_request) if signing_request else None
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
    client = b"" if client_key is None else _signed(f"{name} session", client_key, subject, ca_key, until, _CLIENT)
    return Certificates(ca=ca.public_bytes(serialization.Encoding.PEM), leaves=leaves, client=client)


_CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
_BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


def _leaf(
    name: str, role: str, issuer: x509.Name, ca_key: ec.EllipticCurvePrivateKey, until: datetime.datetime
) -> Leaf:
    key = ec.generate_private_key(ec.SECP256R1())
    return Leaf(
        certificate=_signed(f"{name} {role}", key.public_key(), issuer, ca_key, until, _BOTH),
        key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def _signed(  # what a certificate says, by name
    name: str,
    key: PublicKey,
    issuer: x509.Name,
    ca_key: ec.EllipticCurvePrivateKey,
    until: datetime.datetime,
    usages: Sequence[x509.ObjectIdentifier],
) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(subject, issuer, key, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, until: datetime.datetime
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
