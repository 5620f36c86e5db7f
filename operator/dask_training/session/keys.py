"""The session's own key: it never leaves this process, but for a file of the user's where a cluster is to stay."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import dask.config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from distributed.security import Security

from dask_training.errors import NotAttachableError

_FORGET_SECONDS: Final = 31 * 86400
_KEY: Final = "PRIVATE KEY"
_CONFIG: Final = ("ca-file", "client.cert", "client.key")


@dataclass(frozen=True)
class ClientKey:
    """A private key and the request to certify its public half, PEM."""

    key: str = field(repr=False)
    request: str


@dataclass(frozen=True)
class Credentials:
    """What a client of one cluster shows and trusts, PEM."""

    certificate: str
    key: str = field(repr=False)
    authority: str

    @property
    def security(self) -> Security:
        """For `distributed.Client`; nothing but encrypted connections to this one cluster."""
        return Security(
            require_encryption=True,
            tls_ca_file=self.authority,
            tls_client_cert=self.certificate,
            tls_client_key=self.key,
        )


def make_key(name: str) -> ClientKey:
    """A new key (EC P-256) for the client of cluster *name*."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} client")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return ClientKey(pem.decode(), request.public_bytes(serialization.Encoding.PEM).decode())


# Files, for clusters that stay when their process goes.


def keep(uid: str, credentials: Credentials) -> Path:
    """Write the credentials to a file that only this user can read; returns its path."""
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _forget_old(folder)
    path = folder / f"{uid}.pem"
    text = "".join(f"{part.strip()}\n" for part in (credentials.key, credentials.certificate, credentials.authority))
    part = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        part.unlink()
    # Never readable for others, not even for a moment.
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
    part.replace(path)
    return path


def kept(uid: str, name: str) -> Credentials:
    """The credentials of the cluster *name* that were kept. Raises NotAttachableError."""
    path = _folder() / f"{uid}.pem"
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise NotAttachableError(
            f"the key of cluster {name} is not on this machine ({path}): a cluster can be attached to by the user, and "
            "on the machine, who launched it with shutdown_on_close=False"
        ) from None
    except (OSError, ValueError) as error:
        raise NotAttachableError(f"the key of cluster {name} can't be read from {path}: {error}") from error
    blocks = _blocks(text)
    if len(blocks) != 3 or _KEY not in blocks[0]:
        raise NotAttachableError(f"{path} does not hold the key of cluster {name}: delete the file")
    key, certificate, authority = blocks
    return Credentials(certificate, key, authority)


def forget(uid: str) -> None:
    """Remove the file, if there is one."""
    with contextlib.suppress(OSError):
        (_folder() / f"{uid}.pem").unlink(missing_ok=True)


def _blocks(text: str) -> list[str]:
    """The PEM blocks of a text."""
    blocks: list[str] = []
    lines: list[str] = []
    for line in text.splitlines():
        lines.append(line)
        if line.startswith("-----END "):
            blocks.append("\n".join(lines) + "\n")
            lines = []
    return blocks


def _folder() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "dask-training" / "sessions"


def _forget_old(folder: Path) -> None:
    """Of clusters that have long ended: nobody has told us."""
    for path in folder.glob("*.pem"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _FORGET_SECONDS:
                path.unlink()


# Dask's configuration, for code that connects by address.


class TLSConfig:
    """Which cluster's credentials `Client(address)` uses in this process: those of the one that came last.

    What the configuration said before comes back when the last cluster has gone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before: dict[str, Any] = {}
        self._entered: list[tuple[object, Credentials]] = []

    def enter(self, owner: object, credentials: Credentials) -> None:
        """Use the credentials, until `leave` is called with the same owner."""
        with self._lock:
            if not self._entered:
                self._before = {name: dask.config.get(_path(name), None) for name in _CONFIG}
            self._entered.append((owner, credentials))
            self._apply()

    def leave(self, owner: object) -> None:
        """Use what was used before."""
        with self._lock:
            known = len(self._entered)
            self._entered = [each for each in self._entered if each[0] is not owner]
            if len(self._entered) != known:
                self._apply()

    def _apply(self) -> None:
        values: dict[str, Any] = dict(self._before)
        if self._entered:
            credentials = self._entered[-1][1]
            values = {
                "ca-file": credentials.authority,
                "client.cert": credentials.certificate,
                "client.key": credentials.key,
            }
        dask.config.set({_path(name): value for name, value in values.items()})


def _path(name: str) -> str:
    return f"distributed.comm.tls.{name}"


tls_config: Final = TLSConfig()
