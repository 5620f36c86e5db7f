"""Trying again after a failure that may pass: with full jitter, so that many runs don't come back at once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from dask_training.artifacts.faults import (
    Fault,
    Secrets,
    StalledError,
    StoppedError,
    classify,
    retry_after,
    store_error,
)
from dask_training.errors import ArtifactError

T = TypeVar("T")
R = TypeVar("R")
Stop = Callable[[], bool]

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 5.0


class Backoff:
    """When to send one request again, until `deadline_seconds` after the store was last known to answer it.

    A delay is drawn evenly from 0 to twice the last one's limit, which starts at 0.2 s and ends at 5 s.
    """

    def __init__(
        self,
        deadline_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._deadline_seconds = deadline_seconds
        self._clock = clock
        self._draw = draw
        self._failures = 0
        self._failing_since: float | None = None

    def delay(self, error: BaseException) -> float | None:
        """Seconds to wait before the next attempt after `error`, or None to give up."""
        now = self._clock()
        if self._failing_since is None:
            # A stalled attempt has been failing for as long as nothing moved.
            self._failing_since = now - (error.idle if isinstance(error, StalledError) else 0.0)
        left = self._failing_since + self._deadline_seconds - now
        if left <= 0 or classify(error) is not Fault.TRANSIENT:
            return None
        limit = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0**self._failures)
        self._failures = min(self._failures + 1, 10)
        return min(max(self._draw() * limit, retry_after(error)), left)

    @property
    def waited(self) -> float:
        """Seconds since the first failure."""
        return 0.0 if self._failing_since is None else self._clock() - self._failing_since

    @property
    def left(self) -> float:
        """Seconds in which a further attempt may still end."""
        return self._deadline_seconds - self.waited


def call(
    attempt: Callable[[], T], *, action: str, where: str, deadline_seconds: float, secrets: Secrets, stop: Stop
) -> T:
    """What `attempt` returns, after as many attempts as it takes; raises the ArtifactError that says why not."""
    backoff = Backoff(deadline_seconds)
    while True:
        check(stop)
        try:
            return attempt()
        except ArtifactError:
            raise
        except Exception as error:  # noqa: BLE001 - libraries of stores raise anything; what is unknown isn't retried
            delay = backoff.delay(error)
            if delay is None:
                raise store_error(
                    classify(error), error, action=action, where=where, waited=backoff.waited, secrets=secrets
                ) from secrets.cause(error)
        until = time.monotonic() + delay
        while (left := until - time.monotonic()) > 0:
            check(stop)
            time.sleep(min(left, 0.1))


def check(stop: Stop) -> None:
    """Raise StoppedError if the caller wants to stop."""
    if stop():
        raise StoppedError("interrupted before all files were stored or read; what is there so far has no manifest")


def in_parallel(work: Callable[[T, Stop], R], items: Iterable[T], *, threads: int, stop: Stop) -> list[R]:
    """`work` of each item, in order; after the first error the others end early, and it is raised."""
    failed = threading.Event()

    def stopped() -> bool:
        return failed.is_set() or stop()

    def one(item: T) -> R:
        check(stopped)
        return work(item, stopped)

    with ThreadPoolExecutor(threads, thread_name_prefix="artifacts") as pool:
        futures = [pool.submit(one, item) for item in items]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            if any(future.exception() is not None for future in done):
                failed.set()
        except BaseException:  # an interrupt of this thread: the others must not hold it up
            failed.set()
            raise
        finally:
            for future in futures if failed.is_set() else ():
                future.cancel()
    errors = [error for future in futures if not future.cancelled() and (error := future.exception()) is not None]
    if errors:
        # What stopped the others, not that they were stopped.
        raise next((error for error in errors if not isinstance(error, StoppedError)), errors[0])
    return [future.result() for future in futures]
