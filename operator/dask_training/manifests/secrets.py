"""The Secret of an attempt: certificates, the job and the token, each role shown its own part alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dask_training.certificates import Certificates


@dataclass(frozen=True)
class SecretRequest:
    """A Secret that can't be made purely: certificates are random. `manifest` gives it once they are there."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    owner: Mapping[str, Any]
    common_name: str
    roles: tuple[str, ...]
    lifetime_seconds: float
    data: Mapping[str, bytes] = field(repr=False)

    @property
    def kind(self) -> str:
        """As a manifest's kind."""
        return "Secret"

    def manifest(self, certificates: Certificates) -> dict[str, Any]:
        """The Secret, with `make_certificates(common_name, roles, lifetime_seconds=lifetime_seconds)`."""
        files = {"ca.pem": certificates.ca, **self.data}
        files |= {f"{role}.pem": leaf.certificate + leaf.key for role, leaf in certificates.leaves.items()}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": dict(self.labels),
                "ownerReferences": [dict(self.owner)],
            },
            "type": "Opaque",
            "immutable": True,
            "data": {name: base64.b64encode(content).decode() for name, content in sorted(files.items())},
        }


def scheduler_token(key: bytes, uid: str, attempt: int) -> str:
    """The token that an attempt's scheduler asks for on its status endpoint; the operator derives it again any time."""
    return hmac.new(key, f"{uid}/{attempt}".encode(), hashlib.sha256).hexdigest()
