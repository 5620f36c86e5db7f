"""What runs a TrainingCluster: pods or processes of this machine, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from distributed.security import Security


@dataclass(frozen=True)
class Access:
    """Where the scheduler listens, and how a client is let in."""

    address: str
    security: Security
    scheduler_info: Any = None
    """What is known of the scheduler and its workers, if somebody keeps it up to date already."""


class Backend(Protocol):
    """One cluster. Coroutines are awaited on the cluster's event loop; all may raise DaskTrainingError."""

    name: str
    shutdown_on_close: bool
    wait: int
    """For how many workers the start waits."""

    async def open(self, say: Callable[[str], None], on_end: Callable[[str, str], None]) -> Access:
        """Start it, or find it; *on_end* is told reason and message if it ends by itself. Leaves nothing on failure."""

    async def problem(self) -> str:
        """What keeps workers from coming; "" if nothing is known to."""

    async def scale(self, count: int) -> None:
        """Have so many workers."""

    async def adapt(self, minimum: int, maximum: int) -> None:
        """Let the number of workers follow the work."""

    async def logs(self, *, scheduler: bool, workers: bool | Collection[str]) -> Mapping[str, str] | None:
        """The logs by what wrote them; None: ask the scheduler and the workers."""

    def dashboard(self, address: str) -> tuple[str, int] | None:
        """Host and port of the dashboard for a browser on this machine; None: as the scheduler says."""

    def cut_off(self) -> None:
        """The connection to the scheduler is lost: see whether the cluster has ended."""

    async def close(self, *, shutdown: bool) -> None:
        """Let go of it; with *shutdown* end it."""

    def release(self) -> None:
        """As `close` with its default, from whatever thread when this process ends."""

    def abandon(self) -> None:
        """End a start that is under way, from another thread; returns when nothing is left of it."""
