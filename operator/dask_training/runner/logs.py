"""The logs of a run's processes: a file each, bounded in size, with the last lines at hand for messages."""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path

LIMIT_BYTES = 100 * 1024**2  # a job that prints without end must not fill the disk


class LogFile:
    """Lines on their way to a file; past `limit_bytes` they are counted instead of kept."""

    def __init__(self, path: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._limit = limit_bytes
        self._written = 0
        self._dropped = 0
        self._lock = threading.Lock()
        self._tail: deque[str] = deque(maxlen=50)

    def write(self, line: str) -> None:
        """Appends the line; after `close` it is dropped."""
        data = line.encode(errors="replace") + b"\n"
        with self._lock:
            self._tail.append(line)
            if self._file.closed:
                return
            if self._written + len(data) > self._limit:
                self._dropped += 1
                return
            self._written += len(data)
            self._file.write(data)

    def tail(self, lines: int) -> list[str]:
        """The last lines that came, kept in the file or not; at most 50."""
        with self._lock:
            return list(self._tail)[-lines:]

    def close(self) -> None:
        """Writes what is due, and how many lines were left out; calling it again does nothing."""
        with self._lock:
            if self._file.closed:
                return
            if self._dropped:
                note = f"[dask-training: {self._dropped} more lines, past the limit of {self._limit} bytes]\n"
                self._file.write(note.encode())
            self._file.close()
