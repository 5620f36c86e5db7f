"""Where a local run's artifacts go: the store that the job names, or a folder on this machine."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from pathlib import Path

from dask_training.artifacts import ArtifactStore
from dask_training.artifacts.layout import key_prefix, local_key_prefix
from dask_training.model import JobFile, TrainingJob
from dask_training.runner.keeping import Place
from dask_training.runner.store_credentials import credentials_of


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
        store = ArtifactStore.from_url(wanted.url, credentials=credentials_of(secret, os.environ))
        return cls(store, job, run, remote=True, fallback=folder)

    def place(self, attempt: int) -> Place:
        """Where the attempt's files are to go."""
        if self.remote:
            return Place(self.store, key_prefix(self.job.namespace, self.job.name, self.job.metadata.uid, attempt))
        return self._folder_of(attempt)

    def fallback_place(self, attempt: int) -> Place | None:
        """Where they go if the store fails; None if that is a folder on this machine itself."""
        return self._folder_of(attempt) if self.remote else None

    def _folder_of(self, attempt: int) -> Place:
        run = self.run if attempt == 1 else f"{self.run}-attempt{attempt}"
        return Place(self.fallback, local_key_prefix(self.job.name, run))


def _new_run(uid: str) -> str:
    """A name that sorts by time, and that no other run has, even one that starts in the same second."""
    now = datetime.datetime.now().astimezone()
    return f"{now:%Y%m%d-%H%M%S}-{uid[:4]}"
