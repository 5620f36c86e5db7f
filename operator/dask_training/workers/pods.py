"""Workers as pods of a cluster: one job of mode Workers for each call, which goes with this session."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import threading
import time
from collections.abc import Collection, Mapping
from typing import Any, Final

from dask_training.api import HEARTBEAT_ANNOTATION, HEARTBEAT_MANAGER, Reason, Role, child_name
from dask_training.client.connection import MERGE_PATCH, Body, Connection, jobs_path
from dask_training.client.following import no_operator
from dask_training.client.owner import own_pod
from dask_training.client.status_events import is_finished
from dask_training.client.submitting import Bundle, submit
from dask_training.client.watching import Watcher
from dask_training.errors import ForbiddenError, KubernetesError, NotFoundError
from dask_training.workers import output
from dask_training.workers.launcher import Refused, ended_badly, launch_document
from dask_training.workers.manifest import HEARTBEAT_SECONDS, blocker_of, code_of, worker_of, workers_body
from dask_training.workers.podoutput import Outputs
from dask_training.workers.project import pack_project, pack_script
from dask_training.workers.records import Status, Table, Worker, now
from dask_training.workers.request import Request
from dask_training.workers.session import Identity
from dask_training.workers.state import Settings

_LOOK_SECONDS: Final = 0.2
_OPERATOR_SECONDS: Final = 30.0  # an operator's successor takes half of that to begin
_MADE_SECONDS: Final = 300.0
_STOP_SECONDS: Final = 20.0
_CLOSE_SECONDS: Final = 5.0
_RELEASE_SECONDS: Final = 15.0
_QUOTA: Final = "exceeded quota"
# Ends of a job that are the workers' own, and no refusal.
_OWN_ENDS: Final = frozenset({Reason.COMPLETED, Reason.WORKERS_FAILED})


class PodGroup:
    """The pods of one call, followed by a thread: their states, their output, the session's heartbeat."""

    def __init__(self, connection: Connection, body: Body, table: Table) -> None:
        self._connection = connection
        self._table = table
        metadata = body["metadata"]
        self.name, self._namespace, self._uid = (str(metadata[key]) for key in ("name", "namespace", "uid"))
        replicas = int(body["spec"]["workers"]["replicas"])
        self.ids = tuple(child_name(self.name, self._uid, 1, Role.WORKER, index) for index in range(replicas))
        self._outputs = Outputs(connection, self._namespace)
        self._known = threading.Event()
        self._refusal: tuple[str, str] | None = None
        self._waiting: dict[str, Worker] = {}
        self._message = ""
        self._stopping: set[int] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._gone = False
        self._next_beat = 0.0
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._follow, name=f"workers {self.name}", daemon=True)

    def start(self) -> tuple[str, str] | None:
        """Wait until all pods have been made; reason and message if they are refused.

        Raises KubernetesError where nobody makes them.
        """
        self._thread.start()
        began = time.monotonic()
        while not self._known.wait(_LOOK_SECONDS):
            waited = time.monotonic() - began
            if not self._message and waited > _OPERATOR_SECONDS:
                raise KubernetesError(no_operator(self._namespace, _OPERATOR_SECONDS))
            if waited > _MADE_SECONDS:
                raise KubernetesError(f"{self.name}: not all pods were made in {waited:.0f} s: {self._message}")
        return self._refusal

    def stop(self, ids: Collection[str]) -> None:
        """Have the operator end these pods; returns when they have ended, or after 20 s."""
        with self._lock:
            self._stopping |= {self.ids.index(each) for each in ids}
            wanted = sorted(self._stopping)
        with contextlib.suppress(NotFoundError):
            self._patch({"spec": {"workers": {"stopped": wanted}}})
        self._table.wait(list(ids), lambda worker: worker.is_final, _STOP_SECONDS)

    def begin_close(self) -> None:
        """Delete the job, with all it has."""
        if os.getpid() != self._pid or self._closing.is_set():
            return
        self._closing.set()
        self._outputs.stop()
        path = jobs_path(self._namespace, self.name)
        with contextlib.suppress(KubernetesError):
            options = {"preconditions": {"uid": self._uid}, "propagationPolicy": "Background"}
            if not self._gone:
                self._connection.request("DELETE", path, body=options)

    def close(self) -> None:
        """As `begin_close`; the workers count as stopped."""
        if os.getpid() != self._pid:
            return
        self.begin_close()
        self._thread.join(_CLOSE_SECONDS)
        for each in self.ids:
            self._table.update(each, status=Status.STOPPED, finished_at=now())

    def wait_released(self) -> None:
        """Wait until the pods of a group that was refused are gone, so that they do not count for what comes next."""
        deadline = time.monotonic() + _RELEASE_SECONDS
        with contextlib.suppress(KubernetesError):
            while time.monotonic() < deadline:
                body = self._connection.request("GET", jobs_path(self._namespace, self.name))
                if is_finished(body):
                    return
                time.sleep(_LOOK_SECONDS)

    # In the thread.

    def _follow(self) -> None:
        while not self._closing.is_set() and not self._is_over():
            try:
                with Watcher(self._connection, self._namespace, self.name, self._uid) as watcher:
                    self._watch(watcher)
            except NotFoundError:
                if not self._closing.is_set():
                    self._lost("its job was deleted")
                return
            except KubernetesError as error:  # for longer than the job would wait for a heartbeat
                output.note(f"{self.name}: {error}")
                self._closing.wait(_CLOSE_SECONDS)

    def _watch(self, watcher: Watcher) -> None:
        while not self._closing.is_set() and not self._is_over():
            self._beat()
            body = watcher.next(_LOOK_SECONDS)
            if body is not None:
                self._see(body)
            self._settle()

    def _see(self, body: Body) -> None:
        status = body.get("status") or {}
        self._message = str(status.get("message") or status.get("phase") or "")
        members = list((status.get("workers") or {}).get("members") or ())
        blocker = blocker_of(status)
        workers = [worker_of(member, self.name, blocker) for member in members if member.get("id")]
        if not self._known.is_set():
            self._refusal = _refusal(status)
            made = len(members) == len(self.ids) and all(m.get("createdAt") or _is_over(m) for m in members)
            if self._refusal is None and not made:
                return
            if self._refusal is None:
                self.ids = tuple(worker.id for worker in workers)
                for worker in workers:
                    self._table.put(_as_new(worker))
            self._known.set()
        if self._refusal is None:
            for worker in workers:
                self._take(worker)

    def _take(self, worker: Worker) -> None:
        known = self._table.get(worker.id)
        if known is None or known.is_final:
            return
        if worker.running_at is not None:
            self._outputs.follow(worker)
        if worker.is_final and worker.status is not Status.STOPPED:
            self._waiting[worker.id] = worker
        else:
            self._table.put(worker)

    def _settle(self) -> None:
        """A worker has ended when its last line has been shown."""
        for each in [each for each in self._waiting if self._outputs.is_shown(each)]:
            worker = self._waiting.pop(each)
            if self._table.runs(each) and worker.status in (Status.FAILED, Status.TIMEDOUT):
                output.note(ended_badly(worker))  # before whoever awaits it goes on
            self._table.put(worker)

    def _lost(self, why: str) -> None:
        self._gone = True
        self._outputs.stop()
        if not self._known.is_set():
            self._refusal = ("Deleted", why)
            self._known.set()
        for each in self.ids:
            worker = self._waiting.pop(each, None)
            if worker is not None:
                self._table.put(worker)
            elif self._table.runs(each):
                output.note(f"{each} failed: {why}")
                self._table.update(each, status=Status.FAILED, finished_at=now(), message=why)

    def _is_over(self) -> bool:
        return self._known.is_set() and all(
            (worker := self._table.get(each)) is None or worker.is_final for each in self.ids
        )

    def _beat(self) -> None:
        if time.monotonic() < self._next_beat:
            return
        self._next_beat = time.monotonic() + HEARTBEAT_SECONDS
        at = now().isoformat(timespec="seconds").replace("+00:00", "Z")
        with contextlib.suppress(KubernetesError):  # the next one comes soon
            self._patch({"metadata": {"annotations": {HEARTBEAT_ANNOTATION: at}}}, manager=HEARTBEAT_MANAGER)

    def _patch(self, patch: Mapping[str, Any], manager: str = "dask-training") -> None:
        body = dict(patch)
        body["metadata"] = {**body.get("metadata", {}), "uid": self._uid}  # another job of that name is refused
        path = jobs_path(self._namespace, self.name)
        self._connection.request("PATCH", path, query={"fieldManager": manager}, body=body, content_type=MERGE_PATCH)


