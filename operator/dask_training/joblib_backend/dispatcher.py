"""A thread for joblib's callbacks, which run the user's task generator: never in the client's event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class Dispatcher:
    """Runs what it is given, one after the other, in a daemon thread: from the first until `stop`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def put(self, work: Callable[[], None]) -> None:
        with self._lock:
            if self._stopped:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._queue.put(work)

    def stop(self) -> None:
        """No more work; what runs now runs to its end. Does not wait: it may be called by the work itself."""
        with self._lock:
            self._stopped = True
            self._queue.put(None)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            if not self._stopped:
                work()
