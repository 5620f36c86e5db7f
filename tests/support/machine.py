"""The machine that the tests share: how much else it has to do, and which of its ports are free."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

MOST_SECONDS = 150.0  # to wait at all: pytest ends a test after 180, and says less


def slowdown() -> float:
    """How many times longer than alone something may take now: by what waits for a core, and by the other streams."""
    waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
    return max(1.0, waiting, 2.0 if "PYTEST_XDIST_WORKER" in os.environ else 1.0)


def give_up_at(seconds: float) -> float:
    """Until when, by time.monotonic, to wait for what takes so many seconds at most on a machine at rest."""
    return time.monotonic() + seconds * slowdown()


def wait_until(predicate: Callable[[], object], timeout: float = 60.0, *, every: float = 0.02, what: str = "it") -> Any:
    """The predicate's first true value; fails when there is none in so many seconds, of a machine at rest."""
    started = time.monotonic()
    deadline = min(give_up_at(timeout), started + max(timeout, MOST_SECONDS))
    while not (value := predicate()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come true: still {value!r} after {time.monotonic() - started:.0f} s")
        time.sleep(every)
    return value


_given: set[int] = set()


def free_port() -> int:
    """One that nobody listens at, and that nobody is given who asks for any: it may be needed some seconds later."""
    while True:
        port = random.SystemRandom().randrange(20_000, 30_000)
        if port in _given:
            continue
        with socket.socket() as taken, contextlib.suppress(OSError):
            taken.bind(("127.0.0.1", port))
            _given.add(port)
            return port
