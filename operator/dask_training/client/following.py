"""Follows a job on a cluster from now to its end, as the very events that a run on this machine gives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dask_training.api import Label, Role
from dask_training.client.connection import Body, Connection, core_path
from dask_training.client.podlogs import PodLog, follow_in_thread
from dask_training.client.status_events import FINAL_PHASES, StatusEvents, finished_of, phase_of
from dask_training.client.watching import Watcher
from dask_training.errors import KubernetesError
from dask_training.runner.events import Finished, Listener, Notice, Output

OPERATOR_SECONDS = 10.0
_TICK_SECONDS = 0.25
_LAST_LINES_SECONDS = 4.0


@dataclass
class Following:
    """One job that is being followed; `run` gives its events to *listen* until it ends or `stop` is set.

    With *output* also the lines that its code prints, from the runner's log.
    """

    connection: Connection
    namespace: str
    name: str
    uid: str
    listen: Listener
    stop: threading.Event = field(default_factory=threading.Event)
    output: bool = True
    clock: Callable[[], float] = time.time

    def run(self) -> Finished | None:
        """The last event, or None if `stop` was set first. Raises NotFoundError if the job is deleted."""
        told = StatusEvents()
        log = _RunnerLog(self)
        started = time.monotonic()
        warned = False
        try:
            with Watcher(self.connection, self.namespace, self.name, self.uid) as watcher:
                while not self.stop.is_set():
                    body = watcher.next(_TICK_SECONDS)
                    if body is None:
                        if not warned and told.untouched and time.monotonic() - started > OPERATOR_SECONDS:
                            warned = True
                            self.listen(Notice(at=self.clock(), message=no_operator(self.namespace)))
                        continue
                    if phase_of(body) in FINAL_PHASES:
                        return self._end(body, told, log)
                    for event in told.of(body, self.clock()):
                        self.listen(event)
                    log.attend(body)
            return None
        finally:
            log.close()

    def _end(self, body: Body, told: StatusEvents, log: _RunnerLog) -> Finished:
        """What was printed last comes before what became of it."""
        log.finish(body)
        now = self.clock()
        for event in told.of(body, now):
            if not isinstance(event, Finished):
                self.listen(event)
        finished = finished_of(body, now)
        self.listen(finished)
        return finished


class _RunnerLog:
    """The runner's output of one attempt after the other."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._attempt = 0
        self._log: PodLog | None = None
        self._thread: threading.Thread | None = None
        self._lines = 0

    def attend(self, body: Body) -> None:
        """See to it that the log of the attempt that *body* speaks of is being read."""
        status = body.get("status") or {}
        attempt = int(status.get("attempt") or 0)
        if not self._following.output or attempt <= self._attempt:
            return
        pod = runner_pod(self._following.connection, self._following.namespace, body["metadata"]["uid"], attempt)
        if pod is None:
            return  # the next change of the status comes soon after its creation
        self._join()
        self._attempt = attempt
        self._log = PodLog(self._following.connection, self._following.namespace, pod)
        self._thread = follow_in_thread(self._log, self._take, self._fail)

    def finish(self, body: Body) -> None:
        """Wait for the last lines; say where the output is if none could be had."""
        if not self._following.output:
            return
        self.attend(body)
        self._join()
        status = body.get("status") or {}
        if self._attempt < int(status.get("attempt") or 0) and status.get("artifacts"):
            message = f"its output is in the stored logs: dask-training logs {self._following.name}"
            self._following.listen(Notice(at=self._following.clock(), message=message, level="info"))

    def close(self) -> None:
        if self._log is not None:
            self._log.stop()

    def _join(self) -> None:
        if self._thread is not None and self._log is not None:
            self._thread.join(_LAST_LINES_SECONDS)
            self._log.stop()
            self._thread.join(1.0)

    def _take(self, line: str) -> None:
        self._lines += 1
        self._following.listen(Output(at=self._following.clock(), line=line))

    def _fail(self, error: KubernetesError) -> None:
        message = f"the output can't be shown: {error}"
        self._following.listen(Notice(at=self._following.clock(), message=message))


def runner_pod(connection: Connection, namespace: str, uid: str, attempt: int) -> str | None:
    """The name of an attempt's runner pod; None while, or once, there is none."""
    pods = job_pods(connection, namespace, uid, role=Role.RUNNER, attempt=attempt)
    return str(pods[0]["metadata"]["name"]) if pods else None


def job_pods(
    connection: Connection, namespace: str, uid: str, *, role: str | None = None, attempt: int | None = None
) -> list[Body]:
    """The pods of a job that exist now, those of one role or attempt if given, by name."""
    labels = {Label.JOB_UID: uid, Label.ROLE: role, Label.ATTEMPT: attempt}
    selector = ",".join(f"{key}={value}" for key, value in labels.items() if value is not None)
    pods = connection.list(core_path(namespace, "pods"), labelSelector=selector)
    pods = [pod for pod in pods if pod["metadata"]["labels"].get(Label.ROLE) != Role.READER]
    return sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))


def no_operator(namespace: str, seconds: float = OPERATOR_SECONDS) -> str:
    """What to say of a job that nobody has looked at."""
    return (
        f"no operator seems to watch namespace {namespace}: the job has no status after {seconds:.0f} s.\n"
        "Does it run? kubectl get pods -A -l app.kubernetes.io/name=dask-training-operator\n"
        "Does it watch this namespace? See watchNamespaces in the values of its Helm release."
    )
