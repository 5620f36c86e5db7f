"""Whether the operator is well: what /healthz, /readyz and /metrics answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import aiohttp
from aiohttp import web

LOG = logging.getLogger(__name__)

SILENCE_LIMIT = 90.0
"""Seconds without an event or a bookmark (the server sends one a minute) after which a watch counts as dead."""
QUIET_RECONNECT = 60.0
"""A stream that lived so long and brought nothing was dead: that it was opened again proves nothing."""
STUCK_LIMIT = 120.0
"""Seconds in which jobs wait and none is taken up. That a job waits so long, behind others, is load and no fault."""


class _Counted(Protocol):
    """An HTTP response that counts its bytes as they arrive."""

    @property
    def total_bytes(self) -> int: ...


@dataclass(slots=True)
class _Stream:
    content: _Counted
    opened: float
    bytes: int = 0


class WatchProgress:
    """When each watch last brought anything, read off the bytes that its HTTP response has received.

    Kopf swallows bookmarks, and a handler sees only events: on a quiet cluster the bytes are the one sign of life.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock: Callable[[], float] = clock or (lambda: asyncio.get_running_loop().time())
        self._streams: dict[str, _Stream] = {}
        self._alive: dict[str, float] = {}
        self._just_listed: set[str] = set()
        self.gap = asyncio.Event()
        """Set when a watch begins anew from a list: what ended between the two is told by neither."""

    def expect(self, path: str) -> None:
        """Count from now on for `path`, the URL path of a watch that is about to start."""
        self._alive.setdefault(path, self._clock())

    def opened(self, path: str, content: _Counted) -> None:
        """Note a new stream for `path`."""
        self.look()
        if path in self._just_listed:
            self._just_listed.discard(path)
            self.gap.set()
        now = self._clock()
        before = self._streams.get(path)
        dead = before is not None and before.bytes == 0 and now - before.opened > QUIET_RECONNECT
        self._streams[path] = _Stream(content, now)
        if not dead:
            self._alive[path] = now

    def listed(self, path: str) -> None:
        """Note that `path` was listed."""
        self._just_listed.add(path)
        self._alive[path] = self._clock()

    def all_open(self) -> bool:
        """Say whether every watch has been opened at least once."""
        return bool(self._alive) and self._alive.keys() <= self._streams.keys()

    def look(self) -> None:
        """Compare the streams' byte counts with those of the last look."""
        now = self._clock()
        for path, stream in self._streams.items():
            if stream.content.total_bytes > stream.bytes:
                stream.bytes = stream.content.total_bytes
                self._alive[path] = now

    def silent(self) -> dict[str, float]:
        """Give the watches that have brought nothing for too long, each with its seconds of silence."""
        self.look()
        now = self._clock()
        return {path: now - at for path, at in self._alive.items() if now - at > SILENCE_LIMIT}

    def trace(self) -> aiohttp.TraceConfig:
        """Make what tells this object of an HTTP session's lists and watches."""
        config = aiohttp.TraceConfig()

        async def ended(_session: object, _context: object, params: aiohttp.TraceRequestEndParams) -> None:
            url, response = params.response.url, params.response
            if response.status != 200 or url.path not in self._alive:
                return
            if url.query.get("watch") == "true":
                self.opened(url.path, response.content)
            else:
                self.listed(url.path)

        config.on_request_end.append(ended)
        return config


class HealthServer:
    """Answers probes and Prometheus on `port` of all addresses."""

    def __init__(
        self, port: int, *, problems: Callable[[], list[str]], ready: Callable[[], bool], metrics: Callable[[], bytes]
    ) -> None:
        self._port = port
        self._problems = problems
        self._ready = ready
        self._metrics = metrics
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Begin to listen. Raises OSError where the port is taken."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._render)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, None, self._port).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        problems = self._problems()
        if problems:
            LOG.error("not healthy: %s", "; ".join(problems))
        return web.Response(status=500 if problems else 200, text="\n".join(problems) or "ok")

    async def _readyz(self, _request: web.Request) -> web.Response:
        ready = self._ready()
        return web.Response(status=200 if ready else 503, text="ok" if ready else "the first list is not done")

    async def _render(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
