"""What the processes of a run tell their supervisor: lines of JSON on a pipe that only they have.

`Ready` comes from scheduler and workers; the others from the child that runs the user's code, whose `Progress`,
`MetricsReported`, `Notice` and `WorkersChanged` are the events of `dask_training.runner.events` themselves.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from dask_training.api import Env
from dask_training.runner.events import Event, MetricsReported, Notice, Progress, WorkersChanged


class Ready(Event, frozen=True, tag="ready"):
    """A scheduler or worker is up at `address`; the scheduler's dashboard at `dashboard`, if it has one."""

    address: str
    dashboard: str | None = None


class Started(Event, frozen=True, tag="started"):
    """The user's code starts now, with these versions of the packages that are compared."""

    versions: dict[str, str] = msgspec.field(default_factory=dict)


class Ended(Event, frozen=True, tag="ended"):
    """The user's code is at its end, however that came about; the process ends soon after."""


class Raised(Event, frozen=True, tag="raised"):
    """The user's code ended with an exception: its type's name, its text, and the user's line that raised it.

    `bases` are the names of the type's base classes, so that a supervisor can tell kinds it knows.
    """

    exception: str
    message: str
    file: str = ""
    line: int = 0
    bases: tuple[str, ...] = ()


class Exited(Event, frozen=True, tag="exited"):
    """The user's code called `sys.exit(code)`."""

    code: int


class JoblibCall(Event, frozen=True, tag="joblibCall"):
    """A joblib call on the cluster is over: its tasks that were done, their batches, and the seconds that these ran."""

    tasks: int
    batches: int
    seconds: float


Message: TypeAlias = (
    Ready | Started | Ended | Raised | Exited | Progress | MetricsReported | Notice | WorkersChanged | JoblibCall
)


class Channel:
    """The sending end: inherited from the supervisor, or silent where there is none."""

    def __init__(self) -> None:
        text = os.environ.pop(Env.EVENTS_FD, "")
        self._fd = int(text) if text else None
        self._lock = threading.Lock()
        if self._fd is not None:
            os.set_inheritable(self._fd, False)

    @property
    def connected(self) -> bool:
        """Whether somebody listens."""
        return self._fd is not None

    def shared_with(self, environment: Mapping[str, str]) -> dict[str, str]:
        """`environment` for a process that is to send on this channel too; it must inherit open files."""
        if self._fd is None:
            return dict(environment)
        os.set_inheritable(self._fd, True)
        return {**environment, Env.EVENTS_FD: str(self._fd)}

    def send(self, event: Event) -> None:
        """Sends the event; one that nobody can hear any more is dropped."""
        if self._fd is None:
            return
        line = memoryview(msgspec.json.encode(event) + b"\n")
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._fd, line) :]
            except BrokenPipeError:
                self._fd = None


def parse(line: bytes) -> Message:
    """The message of a line; raises `msgspec.DecodeError` for anything else."""
    return msgspec.json.decode(line, type=Message)
