"""How many tasks go into one batch, from what the tasks before took on the workers."""

from __future__ import annotations

IDEAL_SECONDS = 0.4  # a batch costs a few milliseconds to send, start and collect: about 1 %
FASTEST_GROWTH = 16  # the first tasks may be the cheap ones
MOST_BYTES = 4 << 20  # a batch's arguments and results pass through scheduler and client as one message
MEMORY = 0.5  # weight of the newest batch


class BatchSizer:
    """Gives the size of the next batch; measures time on the worker, so that waiting in queues does not count."""

    def __init__(self) -> None:
        self.size = 1
        self._seconds: float | None = None
        self._bytes = 0.0

    @property
    def seconds_each(self) -> float:
        """What a task took lately; 0 before the first is done."""
        return self._seconds or 0.0

    def completed(self, tasks: int, seconds: float, nbytes: int) -> int:
        """Learn from a batch of so many tasks; returns the size for the next ones, at least 1."""
        each = seconds / tasks
        self._seconds = each if self._seconds is None else MEMORY * each + (1 - MEMORY) * self._seconds
        self._bytes = max(nbytes / tasks, self._bytes / 2)
        wanted = IDEAL_SECONDS / max(self._seconds, 1e-7)
        largest = min(FASTEST_GROWTH * tasks, MOST_BYTES / max(self._bytes, 1.0))
        grown = int(min(wanted, largest))
        # A late report of a small batch does not take back what larger ones have shown to be right.
        self.size = max(1, grown if tasks >= self.size or grown > self.size else int(min(wanted, self.size)))
        return self.size
