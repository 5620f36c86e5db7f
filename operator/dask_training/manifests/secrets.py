"""The Secret of an attempt: certificates, the job and the token, each role shown its own part alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from dask_training.api import ADVICE_ANNOTATION, Mode, Role
from dask_training.certificates import Certificates, make_certificates
from dask_training.manifests.attempt import Attempt, signed_secret_name
from dask_training.model import TrainingJob
from dask_training.model.job import check_body

_LIFETIME_SLACK_SECONDS = 3600
# A certificate for each part that dials or listens; the runner is the cluster's client.
_LEAVES = {Role.SCHEDULER: "scheduler", Role.WORKER: "worker", Role.RUNNER: "client"}


@dataclass(frozen=True)
class SecretRequest:
    """A Secret that can't be made purely: certificates are random. `manifest` gives it once they are there.

    With a `signing_request` whoever makes it also writes `session_status` into the job's status, at the version of the
    job that this was planned for.
    """

    name: str
    namespace: str
    labels: Mapping[str, str]
    owner: Mapping[str, Any]
    common_name: str
    roles: tuple[str, ...]
    lifetime_seconds: float
    data: Mapping[str, bytes] = field(repr=False)
    signing_request: str = ""

    @property
    def kind(self) -> str:
        """As a manifest's kind."""
        return "Secret"

    def manifest(self, certificates: Certificates) -> dict[str, Any]:
        """The Secret, with what `certificates` gave."""
        authority = certificates.ca.decode()
        name = signed_secret_name(self.name, authority) if self.signing_request else self.name
        files = {**({"ca.pem": certificates.ca} if self.roles else {}), **self.data}
        files |= {f"{role}.pem": leaf.certificate + leaf.key for role, leaf in certificates.leaves.items()}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": dict(self.labels),
                "ownerReferences": [dict(self.owner)],
            },
            "type": "Opaque",
            "immutable": True,
            "data": {name: base64.b64encode(content).decode() for name, content in sorted(files.items())},
        }

    def certificates(self) -> Certificates:
        """New certificates as the Secret needs them. Raises SigningRequestError."""
        return make_certificates(
            self.common_name,
            self.roles,
            lifetime_seconds=self.lifetime_seconds,
            signing_request=self.signing_request,
        )


def session_status(certificates: Certificates) -> dict[str, str]:
    """`status.session`: what a Session's client needs beside its own key."""
    return {"certificate": certificates.client.decode(), "certificateAuthority": certificates.ca.decode()}


def secret_request(attempt: Attempt, service_uid: str) -> SecretRequest:
    """The attempt's Secret, owned by its Service: it goes with it."""
    job = attempt.job
    roles = [role for role in _LEAVES if role is not Role.RUNNER or job.spec.mode is Mode.BATCH]
    if job.spec.cluster_ref is not None:
        roles = []  # dask-kubernetes knows no TLS: nobody could show or check a certificate
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
        signing_request=attempt.signing_request,
    )


def job_document(job: TrainingJob) -> bytes:
    """The job as the runner reads it: its body with all defaults filled in, whatever the runner's version has."""
    complete, _ = check_body(job.to_body())
    metadata = {"name": job.name, "namespace": job.namespace, "uid": job.metadata.uid, "labels": job.metadata.labels}
    if ADVICE_ANNOTATION in job.metadata.annotations:  # of the others some are large, and none is for the runner
        metadata["annotations"] = {ADVICE_ANNOTATION: job.metadata.annotations[ADVICE_ANNOTATION]}
    return msgspec.json.encode(complete | {"metadata": metadata})


def scheduler_token(key: bytes, uid: str, attempt: int) -> str:
    """The token that an attempt's scheduler asks for on its status endpoint; the operator derives it again any time."""
    return hmac.new(key, f"{uid}/{attempt}".encode(), hashlib.sha256).hexdigest()
