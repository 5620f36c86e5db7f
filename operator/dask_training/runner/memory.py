"""Memory limits without containers: a process that goes over its limit is killed, as a node's kernel does it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from dask_training.runner.processes import RunProcess

_POLL_SECONDS = 0.1  # distributed's nanny looks every 0.2 s


@dataclass(frozen=True)
class _Watched:
    process: RunProcess
    limit_bytes: int
    on_exceeded: Callable[[int], None]


class MemoryWatch:
    """A thread that kills watched processes once they, with all they started, hold more than their limit."""

    def __init__(self) -> None:
        self._watched: list[_Watched] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="memory-watch", daemon=True).start()

    def add(self, process: RunProcess, limit_bytes: int, on_exceeded: Callable[[int], None]) -> None:
        """Watches the process; `on_exceeded` is called with its memory in bytes just before it is killed."""
        with self._lock:
            self._watched.append(_Watched(process, limit_bytes, on_exceeded))

    def close(self) -> None:
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(_POLL_SECONDS):
            with self._lock:
                self._watched = [entry for entry in self._watched if entry.process.exit is None]
                entries = list(self._watched)
            for entry in entries:
                used = entry.process.memory_bytes()
                if used > entry.limit_bytes:
                    entry.on_exceeded(used)
                    entry.process.kill()
