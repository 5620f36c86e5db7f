"""Pods that are gone: what they took is counted with the next status, which may be written seconds later."""

from __future__ import annotations

import datetime
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

KEPT_SECONDS: Final = 120.0  # a status is written sooner, and what was counted once is not counted again


class GonePods:
    """The pods of the last two minutes, by the uid of their job; `clock` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pods: deque[tuple[float, str, bytes, datetime.datetime]] = deque()
        self._of: dict[str, int] = {}

    def add(self, uid: str, body: bytes) -> None:
        """Note that a pod of the job with this uid is gone; `body` is what was seen of it last, as JSON."""
        self._drop_old()
        self._pods.append((self._clock(), uid, body, datetime.datetime.now(datetime.UTC)))
        self._of[uid] = self._of.get(uid, 0) + 1

    def of(self, uid: str) -> list[tuple[dict[str, Any], datetime.datetime]]:
        """Give the job's pods that are gone, and when that was noticed."""
        self._drop_old()
        if uid not in self._of:
            return []
        return [
            (msgspec.json.decode(body, type=dict[str, Any]), when) for _, job, body, when in self._pods if job == uid
        ]

    def _drop_old(self) -> None:
        oldest = self._clock() - KEPT_SECONDS
        while self._pods and self._pods[0][0] < oldest:
            uid = self._pods.popleft()[1]
            self._of[uid] -= 1
            if not self._of[uid]:
                del self._of[uid]
