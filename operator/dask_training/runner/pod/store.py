"""The runner's store: opened and checked while the cluster starts, and written to at the end."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping

from dask_training.api import Env, ExitCode, Reason
from dask_training.artifacts import ArtifactStore
from dask_training.artifacts.layout import key_prefix
from dask_training.errors import ArtifactError
from dask_training.model import TrainingJob
from dask_training.runner import records
from dask_training.runner.attempt_record import AttemptRecord
from dask_training.runner.events import Listener, MetricValue
from dask_training.runner.keeping import Keeper, Kept, Place
from dask_training.runner.pod.paths import PodPaths
from dask_training.runner.store_credentials import credentials_of, mounted_secret
from dask_training.runner.verdict import Outcome
from dask_training.runner.workspace import Workspace

_LOST = "The files could not be kept: nothing else outlives the runner's pod."
_NICE = 15  # what a store's library takes to be imported is not to be taken from those who start the cluster
_CHECK_SECONDS = 10.0
_HURRY_SECONDS = 15.0  # for what is kept of a runner that is told to end: half of what the kubelet gives to its pod
# The operator's own store, account and bucket may have been made this very moment: no refusal is its last word so soon.
_SETTLE_SECONDS = 4.0


class PodStore:
    """Keeps an attempt's files where `DASK_TRAINING_STORE_URL` says."""

    def __init__(
        self, job: TrainingJob, attempt: int, workspace: Workspace, paths: PodPaths, listener: Listener
    ) -> None:
        self._job = job
        self._attempt = attempt
        self._workspace = workspace
        self._paths = paths
        self._listener = listener
        self._keeper: Keeper | None = None
        self._failure: Outcome | None = None
        self._opening = threading.Lock()
        self._checking: threading.Thread | None = None

    def check(self, on_failure: Callable[[Outcome], None]) -> None:
        """Begins to see whether the store can be written to; `on_failure` is called from a thread if it can't."""

        def check() -> None:
            importing = threading.Thread(target=self._open_nicely, name="open-store", daemon=True)
            importing.start()
            importing.join()
            own = self._job.spec.artifacts.destination is None
            patience = _SETTLE_SECONDS if own else 0.0
            failure = self._failure or (self._keeper.check(patience=patience) if self._keeper else None)
            if failure is not None:
                on_failure(failure)
            else:
                # Looked for now, so that it does not take its time at the end.
                records.installed_packages(self._workspace.layer_site if self._job.spec.packages else None)

        self._checking = threading.Thread(target=check, name="check-store", daemon=True)
        self._checking.start()

    def keep(
        self, outcome: Outcome, reported: Mapping[str, MetricValue], record: AttemptRecord, *, hurried: bool
    ) -> tuple[Outcome, Kept]:
        """Stores everything; see `Keeper.keep`."""
        if self._checking is not None:
            self._checking.join(_CHECK_SECONDS if not hurried else 0.2)
        self._open()
        if self._keeper is None:
            failure = self._failure if outcome.succeeded else None
            return failure or outcome, Kept(dict(reported))
        return self._keeper.keep(outcome, reported, record, hurried=hurried)

    def _open_nicely(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)  # of this thread alone, which ends soon
        self._open()

    def _open(self) -> None:
        with self._opening:
            if self._keeper is not None or self._failure is not None:
                return
            try:
                self._keeper = self._made()
            except ArtifactError as error:
                self._failure = Outcome(Reason.ARTIFACT_STORE_FAILED, str(error), ExitCode.ARTIFACT_STORE)

    def _made(self) -> Keeper:
        url = os.environ.get(Env.STORE_URL, "")
        if not url:
            raise ArtifactError("the job has no artifact store: set spec.artifacts.destination, or install one")
        credentials = credentials_of(mounted_secret(self._paths.store_secret), os.environ)
        store = ArtifactStore.from_url(url, credentials=credentials)
        prefix = key_prefix(self._job.namespace, self._job.name, self._job.metadata.uid, self._attempt)
        return Keeper(
            self._job,
            self._attempt,
            self._workspace,
            self._listener,
            place=Place(store, prefix),
            fallback=None,
            lost=_LOST,
            hurry_seconds=_HURRY_SECONDS,
        )
