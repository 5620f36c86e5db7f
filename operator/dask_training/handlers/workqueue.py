"""Which jobs are to be looked at, and when: one queue of keys, one heap of times.

A key waits at most once, is under way at most once, and one that comes up again while it is under way waits for its
turn. Asking for a key again is free, which is why everything that happens may ask.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

Key: TypeAlias = tuple[str, str]
"""Namespace and name of a job."""

FIRST_DELAY = 0.1
LONGEST_DELAY = 30.0


class Deadlines:
    """At most one time for each key; the earliest first."""

    def __init__(self) -> None:
        self._times: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []

    def __len__(self) -> int:
        return len(self._times)

    def set(self, key: Key, time: float) -> None:
        """Give `key` a time in place of the one it has."""
        self._times[key] = time
        heapq.heappush(self._heap, (time, key))
        if len(self._heap) > 64 + 4 * len(self._times):  # mostly times that were replaced
            self._heap = [(at, name) for name, at in self._times.items()]
            heapq.heapify(self._heap)

    def drop(self, key: Key) -> None:
        """Forget the key's time, if it has one."""
        self._times.pop(key, None)

    def next(self) -> float | None:
        """Give the earliest time, None where there is none."""
        while self._heap and self._times.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[Key]:
        """Take the keys whose time has come, the earliest first."""
        keys = []
        while (time := self.next()) is not None and time <= now:
            keys.append(heapq.heappop(self._heap)[1])
            del self._times[keys[-1]]
        return keys


class WorkQueue:
    """Keys to be reconciled: coalesced, first come first served, one at a time each, with back-off for each.

    `clock` gives seconds that never go back (default: the event loop's); `jitter` a number from 0 to 1.
    """

    def __init__(
        self, *, clock: Callable[[], float] | None = None, jitter: Callable[[], float] = random.random
    ) -> None:
        self._clock: Callable[[], float] = clock or (lambda: asyncio.get_running_loop().time())
        self._jitter = jitter
        self._waiting: deque[Key] = deque()
        self._queued: dict[Key, float] = {}  # since when
        self._busy: set[Key] = set()
        self._again: set[Key] = set()
        self._held: dict[Key, float] = {}  # not before
        self._failures: dict[Key, int] = {}
        self._checks = Deadlines()
        self._wakeup = asyncio.Event()
        self._filled = asyncio.Event()
        self._moved = float("-inf")  # when a key was taken last
        self.waited = 0.0
        """Seconds that the key taken last had waited."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def busy(self) -> int:
        """How many keys are under way."""
        return len(self._busy)

    def oldest(self) -> float:
        """Give the seconds that the first key has waited, 0 where none waits."""
        if not self._waiting:
            return 0.0
        return self._clock() - self._queued[self._waiting[0]]

    def stalled(self) -> float:
        """Give the seconds since which keys wait and none is taken, 0 while they are: a long queue is no stall."""
        return min(self.oldest(), self._clock() - self._moved)

    def add(self, key: Key) -> None:
        """Ask for a reconcile of `key`: now, or as soon as its back-off and the one under way are over."""
        held = self._held.get(key)
        if held is not None and held > self._clock():
            return  # its deadline brings it
        if key in self._busy:
            self._again.add(key)
        elif key not in self._queued:
            self._queued[key] = self._clock()
            self._waiting.append(key)
            self._filled.set()

    def check_after(self, key: Key, seconds: float) -> None:
        """Ask for a reconcile of `key` in so many seconds, in place of what was asked before."""
        self._checks.set(key, self._clock() + max(seconds, 0.0))
        self._wakeup.set()

    def hold(self, key: Key, seconds: float) -> None:
        """Let nothing bring `key` before so many seconds are over; then reconcile it."""
        self._held[key] = self._clock() + seconds
        self.check_after(key, seconds)

    def back_off(self, key: Key, at_least: float = 0.0) -> float:
        """Hold `key` after a failure, each time about twice as long; give the seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        bound = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures, 16))
        seconds = max(at_least, bound * (0.5 + self._jitter() / 2))
        self.hold(key, seconds)
        return seconds

    def succeeded(self, key: Key) -> None:
        """Start the back-off of `key` anew."""
        self._failures.pop(key, None)
        self._held.pop(key, None)

    def forget(self, key: Key) -> None:
        """Drop what is kept of a key whose job is gone."""
        self.succeeded(key)
        self._checks.drop(key)

    async def take(self) -> Key:
        """Wait for the next key and take it; `done` gives it back."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        key = self._waiting.popleft()
        self._moved = self._clock()
        self.waited = self._moved - self._queued.pop(key)
        self._busy.add(key)
        return key

    def done(self, key: Key) -> None:
        """Say that the reconcile of `key` is over."""
        self._busy.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def release_due(self) -> float | None:
        """Queue the keys whose time has come; give the seconds until the next one."""
        now = self._clock()
        for key in self._checks.due(now):
            self._held.pop(key, None)
            self.add(key)
        following = self._checks.next()
        if following is None:
            return None
        return max(following - now, 0.0)

    async def run_deadlines(self) -> None:
        """Queue keys as their times come, for ever."""
        while True:
            self._wakeup.clear()
            wait = self.release_due()
            try:
                await asyncio.wait_for(self._wakeup.wait(), wait)
            except TimeoutError:
                continue
