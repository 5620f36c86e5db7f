"""`TrainingClient` and `JobHandle`: jobs on a cluster, for Python."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from dask_training.api import GROUP, Label, Phase
from dask_training.client.connection import MERGE_PATCH, Body, Connection, core_path, jobs_path
from dask_training.client.following import Following, job_pods
from dask_training.client.joblogs import stored_log
from dask_training.client.podlogs import PodLog
from dask_training.client.reader import open_store, run_prefix
from dask_training.client.status_events import FINAL_PHASES, phase_of
from dask_training.client.submitting import Bundle, delete_and_wait, submit
from dask_training.client.watching import Watcher
from dask_training.errors import KubernetesError, NotFoundError
from dask_training.model import TrainingJob, load_job_file
from dask_training.model.documents import read_documents
from dask_training.runner.events import Finished, Listener


class WaitTimeoutError(KubernetesError, TimeoutError):
    """The job was not in one of the awaited phases in time."""


class TrainingClient:
    """Jobs in one namespace of a cluster.

    *context* and *namespace* are the kubeconfig's current ones by default; inside a pod its service account's. Raises
    NoKubeconfigError if there is no way to a cluster. Nothing is contacted yet. Can be used as a context manager.
    """

    def __init__(self, context: str | None = None, namespace: str | None = None) -> None:
        self.connection = Connection(context, namespace)

    @property
    def namespace(self) -> str:
        """Where jobs are looked for and made."""
        return self.connection.namespace

    def submit(self, job: TrainingJob | Mapping[str, Any] | str | Path, *, replace: bool = False) -> JobHandle:
        """Make a job: a TrainingJob, an object as Kubernetes has it, or a job file (all its documents are applied).

        With *replace* a finished job of that name is deleted first. Raises JobFileError for one that is not right,
        AlreadyExistsError, or another KubernetesError; then nothing was made.
        """
        if isinstance(job, TrainingJob):
            bundle = Bundle(jobs=(job.to_body(),))
        elif isinstance(job, Mapping):
            TrainingJob.from_body(job)
            bundle = Bundle(jobs=(dict(job),))
        else:
            path = Path(job)
            bundle = bundle_of(path.read_text(encoding="utf-8"), source=str(path))
        return self.submit_bundle(bundle, replace=replace)[0]

    def submit_bundle(self, bundle: Bundle, *, replace: bool = False) -> list[JobHandle]:
        """As `submit`, for several jobs and what they need."""
        return [JobHandle(self.connection, body) for body in submit(self.connection, bundle, replace=replace)]

    def get(self, name: str) -> JobHandle:
        """The job of that name. Raises NotFoundError, naming the nearest ones."""
        try:
            return JobHandle(self.connection, self.connection.request("GET", jobs_path(self.namespace, name)))
        except NotFoundError:
            raise NotFoundError(self._no_such(name)) from None

    def list(self, *, all_namespaces: bool = False) -> list[Body]:
        """All jobs, as Kubernetes has them, by namespace and name."""
        jobs = self.connection.list(jobs_path(None if all_namespaces else self.namespace))
        return sorted(jobs, key=lambda job: (job["metadata"]["namespace"], job["metadata"]["name"]))

    def close(self) -> None:
        """Let go of the connections."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _no_such(self, name: str) -> str:
        import difflib  # noqa: PLC0415 - only here

        context = f" (context {self.connection.context})" if self.connection.context else ""
        said = f"there is no job {name} in namespace {self.namespace}{context}"
        names = [str(job["metadata"]["name"]) for job in self.list()]
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        if near:
            return f"{said}; did you mean {' or '.join(near)}?"
        return f"{said}; there are: {', '.join(names[:10])}" if names else f"{said}; it has none"


