"""What is known of a session's workers: one frozen value each, in a table that says when it changes."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable, Collection, Iterable
from enum import StrEnum
from typing import Any

import msgspec

UNKNOWN = "unknown"


class Status(StrEnum):
    """Where a worker is, in CML's words; the last four are final."""

    SCHEDULING = "scheduling"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    TIMEDOUT = "timedout"


FINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.STOPPED, Status.TIMEDOUT})


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """One worker; `label` is what its lines of output are marked with."""

    id: str
    label: str
    status: Status = Status.SCHEDULING
    created_at: datetime.datetime
    running_at: datetime.datetime | None = None
    finished_at: datetime.datetime | None = None
    ip_address: str = UNKNOWN
    app_url: str = ""
    exit_code: int | None = None
    message: str = ""

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.status in FINAL

    @property
    def is_ready(self) -> bool:
        """Whether it runs and can be reached."""
        return self.status is Status.RUNNING and self.ip_address != UNKNOWN

    def as_dict(self) -> dict[str, Any]:
        """As CML gives a worker, with `exit_code` and `message` beside."""
        end = self.finished_at or now()
        return {
            "id": self.id,
            "app_url": self.app_url,
            "status": str(self.status),
            "created_at": _text(self.created_at),
            "running_at": _text(self.running_at),
            "finished_at": _text(self.finished_at),
            "duration": round((end - self.running_at).total_seconds(), 3) if self.running_at else 0.0,
            "ip_address": self.ip_address,
            "exit_code": self.exit_code,
            "message": self.message,
        }


def now() -> datetime.datetime:
    """The time in UTC."""
    return datetime.datetime.now(datetime.UTC)


def _text(at: datetime.datetime | None) -> str | None:
    return None if at is None else at.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Table:
    """The workers of a session by id, in the order in which they were launched; can be used from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._workers: dict[str, Worker] = {}

    def put(self, worker: Worker) -> bool:
        """Take note of *worker* as it is now; False if it has ended before, which stays so."""
        with self._changed:
            known = self._workers.get(worker.id)
            if known is not None and known.is_final:
                return False
            self._workers[worker.id] = worker
            self._changed.notify_all()
            return True

    def update(self, worker_id: str, **changes: Any) -> bool:
        """As `put`, with some fields alone; False also for one that is not known."""
        with self._changed:
            known = self._workers.get(worker_id)
            return known is not None and self.put(msgspec.structs.replace(known, **changes))

    def drop(self, ids: Iterable[str]) -> None:
        """Forget workers that never came to be."""
        with self._changed:
            for each in ids:
                self._workers.pop(each, None)

    def all(self) -> list[Worker]:
        """All workers, those that have ended, too."""
        with self._changed:
            return list(self._workers.values())

    def get(self, worker_id: str) -> Worker | None:
        """The worker of that id; None if there is none."""
        with self._changed:
            return self._workers.get(worker_id)

    def runs(self, worker_id: str) -> bool:
        """Whether it is known, and has not ended."""
        worker = self.get(worker_id)
        return worker is not None and not worker.is_final

    def wait(self, ids: Collection[str], done: Callable[[Worker], bool], timeout: float | None) -> list[Worker]:
        """The workers of *ids*, once *done* holds for each, or *timeout* seconds have passed (None: no limit)."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while True:
                found = [self._workers[each] for each in ids]
                left = None if deadline is None else deadline - time.monotonic()
                if all(done(worker) for worker in found) or (left is not None and left <= 0):
                    return found
                # Not for ever at once: Ctrl-C is seen between two waits.
                self._changed.wait(1.0 if left is None else min(left, 1.0))
