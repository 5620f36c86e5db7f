"""A reverse proxy before the Kubernetes API that fails on order: for the operator, every fault that a network has.

proxy = FaultProxy(kubeconfig, [Rule("create", "pods", "late", nth=2)], cut_watches_every=15)
with proxy as address: ...       # address: http://127.0.0.1:PORT, no credentials needed
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import threading
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import aiohttp
import msgspec
from aiohttp import web
from kubernetes.aio.config import kube_config

from dask_training.kube import Connection

WRITES = ("create", "update", "patch", "delete", "deletecollection")
HOP_HEADERS = {"host", "connection", "keep-alive", "transfer-encoding", "content-length", "authorization", "upgrade"}
HANG_SECONDS = 60


@dataclass
class Rule:
    """What goes wrong with requests of `verb` ("" or "write": any, any write) on `resource` ("": any).

    `answer`: an HTTP status; "late" (done, then 504); "lost" (done, then the connection is cut); "reset" (cut before);
    "hang" (no answer at all). `nth` counts matching requests from 1; 0 means each, with probability `share`.
    """

    verb: str
    resource: str
    answer: int | str
    nth: int = 0
    share: float = 1.0
    headers: dict[str, str] = field(default_factory=dict)
    seen: int = 0
    struck: int = 0

    def strikes(self, verb: str, resource: str, dice: random.Random) -> bool:
        verbs = {"": (verb,), "write": WRITES}.get(self.verb, (self.verb,))
        if verb not in verbs or self.resource not in ("", resource):
            return False
        self.seen += 1
        hit = self.seen == self.nth if self.nth else dice.random() < self.share
        self.struck += hit
        return hit


@dataclass(frozen=True)
class Request:
    """What was asked for; `number` counts the writes from 1, 0 for what writes nothing."""

    verb: str
    resource: str
    name: str
    number: int = 0


class FaultProxy:
    """Forwards to the cluster of `kubeconfig`, with its credentials; `rules` are tried in order.

    `before` and `after` are called around each request that is forwarded, the latter before its answer goes out.
    Leases are left alone, for a test that loses them is about something else; `spare` names such resources.
    """

    def __init__(
        self,
        kubeconfig: str,
        rules: list[Rule] | None = None,
        *,
        cut_watches_every: float = 0.0,
        before: Callable[[Request], None] = lambda _request: None,
        after: Callable[[Request], None] = lambda _request: None,
        spare: tuple[str, ...] = ("leases",),
        seed: int = 0,
    ) -> None:
        self.rules = rules or []
        self.log: list[Request] = []
        self.made: Counter[tuple[str, str]] = Counter()
        """How often each object was made, by resource and name: as the server answered, not as was told."""
        self.before, self.after = before, after
        self._kubeconfig = kubeconfig
        self._cut_every = cut_watches_every
        self._spare = spare
        self._dice = random.Random(seed)
        self._writes = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self.port = 0

    def __enter__(self) -> str:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        return f"http://127.0.0.1:{self.port}"

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        with warnings.catch_warnings():  # connections that a fault has cut are closed by the collector alone
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()

    @property
    def writes(self) -> list[Request]:
        """The writes so far, Events and leases apart."""
        return [request for request in self.log if request.number]

    async def _start(self) -> None:
        self._connection = await Connection.load(self._kubeconfig)
        self._session = self._connection.session()
        app = web.Application(client_max_size=16 * 1024**2)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()
        await asyncio.sleep(0.5)  # what is closed over TLS says goodbye first
        kube_config._cleanup_temp_files()  # the kubeconfig's certificates; otherwise left until Python ends

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        asked = self._classified(request)
        self.log.append(asked)
        rule = None
        if asked.resource not in self._spare:
            rule = next((rule for rule in self.rules if rule.strikes(asked.verb, asked.resource, self._dice)), None)
        answer = rule.answer if rule else None
        if answer in ("reset", "hang"):
            await asyncio.sleep(HANG_SECONDS if answer == "hang" else 0)
            return self._cut(request)
        if rule and isinstance(answer, int):
            body = {"kind": "Status", "status": "Failure", "code": answer, "message": "fault", "reason": "Fault"}
            return web.json_response(body, status=answer, headers=rule.headers)
        if asked.verb == "watch":
            return await self._watch(request)
        return await self._forward(request, asked, answer)

    async def _forward(self, request: web.Request, asked: Request, answer: int | str | None) -> web.Response:
        self.before(asked)
        async with self._forwarded(request) as reply:
            content = await reply.read()
            headers = {name: value for name, value in reply.headers.items() if name.lower() not in HOP_HEADERS}
        if reply.status == 201:
            self.made[asked.resource, msgspec.json.decode(content)["metadata"]["name"]] += 1
        self.after(asked)
        if answer == "late":
            return web.json_response({"kind": "Status", "code": 504, "message": "late"}, status=504)
        if answer == "lost":
            return self._cut(request)
        return web.Response(status=reply.status, body=content, headers=headers)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        with contextlib.suppress(TimeoutError, aiohttp.ClientError, ConnectionError):
            async with asyncio.timeout(self._cut_every or None), self._forwarded(request) as reply:
                response.set_status(reply.status)
                response.content_type = "application/json"
                await response.prepare(request)
                async for chunk in reply.content.iter_any():
                    await response.write(chunk)
        return response

    @contextlib.asynccontextmanager
    async def _forwarded(self, request: web.Request) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_HEADERS}
        headers["Accept-Encoding"] = "identity"
        url = self._connection.host + request.path_qs
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        async with self._session.request(
            request.method, url, headers=headers, data=await request.read() or None, timeout=timeout
        ) as reply:
            yield reply

    def _classified(self, request: web.Request) -> Request:
        parts = request.path.strip("/").split("/")
        rest = parts[3:] if parts[0] == "apis" else parts[2:]
        rest = rest[2:] if rest[:1] == ["namespaces"] and len(rest) > 2 else rest
        resource, name = [*rest, "", ""][:2]
        verb = {"POST": "create", "PATCH": "patch", "PUT": "update"}.get(request.method, "get")
        if request.method == "GET":
            verb = "watch" if request.query.get("watch") == "true" else "get" if name else "list"
        elif request.method == "DELETE":
            verb = "delete" if name else "deletecollection"
        counted = verb in WRITES and resource not in ("events", *self._spare)
        self._writes += counted
        return Request(verb, resource, name, self._writes if counted else 0)

    @staticmethod
    def _cut(request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()
