"""What a run tells whoever watches it: one frozen value per thing that happened; also the lines of `run --json`.

Every event has `type` (its tag) and `at` (seconds since the epoch). The order is: any number of the others, and
`Finished` last, exactly once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from dask_training.api import Phase, Reason
from dask_training.termination import Advice

MetricValue: TypeAlias = float | int | str | bool | None


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", rename="camel"):
    """Base of all events."""

    at: float = msgspec.field(default_factory=time.time)


class PhaseChanged(Event, frozen=True, tag="phase"):
    """The job is in `phase` now; `message` says on what it waits or what it does, for people."""

    phase: Phase
    message: str = ""
    attempt: int = 1


class WorkersChanged(Event, frozen=True, tag="workers"):
    """`ready` of `desired` workers are connected; `restarts` were started again since the start."""

    desired: int
    ready: int
    restarts: int = 0


class DashboardReady(Event, frozen=True, tag="dashboard"):
    """The Dask dashboard can be opened at `url`."""

    url: str


class Output(Event, frozen=True, tag="output"):
    """A line that the user's code printed, without its newline; `stream` is stdout or stderr.

    `source` is runner, or the name of the worker that ran the task which printed it.
    """

    line: str
    stream: str = "stdout"
    source: str = "runner"


class Progress(Event, frozen=True, tag="progress"):
    """`done` of `total` joblib tasks of the running call are done; `total` is None while it is not known.

    `call` counts the parallel calls of a run from 1; `name` is the function that the tasks call.
    """

    done: int
    total: int | None
    call: int
    name: str = ""


class MetricsReported(Event, frozen=True, tag="metrics"):
    """The user's code reported metrics; `metrics` has all that are known now."""

    metrics: dict[str, MetricValue]


class Notice(Event, frozen=True, tag="notice"):
    """Something that the user should know of, but that does not end the run; `level` is info or warning."""

    message: str
    level: str = "warning"


class ArtifactsStored(Event, frozen=True, tag="artifacts"):
    """`files` files of `bytes` bytes in all are kept under `url`; `names` are their paths, the largest last."""

    url: str
    files: int
    bytes: int
    manifest_sha256: str
    names: tuple[str, ...] = ()


class Timings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Seconds spent in each phase; None for a phase that was not reached."""

    starting: float | None = None
    running: float | None = None
    finalizing: float | None = None
    total: float = 0.0


class Finished(Event, frozen=True, tag="finished"):
    """How the run ended.

    `exit_code` is what the process should exit with (see `dask_training.api.ExitCode`), `script_exit_code` the user's
    own code's, if it ran to an end. `message` says what happened and what to do, in a few lines at most.
    `cpu_seconds` is user plus system time of runner, scheduler and workers. `artifacts` is None if nothing was stored.
    `advice` says what could be better, the weightiest first; docs/advice.md has all there is.
    """

    phase: Phase
    reason: Reason
    message: str
    exit_code: int
    script_exit_code: int | None = None
    attempt: int = 1
    timings: Timings = Timings()
    metrics: dict[str, MetricValue] = {}
    cpu_seconds: float = 0.0
    peak_worker_memory_bytes: int | None = None
    worker_restarts: int = 0
    tasks: int = 0
    artifacts: ArtifactsStored | None = None
    advice: tuple[Advice, ...] = ()


AnyEvent: TypeAlias = (
    PhaseChanged
    | WorkersChanged
    | DashboardReady
    | Output
    | Progress
    | MetricsReported
    | Notice
    | ArtifactsStored
    | Finished
)
Listener: TypeAlias = Callable[[Event], None]


def to_json(event: Event) -> str:
    """The event as one line of JSON, without a newline."""
    return msgspec.json.encode(event).decode()


def from_json(line: str | bytes) -> AnyEvent:
    """The event that `to_json` wrote; raises `msgspec.ValidationError` for anything else."""
    return msgspec.json.decode(line, type=AnyEvent)
