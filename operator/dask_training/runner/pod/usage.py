"""Who uses the cluster, and since when nobody does; a Session's scheduler ends itself when its operator is down."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from distributed import Scheduler, SchedulerPlugin
from tornado.ioloop import PeriodicCallback

from dask_training.api import Env

# So long after its time the operator, which takes the whole job away, has not come: then it is down itself.
SLACK_SECONDS: Final = 120.0
_LOOK_SECONDS: Final = 1.0
_INTERNAL: Final = "fire-and-forget"  # distributed's own, in every scheduler


@dataclass(frozen=True)
class SessionLimits:
    """For how long a Session may be without a task, and without a client (None: as long as it likes)."""

    idle_seconds: float
    no_client_seconds: float | None = None

    @classmethod
    def from_environment(cls) -> SessionLimits | None:
        """The limits of this pod's job; None in other modes."""
        idle = os.environ.get(Env.IDLE_TIMEOUT)
        if not idle:
            return None
        no_client = os.environ.get(Env.NO_CLIENT_TIMEOUT)
        return cls(float(idle), float(no_client) if no_client else None)


class Usage(SchedulerPlugin):
    """Counts clients; `clock` gives seconds that never go back."""

    name = "dask-training-usage"

    def __init__(self, scheduler: Scheduler, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._alone_since: float | None = None

    @property
    def clients(self) -> int:
        """How many clients are connected."""
        return sum(name != _INTERNAL for name in self._scheduler.clients)

    @property
    def no_client_seconds(self) -> float | None:
        """Since when there is no client, or before the first one no worker; None while there is one."""
        if self._alone_since is None or self.clients:
            return None
        return round(self._clock() - self._alone_since, 3)

    @property
    def idle_seconds(self) -> float | None:
        """For how long there has been no task; None while there is one."""
        since = self._scheduler.check_idle()
        return round(time.time() - since, 3) if since else None

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:  # noqa: ARG002 - upstream's
        """The first worker makes the cluster one that a client can use."""
        if self._alone_since is None and not self.clients:
            self._alone_since = self._clock()

    def add_client(self, scheduler: Scheduler, client: str) -> None:  # noqa: ARG002 - upstream's
        """Somebody is there."""
        self._alone_since = None

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Upstream removes the client from its own table before or after it tells of that."""
        if not [name for name in scheduler.clients if name not in (_INTERNAL, client)]:
            self._alone_since = self._clock()


class SessionEnd:
    """Closes the scheduler of a Session that nobody uses, `slack` seconds after the operator should have ended it.

    `before` gets the reason first.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        usage: Usage,
        limits: SessionLimits,
        before: Callable[[str], None],
        *,
        slack: float = SLACK_SECONDS,
    ) -> None:
        self._scheduler = scheduler
        self._usage = usage
        self._limits = limits
        self._before = before
        self._slack = slack
        self._ended: asyncio.Future[Any] | None = None
        # It begins with the scheduler and ends with it.
        scheduler.periodic_callbacks["dask-training-session-end"] = PeriodicCallback(self._look, _LOOK_SECONDS * 1000)

    def _look(self) -> None:
        reason = self._reason()
        if reason and self._ended is None:
            self._before(reason)
            self._ended = asyncio.ensure_future(self._scheduler.close(reason=reason))

    def _reason(self) -> str:
        limits, alone, idle = self._limits, self._usage.no_client_seconds, self._usage.idle_seconds
        most = limits.no_client_seconds
        if most is not None and alone is not None and alone >= most + self._slack:
            return f"no client for {most:g} s (spec.session.noClientTimeoutSeconds)"
        if idle is not None and idle >= limits.idle_seconds + self._slack:
            return f"no task for {limits.idle_seconds:g} s (spec.idleTimeoutSeconds)"
        return ""
