"""Progress of a call, told at most ten times a second and always at the end; and what it was in all."""

from __future__ import annotations

import itertools
import logging
import threading
import time

from dask_training.joblib_backend.registration import OnCallEnd, OnProgress

SECONDS_BETWEEN = 0.1

logger = logging.getLogger(__name__)

_calls = itertools.count(1)


def _tell_nobody(done: int, total: int | None, call: int, name: str) -> None:
    pass


class Progress:
    """Tells `on_progress` how far one call is. Safe from any thread; never tells from two at once."""

    def __init__(self, on_progress: OnProgress, name: str) -> None:
        self._tell = on_progress
        self._name = name
        self._call = next(_calls)
        self._lock = threading.Lock()
        self._last = float("-inf")
        self._told: tuple[int, int | None] | None = None
        self._now: tuple[int, int | None] = (0, None)

    def update(self, done: int, total: int | None) -> None:
        """`done` of `total` tasks are done; an exception of the callback's ends the telling, not the call."""
        with self._lock:
            self._now = (done, total)
            if time.monotonic() - self._last >= SECONDS_BETWEEN or done == total:
                self._emit()

    def finish(self) -> None:
        """Tell the last state, if it was not told yet."""
        with self._lock:
            self._emit()

    def _emit(self) -> None:
        if self._told == self._now:
            return
        self._told = self._now
        self._last = time.monotonic()
        try:
            self._tell(*self._now, self._call, self._name)
        except Exception:
            logger.exception("on_progress failed; this call's progress is not told any more")
            self._tell = _tell_nobody


class Work:
    """What a call had done: its tasks, their batches and the seconds that these ran. One thread adds; another tells."""

    def __init__(self) -> None:
        self._tasks = 0
        self._batches = 0
        self._seconds = 0.0

    def add(self, tasks: int, seconds: float) -> None:
        """One batch more is done."""
        self._tasks += tasks
        self._batches += 1
        self._seconds += seconds

    def tell(self, on_call_end: OnCallEnd) -> None:
        """Say it, once; an exception of the callback's is logged."""
        try:
            on_call_end(self._tasks, self._batches, self._seconds)
        except Exception:
            logger.exception("on_call_end failed")
