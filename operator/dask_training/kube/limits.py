"""How much the operator may ask of the API server: requests per second, and requests at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

REQUESTS_PER_SECOND = 200.0
"""1,000 jobs with two workers are 8,000 writes, which are to be done within 60 s."""
BURST = 200
IN_FLIGHT = 50


class TokenBucket:
    """Lets `burst` callers through at once and `rate` per second in the long run, in the order they came.

    `clock` gives seconds that never go back; `sleep` waits so many. Both are the event loop's by default.
    """

    def __init__(
        self,
        rate: float,
        burst: int,
        *,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._sleep = sleep
        self._next = float("-inf")  # when the next token would be there if the bucket could hold any number

    async def take(self) -> float:
        """Wait for a token; give the seconds waited."""
        now = self._clock()
        self._next = max(self._next, now - self._burst / self._rate) + 1 / self._rate
        wait = self._next - now
        if wait <= 1e-9:
            return 0.0
        await self._sleep(wait)
        return wait


class Limits:
    """A token bucket and a bound on what is under way at once."""

    def __init__(self, rate: float = REQUESTS_PER_SECOND, burst: int = BURST, in_flight: int = IN_FLIGHT) -> None:
        self._bucket = TokenBucket(rate, burst)
        self._slots = asyncio.Semaphore(in_flight)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one of the slots, once the bucket has a token."""
        async with self._slots:
            await self._bucket.take()
            yield
