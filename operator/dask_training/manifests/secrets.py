"""The Secret of an attempt: certificates, the job and the token, each role shown its own part alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from dask_training.api import Mode, Role
from dask_training.certificates import Certificates
from dask_training.manifests.attempt import Attempt
from dask_training.model import TrainingJob
from dask_training.model.job import check_body

_LIFETIME_SLACK_SECONDS = 3600
# A certificate for each part that dials or listens; the runner is the cluster's client.
_LEAVES = {Role.SCHEDULER: "scheduler", Role.WORKER: "worker", Role.RUNNER: "client"}


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


def secret_request(attempt: Attempt, service_uid: str) -> SecretRequest:
    """The attempt's Secret, owned by its Service: it goes with it."""
    job = attempt.job
    roles = [role for role in _LEAVES if role is not Role.RUNNER or job.spec.mode is Mode.BATCH]
    metadata = attempt.metadata(attempt.name, Role.CLUSTER, owner=attempt.service_owner(attempt.name, service_uid))
    token = scheduler_token(attempt.settings.key, job.metadata.uid, attempt.number)
    return SecretRequest(
        name=attempt.name,
        namespace=job.namespace,
        labels=metadata["labels"],
        owner=metadata["ownerReferences"][0],
        common_name=attempt.name,
        roles=tuple(_LEAVES[role] for role in roles),
        lifetime_seconds=job.spec.active_deadline_seconds + _LIFETIME_SLACK_SECONDS,
        data={"job.json": job_document(job), "token": token.encode()},
    )


def job_document(job: TrainingJob) -> bytes:
    """The job as the runner reads it: its body with all defaults filled in, whatever the runner's version has."""
    complete, _ = check_body(job.to_body())
    metadata = {"name": job.name, "namespace": job.namespace, "uid": job.metadata.uid, "labels": job.metadata.labels}
    return msgspec.json.encode(complete | {"metadata": metadata})


def scheduler_token(key: bytes, uid: str, attempt: int) -> str:
    """The token that an attempt's scheduler asks for on its status endpoint; the operator derives it again any time."""
    return hmac.new(key, f"{uid}/{attempt}".encode(), hashlib.sha256).hexdigest()
