"""What workers in pods print, as it comes and to its last line."""

from __future__ import annotations

import threading
import time
from typing import Final

from dask_training.client.connection import Connection
from dask_training.client.podlogs import PodLog, follow_in_thread
from dask_training.errors import KubernetesError, NotFoundError
from dask_training.workers import output
from dask_training.workers.records import Worker

_LAST_LINES_SECONDS: Final = 10.0


class Outputs:
    """Follows the logs of a group's pods, each in a thread of its own."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self._connection = connection
        self._namespace = namespace
        self._logs: dict[str, tuple[PodLog, threading.Thread]] = {}
        self._asked: dict[str, float] = {}
        self._stopped = False
        self._said_error = False

    def follow(self, worker: Worker) -> None:
        """Show what this worker has printed and what it will."""
        if worker.id in self._logs or self._stopped:
            return
        log = PodLog(self._connection, self._namespace, worker.id)
        thread = follow_in_thread(
            log, lambda line: output.show(worker.label, line), lambda error: self._failed(worker, error)
        )
        self._logs[worker.id] = (log, thread)

    def is_shown(self, worker_id: str) -> bool:
        """Whether all that a worker that has ended printed was shown, or waiting for it is of no use."""
        if worker_id not in self._logs:
            return True
        log, thread = self._logs[worker_id]
        if not thread.is_alive():
            return True
        asked = self._asked.setdefault(worker_id, time.monotonic())
        if time.monotonic() - asked < _LAST_LINES_SECONDS:
            return False
        log.stop()
        return True

    def stop(self) -> None:
        """Show nothing more."""
        self._stopped = True
        for log, _ in list(self._logs.values()):
            log.stop()

    def _failed(self, worker: Worker, error: KubernetesError) -> None:
        if self._stopped or self._said_error:
            return
        if isinstance(error, NotFoundError):
            output.note(f"the output of {worker.label} can't be shown: its pod is gone")
            return
        self._said_error = True
        output.note(f"the workers' output can't be shown: {error}")
