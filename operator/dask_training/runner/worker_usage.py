"""What a worker says of itself, with each heartbeat and when it is asked: bytes received and spilled, peak memory."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil
from distributed import Worker

USAGE: Final = "dask_training_usage"
AGE: Final = "dask_training_age"
_STATUS: Final = Path("/proc/self/status")


class WorkerUsage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Bytes that a worker received, spilled to disk and held at most (0: not known)."""

    received: int = 0
    spilled: int = 0
    peak_memory: int = 0


class CountingWorker(Worker):
    """A worker that counts what it is sent, and tells its scheduler."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._received = 0
        super().__init__(
            *args, metrics={USAGE: _plain_usage}, startup_information={AGE: lambda _: process_age()}, **kwargs
        )
        self.handlers[USAGE] = self._tell_usage

    def update_data(self, data: dict[Any, object], stimulus_id: str | None = None) -> dict[str, Any]:
        """As upstream's: what a client puts here."""
        reply: dict[str, Any] = super().update_data(data, stimulus_id)
        self._received += sum(reply["nbytes"].values())
        return reply

    def _update_metrics_received_data(self, *args: Any, **kwargs: Any) -> None:
        """As upstream's, which is called with what another worker has sent."""
        super()._update_metrics_received_data(*args, **kwargs)
        self._received += self.transfer_incoming_log[-1]["total"]

    @property
    def usage(self) -> WorkerUsage:
        """What it has used until now."""
        counters = self.digests_total.items()
        spilled = sum(n for name, n in counters if isinstance(name, tuple) and name[-2:] == ("disk-write", "bytes"))
        return WorkerUsage(received=self._received, spilled=int(spilled), peak_memory=peak_memory())

    async def _tell_usage(self) -> dict[str, Any]:
        return _plain_usage(self)


def _plain_usage(worker: CountingWorker) -> dict[str, Any]:
    known: dict[str, Any] = msgspec.to_builtins(worker.usage)
    return known


def process_age() -> float:
    """Seconds since this process was started."""
    return max(time.time() - psutil.Process().create_time(), 0.0)


def peak_memory() -> int:
    """The most memory that this process has held, in bytes; elsewhere than on Linux what it holds now."""
    with contextlib.suppress(OSError, ValueError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return int(psutil.Process().memory_info().rss)
