"""A job's logs: those of several pods at once, and those that its runner stored, for when the pods are gone."""

from __future__ import annotations

import io
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dask_training.client.connection import Body
from dask_training.client.podlogs import PodLog, follow_in_thread
from dask_training.client.podstate import short_name
from dask_training.client.status_events import FINAL_PHASES, phase_of
from dask_training.errors import KubernetesError, NotFoundError

if TYPE_CHECKING:
    from dask_training.artifacts import ArtifactStore
    from dask_training.client.jobs import JobHandle

_FOLDER = "logs/"
_LOOK_SECONDS = 1.0
_LAST_SECONDS = 5.0


def stored_names(store: ArtifactStore, run: str) -> list[str]:
    """Which logs the run at *run* has: such as runner, scheduler, worker-0."""
    paths = [entry.path for entry in store.manifest(run).files]
    names = [path.removeprefix(_FOLDER).removesuffix(".log") for path in paths if path.startswith(_FOLDER)]
    order = {"runner": 0, "scheduler": 1}
    return sorted(names, key=lambda name: (order.get(name, 2), len(name), name))


def stored_log(store: ArtifactStore, run: str, name: str) -> Iterator[str]:
    """The lines of one stored log, verified. Raises NotFoundError, naming those that there are."""
    names = stored_names(store, run)
    if name not in names:
        raise NotFoundError(f"no log of {name} was stored; there are: {', '.join(names) or 'none'}")
    with tempfile.TemporaryDirectory(prefix="dask-training-logs-") as folder:
        (path,) = store.get(run, Path(folder), only=[f"{_FOLDER}{name}.log"])
        with io.open(path, encoding="utf-8", errors="replace", newline="\n") as file:  # noqa: UP020 - newline kept
            for line in file:
                yield line.rstrip("\n")


class LogFollower:
    """Reads the logs of several pods of a job at once.

    *wanted* chooses among the pods, *take* gets each pod's short name and a line, from several threads, one at a time.
    """

    def __init__(
        self,
        handle: JobHandle,
        wanted: Callable[[Body], bool],
        take: Callable[[str, str], None],
        *,
        attempt: int | None = None,
        tail: int | None = None,
    ) -> None:
        self._handle = handle
        self._wanted = wanted
        self._take = take
        self._attempt = attempt
        self._tail = tail
        self._lock = threading.Lock()
        self._logs: dict[str, tuple[PodLog, threading.Thread]] = {}
        self._error: KubernetesError | None = None
        self._stopped = threading.Event()

    def read(self) -> bool:
        """Give all lines that there are now, pod by pod; False if no wanted pod has begun to write."""
        found = False
        for pod in self._pods():
            for line in self._log(pod).lines(follow=False):
                found = True
                self._give(short_name(pod), line)
        return found

    def follow(self) -> bool:
        """Give all lines, also those to come, until the job (or the attempt asked for) is over; False if none came."""
        try:
            while not self._stopped.is_set():
                status = self._handle.status()
                over = phase_of(self._handle.body) in FINAL_PHASES or (
                    self._attempt is not None and int(status.get("attempt") or 0) > self._attempt
                )
                for pod in self._pods():
                    self._start(pod)
                if self._error is not None:
                    raise self._error
                if over:
                    break
                self._stopped.wait(_LOOK_SECONDS)
            for _, thread in self._logs.values():
                thread.join(_LAST_SECONDS)
        finally:
            self.stop()
        return bool(self._logs)

    def stop(self) -> None:
        """End `follow`, from another thread or a signal handler."""
        self._stopped.set()
        for log, _ in list(self._logs.values()):
            log.stop()

    def _pods(self) -> list[Body]:
        attempt = self._attempt
        if attempt is None:
            attempt = int((self._handle.body.get("status") or {}).get("attempt") or 0) or None
        return [pod for pod in self._handle.pods(attempt=attempt) if self._wanted(pod)]

    def _log(self, pod: Body) -> PodLog:
        return PodLog(self._handle.connection, self._handle.namespace, str(pod["metadata"]["name"]), tail=self._tail)

    def _start(self, pod: Body) -> None:
        uid = str(pod["metadata"]["uid"])
        if uid in self._logs:
            return
        log, name = self._log(pod), short_name(pod)
        thread = follow_in_thread(log, lambda line: self._give(name, line), self._fail)
        self._logs[uid] = (log, thread)

    def _give(self, name: str, line: str) -> None:
        with self._lock:
            if not self._stopped.is_set():
                self._take(name, line)

    def _fail(self, error: KubernetesError) -> None:
        if not isinstance(error, NotFoundError):  # removed between being listed and being read
            self._error = error
