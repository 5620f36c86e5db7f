"""summary.json: what an attempt did, took and gave, in one file that can be compared with another attempt's.

All sizes are bytes, all times seconds. What is not known - of a cluster whose scheduler was lost, say - is left out.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from dask_training.costs import Cost, ResourceSeconds
from dask_training.runner.events import MetricValue
from dask_training.termination import Advice

FILE: Final = "summary.json"
VERSION: Final = 1


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class JobIdentity(_Part, frozen=True, kw_only=True):
    """Which attempt of which job it was."""

    name: str
    namespace: str
    uid: str
    attempt: int


class Timings(_Part, frozen=True, kw_only=True):
    """Until the code ran, while it ran (None: it never did), and until this was written."""

    startup: float
    script: float | None
    total: float


class WorkersUsed(_Part, frozen=True, kw_only=True):
    """Workers that were asked for, restarts that the run knows of, and workers that left without being told to."""

    replicas: int
    threads: int
    memory_limit: int | None = None
    restarts: int = 0
    lost: int | None = None


class PrefixTasks(_Part, frozen=True, kw_only=True):
    """Dask tasks of one prefix, such as `run_batch`: done and failed ones, and the seconds that they computed."""

    done: int = 0
    failed: int = 0
    seconds: float = 0.0


class Tasks(_Part, frozen=True, kw_only=True):
    """Dask tasks; a batch of joblib's is one. `by_prefix`: the first hundred by name, the others as `other`."""

    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    mean_seconds: float | None = None
    by_prefix: dict[str, PrefixTasks] = {}


class BytesMoved(_Part, frozen=True, kw_only=True):
    """What workers received, what clients put on them, what they spilled to disk, and the most that one held."""

    received: int = 0
    scattered: int = 0
    spilled: int = 0
    peak_worker_memory: int | None = None


class JoblibWork(_Part, frozen=True, kw_only=True):
    """joblib's calls on the cluster, their tasks, the batches these were sent in, and the seconds that they ran."""

    calls: int = 0
    tasks: int = 0
    batches: int = 0
    seconds: float = 0.0

    def plus(self, tasks: int, batches: int, seconds: float) -> JoblibWork:
        """With one call more."""
        return JoblibWork(
            calls=self.calls + 1,
            tasks=self.tasks + tasks,
            batches=self.batches + batches,
            seconds=round(self.seconds + seconds, 6),
        )


class ThreadSeconds(_Part, frozen=True, kw_only=True):
    """Seconds that threads of workers were there, and those in which they computed a task."""

    available: float = 0.0
    busy: float = 0.0


class ClusterFacts(_Part, frozen=True, kw_only=True):
    """What the scheduler knows of an attempt's work; see `dask_training.runner.accounting`.

    `worker_seconds`: how long worker processes lived, all together; `scheduler_seconds`: the scheduler's own.
    """

    tasks: Tasks = Tasks()
    moved: BytesMoved = msgspec.field(default=BytesMoved(), name="bytes")
    thread_seconds: ThreadSeconds = ThreadSeconds()
    lost: int = 0
    worker_seconds: float = 0.0
    scheduler_seconds: float = 0.0


class AttemptSummary(_Part, frozen=True, kw_only=True):
    """The whole of it; `resource_basis`: seconds of what was "reserved" (pods), or of what was "used" (processes)."""

    version: int = VERSION
    job: JobIdentity
    reason: str
    exit_code: int
    start_time: str
    completion_time: str
    timings: Timings
    workers: WorkersUsed
    tasks: Tasks | None = None
    moved: BytesMoved | None = msgspec.field(default=None, name="bytes")
    joblib: JoblibWork | None = None
    thread_seconds: ThreadSeconds | None = None
    resource_seconds: ResourceSeconds = ResourceSeconds()
    resource_basis: str = "reserved"
    cost: Cost | None = None
    metrics: dict[str, MetricValue] = {}
    advice: tuple[Advice, ...] = ()

    def to_json(self) -> bytes:
        """As it is kept: without what is not known, for people to read."""
        document = {name: value for name, value in msgspec.to_builtins(self).items() if value is not None}
        return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def read(content: bytes | Mapping[str, Any]) -> AttemptSummary:
    """A summary that was kept; raises ValueError for what is none, or of a later version than this program knows."""
    try:
        document = msgspec.json.decode(content) if isinstance(content, bytes) else content
        version = document.get("version") if isinstance(document, Mapping) else None
        if isinstance(version, int) and version > VERSION:
            raise ValueError(f"it has version {version}, and this dask-training knows {VERSION}: install a newer one")
        return msgspec.convert(document, AttemptSummary)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise ValueError(str(error)) from error


def timestamp(at: float) -> str:
    """Seconds since the epoch as RFC 3339 has it, in UTC."""
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
