"""Where a local run's artifacts go: the store that the job names, or a folder on this machine."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dask_training.artifacts import ArtifactStore
from dask_training.artifacts.layout import key_prefix, local_key_prefix
from dask_training.model import JobFile, TrainingJob

_KEY = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_CREDENTIALS = (*_KEY, "AWS_ENDPOINT_URL", "AWS_REGION")


@dataclass(frozen=True)
class Destination:
    """A store and what to call this run in it; `fallback` is on this machine, for when a remote store fails."""

    store: ArtifactStore
    job: TrainingJob
    run: str
    remote: bool
    fallback: ArtifactStore

    @classmethod
    def of(cls, job: TrainingJob, job_file: JobFile, artifacts_root: Path) -> Destination:
        """The job's own destination, or a new `<artifacts_root>/<name>/<run>`.

        Raises ArtifactError for a URL that no store understands.
        """
        folder = ArtifactStore.from_url(str(artifacts_root.absolute()))
        run = _new_run(job.metadata.uid)
        wanted = job.spec.artifacts.destination
        if wanted is None or wanted.url is None:
            return cls(folder, job, run, remote=False, fallback=folder)
        secret = job_file.secrets.get(wanted.secret_ref.name, {}) if wanted.secret_ref else {}
        store = ArtifactStore.from_url(wanted.url, credentials=_credentials(secret))
        return cls(store, job, run, remote=True, fallback=folder)

    def prefix(self, attempt: int) -> str:
        """The run's place in `store`."""
        if self.remote:
            return key_prefix(self.job.namespace, self.job.name, self.job.metadata.uid, attempt)
        return self.fallback_prefix(attempt)

    def fallback_prefix(self, attempt: int) -> str:
        """The run's place in `fallback`."""
        return local_key_prefix(self.job.name, self.run if attempt == 1 else f"{self.run}-attempt{attempt}")


def _new_run(uid: str) -> str:
    """A name that sorts by time, and that no other run has, even one that starts in the same second."""
    now = datetime.datetime.now().astimezone()
    return f"{now:%Y%m%d-%H%M%S}-{uid[:4]}"


def _credentials(secret: Mapping[str, str]) -> dict[str, str]:
    """The Secret's; from this process's environment what the Secret does not have, but never a part of a key."""
    found = {name: os.environ[name] for name in _CREDENTIALS if name in os.environ}
    if any(name in secret for name in _KEY):
        found = {name: value for name, value in found.items() if name not in _KEY}
    return found | {name: secret[name] for name in _CREDENTIALS if name in secret}
