"""The job behind a session's cluster, seen from its client: made, watched until it is ready, scaled, deleted."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from dask_training.api import HEARTBEAT_ANNOTATION, HEARTBEAT_MANAGER, Phase, Reason, Role, child_name
from dask_training.client.connection import MERGE_PATCH, Body, Connection, core_path, jobs_path
from dask_training.client.following import job_pods, no_operator
from dask_training.client.jobs import JobHandle
from dask_training.client.owner import is_gone, own_pod
from dask_training.client.podlogs import PodLog
from dask_training.client.podstate import container_statuses
from dask_training.client.status_events import FINAL_PHASES, phase_of
from dask_training.client.submitting import Bundle, submit
from dask_training.client.watching import Watcher
from dask_training.errors import (
    AlreadyExistsError,
    ClusterStartError,
    ClusterStartTimeoutError,
    KubernetesError,
    NotFoundError,
)
from dask_training.model import JobFileError
from dask_training.session.keys import Credentials, make_key
from dask_training.session.manifest import (
    adapt_patch,
    option_error,
    scale_patch,
    session_body,
)
from dask_training.session.options import Options

_LOOK_SECONDS: Final = 0.25


class Stopped(Exception):  # noqa: N818 - no error: it was asked for
    """The start was given up by the caller."""


class SessionJob:
    """One Session job and how its client is let in. Its methods wait for the API server, and raise KubernetesError."""

    def __init__(self, connection: Connection, body: Body, credentials: Credentials) -> None:
        self.connection = connection
        self.body = body
        self.credentials = credentials

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
    def status(self) -> Mapping[str, Any]:
        """As it was last seen."""
        return self.body.get("status") or {}

    @property
    def scheduler_address(self) -> str:
        """Where clients within Kubernetes connect."""
        return str(self.status.get("schedulerAddress") or "")

    @property
    def is_reachable(self) -> bool:
        """Whether this process is where the cluster's Service and its NetworkPolicy let it in."""
        return self.connection.pod_namespace == self.namespace

    @property
    def scheduler_pod(self) -> str:
        """The name of the scheduler's pod."""
        return child_name(self.name, self.uid, max(1, int(self.status.get("attempt") or 1)), Role.SCHEDULER)

    def refresh(self) -> None:
        """See how it is now. Raises NotFoundError if it is gone."""
        handle = JobHandle(self.connection, self.body)
        handle.status()
        self.body = handle.body

    def scale(self, count: int) -> None:
        """Have so many workers; those that go hand over what they hold first."""
        self._patch(scale_patch(count))

    def adapt(self, minimum: int, maximum: int) -> None:
        """Let the number of workers follow the work."""
        self.refresh()
        now = int((self.body["spec"].get("workers") or {}).get("replicas") or minimum)
        self._patch(adapt_patch(minimum, maximum, now))

    def beat(self) -> None:
        """Say that its owner is alive."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._patch({"metadata": {"annotations": {HEARTBEAT_ANNOTATION: now}}}, manager=HEARTBEAT_MANAGER)

    def delete(self) -> None:
        """Remove it with all that it has running; well if it is gone already."""
        path = jobs_path(self.namespace, self.name)
        options = {"preconditions": {"uid": self.uid}, "propagationPolicy": "Background"}
        with contextlib.suppress(NotFoundError):
            self.connection.request("DELETE", path, body=options)

    def pods(self) -> list[Body]:
        """Its pods that exist now."""
        return job_pods(self.connection, self.namespace, self.uid)

    def log(self, pod: Body) -> str:
        """What a pod has written so far; empty for one that has not begun, or is gone."""
        try:
            return "\n".join(PodLog(self.connection, self.namespace, str(pod["metadata"]["name"])).lines(follow=False))
        except NotFoundError:
            return ""

    def scheduler_runs(self) -> bool:
        """Whether the scheduler's container runs."""
        try:
            pod = self.connection.request("GET", core_path(self.namespace, "pods", self.scheduler_pod))
        except NotFoundError:
            return False
        return any("running" in (each.get("state") or {}) for each in container_statuses(pod))

    def _patch(self, patch: Body, manager: str = "dask-training") -> None:
        metadata = (patch.get("metadata") or {}) | {"uid": self.uid}  # another job of that name is refused
        self.body = self.connection.request(
            "PATCH",
            jobs_path(self.namespace, self.name),
            query={"fieldManager": manager},
            body=patch | {"metadata": metadata},
            content_type=MERGE_PATCH,
        )