class JobHandle:
    """One job on a cluster; made anew under its name, it is another job, which this handle does not see."""

    def __init__(self, connection: Connection, body: Body) -> None:
        self.connection = connection
        self.body = body
        """As it was last seen."""
        self.artifacts = JobArtifacts(self)

    def __repr__(self) -> str:
        return f"JobHandle({self.namespace}/{self.name}, {phase_of(self.body)})"

    @property
    def name(self) -> str:
        """The job's name."""
        return str(self.body["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """The job's namespace."""
        return str(self.body["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        """What tells it from an earlier or later job of its name."""
        return str(self.body["metadata"]["uid"])

    @property
    def phase(self) -> Phase:
        """Where it was when it was last seen."""
        return phase_of(self.body)

    def status(self) -> dict[str, Any]:
        """The job's status as it is now. Raises NotFoundError if the job is gone."""
        body = self.connection.request("GET", jobs_path(self.namespace, self.name))
        if body["metadata"]["uid"] != self.uid:
            raise NotFoundError(f"the job {self.name} was deleted; there is another one of its name")
        self.body = body
        return dict(body.get("status") or {})

    def wait(self, for_: Collection[str] = FINAL_PHASES, timeout: float | None = None) -> Phase:
        """Wait until the job is in one of the phases *for_* (Succeeded or Failed), and return which.

        A job that ends in another phase ends the wait, too. Raises WaitTimeoutError after *timeout* seconds,
        NotFoundError if the job is deleted.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        wanted = {str(each) for each in for_}
        with Watcher(self.connection, self.namespace, self.name, self.uid) as watcher:
            while True:
                left = 1.0 if deadline is None else min(1.0, deadline - time.monotonic())
                if left <= 0:
                    said = " or ".join(sorted(wanted))
                    raise WaitTimeoutError(f"{self.name} is {self.phase}, not {said}, after {timeout:g} s")
                body = watcher.next(left)
                if body is None:
                    continue
                self.body = body
                if self.phase in wanted or self.phase in FINAL_PHASES:
                    return self.phase

    def wait_deleted(self, timeout: float | None = None) -> None:
        """Wait until the job is gone. Raises WaitTimeoutError after *timeout* seconds."""
        try:
            phase = self.wait(for_=("(deleted)",), timeout=timeout)
        except NotFoundError:
            return
        deadline = None if timeout is None else time.monotonic() + timeout
        while deadline is None or time.monotonic() < deadline:
            try:
                self.status()
            except NotFoundError:
                return
            time.sleep(0.5)
        raise WaitTimeoutError(f"{self.name} ({phase}) still exists after {timeout:g} s")

    def follow(self, listen: Listener, stop: threading.Event | None = None, *, output: bool = True) -> Finished | None:
        """Give *listen* everything that happens, from now on, as events of `dask_training.runner.events`.

        With *output* the lines that the job's code prints, too. Returns the last event; None if *stop* was set.
        """
        return Following(
            self.connection, self.namespace, self.name, self.uid, listen, stop or threading.Event(), output=output
        ).run()

    def logs(self, *, role: str = "runner", worker: int = 0, follow: bool = False) -> Iterator[str]:
        """Lines of a pod's log (role runner, scheduler or worker); of the stored one when the pod is gone.

        With *follow* also the lines that come, until the pod ends. Raises NotFoundError if there is neither.
        """
        attempt = max(1, int(self.status().get("attempt") or 1))
        pods = job_pods(self.connection, self.namespace, self.uid, role=role, attempt=attempt)
        if role == "worker":
            pods = [pod for pod in pods if pod["metadata"]["labels"].get(Label.INDEX) == str(worker)]
        if pods:
            name = str(pods[0]["metadata"]["name"])
            yield from PodLog(self.connection, self.namespace, name).lines(follow=follow)
            return
        with open_store(self.connection, self.body) as store:
            name = f"{role}-{worker}" if role == "worker" else role
            yield from stored_log(store, run_prefix(self.body, attempt), name)

    def pods(self, *, attempt: int | None = None) -> list[Body]:
        """The job's pods that exist now, as Kubernetes has them."""
        return job_pods(self.connection, self.namespace, self.uid, attempt=attempt)

    def events(self) -> list[Body]:
        """Kubernetes' events about the job and its pods, the latest last."""
        listed = self.connection.list(core_path(self.namespace, "events"))
        prefix = f"{self.name}-"
        mine = [
            event
            for event in listed
            if event.get("involvedObject", {}).get("uid") == self.uid
            or (
                event.get("involvedObject", {}).get("kind") == "Pod"
                and str(event["involvedObject"].get("name")).startswith(prefix)
                and event_time(event) >= str(self.body["metadata"].get("creationTimestamp"))
            )
        ]
        return sorted(mine, key=event_time)

    def suspend(self) -> None:
        """Have everything removed until `resume`; then a new attempt starts."""
        self._patch({"spec": {"suspend": True}})

    def resume(self) -> None:
        """Let a suspended job start again."""
        self._patch({"spec": {"suspend": False}})

    def scale(self, workers: int) -> None:
        """Have so many workers; those that go hand over what they hold first."""
        path = jobs_path(self.namespace, self.name, "scale")
        self.connection.request("PATCH", path, body={"spec": {"replicas": workers}}, content_type=MERGE_PATCH)

    def delete(self, *, wait: bool = False) -> None:
        """Delete the job and all it has running; its artifacts stay. With *wait*, until its pods are gone, too."""
        delete_and_wait(self.connection, self.body)
        deadline = time.monotonic() + 60
        while wait and self.pods():
            if time.monotonic() > deadline:
                raise WaitTimeoutError(f"pods of {self.name} are still there after 60 s")
            time.sleep(0.3)

    def _patch(self, patch: dict[str, Any]) -> None:
        body = patch | {"metadata": {"uid": self.uid}}  # another job of that name is refused
        path = jobs_path(self.namespace, self.name)
        self.body = self.connection.request("PATCH", path, body=body, content_type=MERGE_PATCH)


class JobArtifacts:
    """What a job keeps, read from outside the cluster."""

    def __init__(self, handle: JobHandle) -> None:
        self._handle = handle

    def download(self, target: str | Path, *, only: Collection[str] | None = None) -> list[Path]:
        """Copy the files of the last stored attempt, or *only* those, into the folder *target*, each verified first.

        Returns their paths. Raises KubernetesError if the store can't be reached, ArtifactError if it can't be read.
        """
        self._handle.status()
        with open_store(self._handle.connection, self._handle.body) as store:
            return store.get(last_run(store.runs(run_prefix(self._handle.body))), Path(target), only=only)


def last_run(runs: list[str]) -> str:
    """The run of the latest attempt. Raises NotFoundError if there is none."""
    if not runs:
        raise NotFoundError("the job has stored nothing (yet): a run is there when its manifest.json is")
    return max(runs, key=lambda run: int(run.rpartition("/")[2]))


def bundle_of(text: str, *, source: str) -> Bundle:
    """What the job file *text* asks to be made; raises JobFileError with all that is wrong with it."""
    job_file = load_job_file(text, source=source)
    names = {job.name for job in job_file.jobs}
    bodies = [document.value for document in read_documents(text, source=source)]
    jobs = tuple(body for body in bodies if _is_job(body, names))
    return Bundle(jobs=jobs, objects=tuple(body for body in bodies if not _is_job(body, names)))


def _is_job(body: Mapping[str, Any], names: Collection[str]) -> bool:
    return str(body.get("apiVersion", "")).startswith(f"{GROUP}/") and body["metadata"]["name"] in names


def event_time(event: Body) -> str:
    """When a Kubernetes event was last seen; times of this form sort as text."""
    known = (event.get("lastTimestamp"), event.get("eventTime"), event["metadata"].get("creationTimestamp"))
    return str(next((time for time in known if time), ""))
