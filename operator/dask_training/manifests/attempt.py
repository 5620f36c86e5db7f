"""What all objects of one attempt have in common: names, labels, owners."""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass
from typing import Any, Final

from dask_training import api
from dask_training.api import Label, Role
from dask_training.model import TrainingJob
from dask_training.settings import OperatorSettings

# What these labels say is true of the job alone, and of its objects we say it ourselves.
_NOT_COPIED: Final = (api.LABEL_PREFIX, "app.kubernetes.io/")


@dataclass(frozen=True)
class Attempt:
    """One attempt at a job; `first_started` is when the first began (activeDeadlineSeconds counts from then).

    `authority`: the certificate that tells a Session's Secret from others that were made for the same attempt.
    """

    job: TrainingJob
    number: int
    settings: OperatorSettings
    first_started: datetime.datetime
    authority: str = ""

    @property
    def name(self) -> str:
        """Name of the attempt's Service and NetworkPolicy, and of its Secret but in a Session with a client's key."""
        return api.attempt_name(self.job.name, self.job.metadata.uid, self.number)

    @property
    def signing_request(self) -> str:
        """The certificate signing request of a Session's client; "" if there is none."""
        session = self.job.spec.session
        return session.certificate_signing_request if session is not None else ""

    @property
    def secret(self) -> str:
        """Name of the Secret that its pods use."""
        return signed_secret_name(self.name, self.authority) if self.authority else self.name

    @property
    def image(self) -> str:
        """The image of its pods."""
        return self.job.spec.image or self.settings.runtime_image

    def child(self, role: Role, index: int | None = None) -> str:
        """Name of one of its pods."""
        return api.child_name(self.job.name, self.job.metadata.uid, self.number, role, index)

    def selector(self, role: Role | None = None) -> dict[str, str]:
        """The labels that find its pods, or those of a role."""
        return selector(self.job.metadata.uid, self.number) | ({} if role is None else {Label.ROLE.value: role.value})

    def metadata(self, name: str, role: Role, index: int | None = None, *, owner: dict[str, Any]) -> dict[str, Any]:
        """An object's metadata: fresh, so that no two objects share a part; it has the labels of the job, too."""
        labels = {
            **{key: value for key, value in self.job.metadata.labels.items() if not key.startswith(_NOT_COPIED)},
            Label.JOB.value: self.job.name,
            Label.MANAGED_BY.value: api.MANAGER,
            Label.NAME.value: "dask-training-job",
            **self.selector(role),
        }
        if index is not None:
            labels[Label.INDEX.value] = str(index)
        return {
            "name": name,
            "namespace": self.job.namespace,
            "labels": labels,
            "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
        }

    @property
    def owner(self) -> dict[str, Any]:
        """The job, as owner of its objects."""
        metadata = self.job.metadata
        return {"apiVersion": api.API_VERSION, "kind": api.KIND, "name": metadata.name, "uid": metadata.uid}

    @staticmethod
    def service_owner(name: str, uid: str) -> dict[str, Any]:
        """The Service, as owner of what goes with it."""
        return {"apiVersion": "v1", "kind": "Service", "name": name, "uid": uid}


def signed_secret_name(attempt: str, authority: str) -> str:
    """Name of the Secret with the certificates of this authority (PEM).

    Who was stopped between making a Secret and writing the client's certificate into the status can't have both of one
    authority any more, and makes both anew. With a name for each authority nothing has to be deleted or replaced for
    that, and of two operators at once the one whose status is written decides.
    """
    return f"{attempt}-{hashlib.sha256(authority.strip().encode()).hexdigest()[:8]}"


def selector(uid: str, attempt: int) -> dict[str, str]:
    """The labels that find all pods of a job's attempt."""
    return {Label.JOB_UID.value: uid, Label.ATTEMPT.value: str(attempt)}


def workers_selector(uid: str) -> str:
    """The label selector of a job's workers, for the scale subresource."""
    return f"{Label.JOB_UID}={uid},{Label.ROLE}={Role.WORKER}"