def launch(
    connection: Connection, options: Options, say: Callable[[str], None], stop: threading.Event, deadline: float
) -> SessionJob:
    """Make the job and wait until a client can connect; *say* is told what it waits for.

    Whatever goes wrong, and when *stop* is set (Stopped), nothing is left. Raises OptionError, AlreadyExistsError,
    ClusterStartError, ClusterStartTimeoutError (at *deadline*, of time.monotonic) or another KubernetesError.
    """
    name = options.name or f"session-{secrets.token_hex(3)}"
    namespace = connection.namespace
    key = make_key(name)
    owner = own_pod(connection, say, "cluster") if options.shutdown_on_close else None
    body = session_body(options, name=name, namespace=namespace, request=key.request, owner=owner)
    say(f"Creating cluster {name} in namespace {namespace}")
    try:
        made = _submit(connection, body, options)
        job = SessionJob(connection, made, Credentials("", key.key, ""))
        _await_ready(job, options, say, stop, deadline)
    except BaseException:
        _remove(connection, namespace, name, key.request)
        raise
    session = job.status["session"]
    job.credentials = Credentials(str(session["certificate"]), key.key, str(session["certificateAuthority"]))
    return job


def ended(body: Mapping[str, Any]) -> tuple[str, str] | None:
    """Reason and message of a job that is over, or about to be; None for one that goes on."""
    status = body.get("status") or {}
    conditions = {str(each.get("type")): each for each in status.get("conditions") or ()}
    for kind in ("FailureTarget", "SuccessCriteriaMet"):
        if (conditions.get(kind) or {}).get("status") == "True":
            condition = conditions[kind]
            return str(condition.get("reason") or ""), str(status.get("message") or condition.get("message") or "")
    if phase_of(body) in FINAL_PHASES:
        return str(status.get("reason") or ""), str(status.get("message") or "")
    return None


def _submit(connection: Connection, body: Body, options: Options) -> Body:
    name = str(body["metadata"]["name"])
    bundle = Bundle(jobs=(body,), code={name: options.code} if options.code else {})
    try:
        return submit(connection, bundle, replace=True)[0]
    except JobFileError as error:
        raise option_error(error) from error
    except AlreadyExistsError as error:
        namespace = body["metadata"]["namespace"]
        there = f"name: there is a cluster or job {name} in namespace {namespace} already"
        raise AlreadyExistsError(
            f"{there}; choose another name, or attach to it with TrainingCluster.from_name({name!r})"
        ) from error


def _await_ready(
    job: SessionJob, options: Options, say: Callable[[str], None], stop: threading.Event, deadline: float
) -> None:
    told = ""
    with Watcher(job.connection, job.namespace, job.name, job.uid) as watcher:
        while True:
            if stop.is_set():
                raise Stopped
            if time.monotonic() > deadline:
                raise too_late(job, options.startup_seconds)
            try:
                body = watcher.next(_LOOK_SECONDS)
            except NotFoundError:
                raise ClusterStartError(f"cluster {job.name} was deleted while it started", "Deleted") from None
            job.body = body or job.body
            if (end := ended(job.body)) is not None:
                raise failed(job, end, options.startup_seconds)
            if _is_ready(job, options):
                return
            news = _news(job)
            if news != told:
                told = news
                say(news)


def _is_ready(job: SessionJob, options: Options) -> bool:
    """Whether the client's certificate is there, and what it is to connect to."""
    if not (job.status.get("session") or {}).get("certificate") or not job.scheduler_address:
        return False
    return phase_of(job.body) is Phase.RUNNING or (not options.wait and job.scheduler_runs())


def _news(job: SessionJob) -> str:
    if not job.status:
        return "Waiting for the operator"
    message = str(job.status.get("message") or "").split("\n", 1)[0]
    return f"{message[:1].upper()}{message[1:]}" if message else "Waiting for the scheduler and the workers"


def failed(job: SessionJob, end: tuple[str, str], seconds: int) -> ClusterStartError:
    """The error for a cluster that ended while it started."""
    reason, message = end
    if reason == Reason.STARTUP_DEADLINE_EXCEEDED:
        return too_late(job, seconds)
    return ClusterStartError(f"cluster {job.name} could not be started: {reason}: {message}", reason)


def too_late(job: SessionJob, seconds: int) -> ClusterStartTimeoutError:
    """The error for a cluster that was not ready in time, with what it lacks as far as it is known."""
    reason, message = str(job.status.get("reason") or ""), str(job.status.get("message") or "")
    if not job.status:
        reason = "NoOperator"
        message = no_operator(job.namespace, seconds)
    said = f"cluster {job.name} was not ready after {seconds} s (startup_timeout): {reason}: {message}"
    return ClusterStartTimeoutError(f"{said}\nIt was removed. Mend that, or give it more time.", reason)


def _remove(connection: Connection, namespace: str, name: str, request: str) -> None:
    """Delete the job that was made for this very request, if it was; else it goes by its time-outs."""
    with contextlib.suppress(KubernetesError):
        body = connection.request("GET", jobs_path(namespace, name))
        if (body["spec"].get("session") or {}).get("certificateSigningRequest") == request and not is_gone(body):
            SessionJob(connection, body, Credentials("", "", "")).delete()