def launch(request: Request, identity: Identity, table: Table, settings: Settings) -> PodGroup | Refused:
    """Make the pods, or say what refused them; then nothing is left.

    Raises CodeError for a project that is too large, KubernetesError for what the API server refuses, RuntimeError for
    a group that could not be made.
    """
    connection = _connection(settings.context, settings.namespace)
    name = f"{request.name}-{secrets.token_hex(3)}"
    body = workers_body(
        request,
        identity,
        name=name,
        namespace=connection.namespace,
        owner=own_pod(connection, output.note, "workers"),
        image=settings.image,
        packages=settings.packages,
    )
    if settings.project is False:
        project = pack_script(settings.folder, request.script)
    else:
        project = pack_project(settings.folder, request.script)
    try:
        (made,) = submit(connection, Bundle(jobs=(body,), code={name: code_of(launch_document(request), project)}))
    except ForbiddenError as error:
        if _QUOTA not in str(error):
            raise
        return Refused(tuple(f"{name}-{index}" for index in range(request.n)), str(error))
    group = PodGroup(connection, made, table)
    try:
        refusal = group.start()
    except BaseException:  # Ctrl-C, too
        group.close()
        table.drop(group.ids)
        raise
    if refusal is None:
        return group
    group.wait_released()
    group.close()
    table.drop(group.ids)
    reason, message = refusal
    if reason == Reason.QUOTA_EXCEEDED:
        return Refused(group.ids, _kubernetes_words(message))
    output.note(f"the workers could not be launched: {reason}: {message}")
    raise RuntimeError(f"the workers could not be launched: {reason}: {message}")


def _kubernetes_words(message: str) -> str:
    """Of what the operator says of a quota, the part that Kubernetes said."""
    line = message.split("\n", 1)[0]
    return line.partition(": ")[2] if line.startswith("Pod ") else line


def _refusal(status: Mapping[str, Any]) -> tuple[str, str] | None:
    """Why the group was not made, if that is how it ended."""
    conditions = {str(each.get("type")): each for each in status.get("conditions") or ()}
    target = conditions.get("FailureTarget") or {}
    reason = str(target.get("reason") or "")
    if target.get("status") != "True" or reason in _OWN_ENDS:
        return None
    return reason, str(status.get("message") or target.get("message") or "")


def _is_over(member: Mapping[str, Any]) -> bool:
    return str(member.get("state")) in {Status.SUCCEEDED, Status.FAILED, Status.STOPPED, Status.TIMEDOUT}


def _as_new(worker: Worker) -> Worker:
    """As it was before it ended, if it has: its end counts when its output was shown."""
    if not worker.is_final:
        return worker
    return Worker(id=worker.id, label=worker.label, status=Status.STARTING, created_at=worker.created_at)


@functools.cache
def _connection(context: str | None, namespace: str | None) -> Connection:
    return Connection(context, namespace)
