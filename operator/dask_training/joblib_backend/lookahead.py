"""Reading the user's tasks ahead of their dispatch, so that their number is known early."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from dask_training.joblib_backend.data import shippable_bytes

MOST_TASKS = 20_000
MOST_BYTES = 64 << 20  # of arrays that only tasks not yet dispatched hold


class Lookahead:
    """An iterator over `source` that can read ahead. From any thread; `source` is never entered by two at once."""

    def __init__(self, source: Iterator[Any], already: int) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._ready: deque[Any] = deque()
        self._seen = already
        self._failure: BaseException | None = None
        self.total: int | None = None  # `already` and all that `source` gave, once it is exhausted

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
        seen: set[int] = set()
        room = MOST_BYTES
        while wanted() and room > 0 and len(self._ready) < MOST_TASKS:
            with self._lock:
                try:
                    self._read()
                except Exception:  # noqa: BLE001 - `__next__` raises it again where joblib can handle it
                    return
                task = self._ready[-1]
            for value in (*task[1], *task[2].values()):
                if id(value) not in seen:
                    seen.add(id(value))
                    room -= shippable_bytes(value) or 0
