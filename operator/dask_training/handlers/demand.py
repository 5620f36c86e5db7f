"""How many workers a job asked for lately: up at once, down when the need has been lower for a while."""

from __future__ import annotations

from collections import deque
from typing import Final

STEP_SECONDS: Final = 10.0
"""Between two steps down: each costs a write of the job's status."""


class DemandHistory:
    """What a job's scheduler asked for over the last `window` seconds; times are monotonic, `now` an argument.

    `present`: how many workers there are to be at the start. It counts as having been asked for until then, so that an
    operator that knows nothing of the past changes nothing downwards before a window has gone by.
    """

    def __init__(self, present: int, now: float, window: float) -> None:
        self._window = window
        self._level = present
        self._asked = deque([(now, present)])
        self._stepped = float("-inf")

    def add(self, target: int, now: float) -> int:
        """Takes note of what is asked for now; gives how many there are to be."""
        self._asked.append((now, target))
        # The oldest that is kept was asked for before the window and until the next one, however long that took.
        while len(self._asked) > 1 and self._asked[1][0] <= now - self._window:
            self._asked.popleft()
        peak = max(asked for _, asked in self._asked)
        if peak > self._level:
            self._level = peak
        elif peak < self._level and now - self._stepped >= STEP_SECONDS:
            self._level, self._stepped = peak, now
        return self._level
