"""Reading the user's tasks ahead of their dispatch, so that their number is known early."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import psutil

MOST_TASKS = 4_000
MOST_SECONDS = 0.25  # a generator that takes longer does work of its own, and is better asked when there is room
MOST_BYTES = 64 << 20  # what the process may grow by meanwhile: tasks may hold anything
CHECK_EVERY = 32  # tasks between looks at the process's size


class Lookahead:
    """An iterator over `source` that can read ahead. From any thread; `source` is never entered by two at once."""

    def __init__(self, source: Iterator[Any], already: int) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._ready: deque[Any] = deque()
        self._seen = already
        self._failure: BaseException | None = None
        self.total: int | None = None  # `already` and all that `source` gave, once it is exhausted

    @property
    def left(self) -> int:
        """Tasks still to give, once that is known; else 0."""
        return 0 if self.total is None else len(self._ready)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with self._lock:
            if not self._ready:
                self._read()
            return self._ready.popleft()

    def _read(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self.total is not None:
            raise StopIteration
        try:
            task = next(self._source)
        except StopIteration:
            self.total = self._seen
            raise
        except BaseException as failure:
            self._failure = failure
            raise
        self._seen += 1
        self._ready.append(task)

    def read_ahead(self, wanted: Callable[[], bool]) -> None:
        """Read until the end, a limit, or until no longer `wanted`; what `source` raises waits for its turn."""
        process = psutil.Process()
        most_bytes = process.memory_info().rss + MOST_BYTES
        deadline = time.monotonic() + MOST_SECONDS
        for number in range(MOST_TASKS):
            if not wanted() or time.monotonic() > deadline:
                return
            if number % CHECK_EVERY == 0 and process.memory_info().rss > most_bytes:
                return
            with self._lock:
                try:
                    self._read()
                except Exception:  # noqa: BLE001 - `__next__` raises it again where joblib can handle it
                    return
