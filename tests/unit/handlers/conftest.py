"""An API server in this process: real HTTP, real semantics of versions, conflicts, watches; faults on order."""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from machine import slowdown

from dask_training import api
from dask_training.kube import Connection, KubeClient, Limits
from dask_training.kube.resources import BY_KIND, JOBS, Resource


@dataclass
class Fault:
    """What goes wrong with the `nth` request of `verb` on `plural` (0: each).

    `answer`: an HTTP status, "reset" (the connection is cut), "late" (done, then 504), or "lost" (done, then cut).
    """

    verb: str
    plural: str
    answer: int | str
    nth: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: dict = field(default_factory=dict)
    seen: int = 0

    def strikes(self, verb, plural) -> bool:
        if (self.verb, self.plural) != (verb, plural):
            return False
        self.seen += 1
        return self.nth in (0, self.seen)


class FakeAPI:
    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict] = {}
        self.history: list[tuple[int, str, str, dict]] = []
        self.versions = itertools.count(101)
        self.version = 100
        self.oldest = 0
        self.log: list[tuple[str, str, str]] = []
        self.faults: list[Fault] = []
        self.streams: set[asyncio.Queue] = set()
        self.cut_within = b""
        self.server: TestServer | None = None

    # What tests do to it.

    def put(self, kind: str, body: dict, event: str = "MODIFIED") -> dict:
        resource, metadata = BY_KIND[kind], body["metadata"]
        key = (resource.plural, metadata["namespace"], metadata["name"])
        event = event if key in self.objects else "ADDED"
        metadata.setdefault("uid", str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        metadata.setdefault("generation", 1)
        self.version = next(self.versions)
        metadata["resourceVersion"] = str(self.version)
        body.setdefault("apiVersion", resource.api_version)
        body.setdefault("kind", kind)
        self.objects[key] = body
        self._tell(event, resource.plural, body)
        return body

    def drop(self, kind: str, namespace: str, name: str) -> None:
        plural = BY_KIND[kind].plural
        body = self.objects.pop((plural, namespace, name))
        self.version = next(self.versions)
        body["metadata"]["resourceVersion"] = str(self.version)
        self._tell("DELETED", plural, body)

    def names(self, kind: str) -> list[str]:
        return sorted(name for plural, _, name in self.objects if plural == BY_KIND[kind].plural)

    def writes(self, *, events: bool = False) -> list[tuple[str, str, str]]:
        return [
            entry for entry in self.log if entry[0] not in ("get", "list", "watch") and (events or entry[1] != "events")
        ]

    def cut_watches(self, *, forget: bool = False, within: bytes = b"") -> None:
        """Cut all watches; with `forget` the history is gone too, so that they must list again.

        `within`: the beginning of an event whose end does not come.
        """
        if forget:
            self.oldest = self.version
        self.cut_within = within
        for stream in list(self.streams):
            stream.put_nowait(None)

    def _tell(self, event: str, plural: str, body: dict) -> None:
        entry = (self.version, event, plural, copy.deepcopy(body))
        self.history.append(entry)
        for stream in list(self.streams):
            stream.put_nowait(entry)

    # HTTP.

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/api", self._core)
        app.router.add_get("/apis", self._groups)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        return app

    async def _core(self, _request):
        return web.json_response({"kind": "APIVersions", "versions": ["v1"]})

    async def _groups(self, _request):
        groups = {resource.group: resource.version for resource in BY_KIND.values() if resource.group}
        groups["apiextensions.k8s.io"] = "v1"
        return web.json_response(
            {
                "groups": [
                    {
                        "name": g,
                        "versions": [{"version": v, "groupVersion": f"{g}/{v}"}],
                        "preferredVersion": {"version": v},
                    }
                    for g, v in groups.items()
                ]
            }
        )

    def _discovery(self, group: str, version: str):
        verbs = ["get", "list", "watch", "create", "patch", "delete", "deletecollection"]
        found = [r for r in BY_KIND.values() if (r.group, r.version) == (group, version)]
        # Kopf waits until it has seen these two, and does nothing with them.
        found += [Resource("", "v1", "namespaces", "Namespace")] if not group else []
        if group == "apiextensions.k8s.io":
            found.append(Resource(group, version, "customresourcedefinitions", "CustomResourceDefinition"))
        return web.json_response(
            {
                "resources": [
                    {
                        "name": r.plural,
                        "kind": r.kind,
                        "namespaced": True,
                        "verbs": verbs,
                        "singularName": r.kind.lower(),
                    }
                    for r in found
                ]
            }
        )

    async def _handle(self, request: web.Request):
        parts = request.path.strip("/").split("/")
        group, version, rest = (parts[1], parts[2], parts[3:]) if parts[0] == "apis" else ("", parts[1], parts[2:])
        if not rest:
            return self._discovery(group, version)
        namespace = None
        if rest[0] == "namespaces":
            namespace, rest = rest[1], rest[2:]
        plural, name, subresource = [*rest, None, None][:3]
        verb = self._verb(request, name)
        self.log.append((verb, plural, name or ""))
        fault = next((fault for fault in self.faults if fault.strikes(verb, plural)), None)
        if fault is not None and fault.answer == "reset":
            request.transport.abort()
            return web.Response()
        if fault is not None and isinstance(fault.answer, int):
            body = {"kind": "Status", "code": fault.answer, "message": "fault"} | fault.body
            return web.json_response(body, status=fault.answer, headers=fault.headers)
        reply = await self._do(request, verb, plural, namespace, name, subresource)
        if fault is not None and fault.answer == "late":
            return web.json_response({"kind": "Status", "message": "late"}, status=504)
        if fault is not None and fault.answer == "lost":
            request.transport.abort()
        return reply

    @staticmethod
    def _verb(request, name) -> str:
        if request.method == "GET":
            return "watch" if request.query.get("watch") == "true" else "get" if name else "list"
        if request.method == "DELETE":
            return "delete" if name else "deletecollection"
        return {"POST": "create", "PATCH": "patch", "PUT": "update"}[request.method]

    async def _do(self, request, verb, plural, namespace, name, _subresource):
        if verb == "watch":
            return await self._watch(request, plural, namespace)
        body = await request.json() if request.can_read_body else {}
        if verb in ("list", "deletecollection"):
            return self._many(request, verb, plural, namespace)
        key = (plural, namespace, name or (body.get("metadata") or {}).get("name"))
        there = self.objects.get(key)
        if verb == "create":
            return self._create(there, body)
        if there is None:
            return _status(404, "NotFound", f'{plural} "{name}" not found')
        return getattr(self, f"_{verb}")(there, body)

    def _many(self, request, verb, plural, namespace):
        items = [body for (p, ns, _), body in sorted(self.objects.items()) if p == plural and namespace in (None, ns)]
        chosen = [body for body in items if _matches(body, request.query.get("labelSelector", ""))]
        if verb == "list":
            return self._page(request, chosen)
        for body in chosen:
            self.drop(body["kind"], namespace, body["metadata"]["name"])
        return web.json_response({"kind": "PodList", "items": []})

    def _create(self, there, body):
        if there is not None:
            return _status(409, "AlreadyExists", f'"{body["metadata"]["name"]}" already exists')
        if body["kind"] == "Service":
            body.setdefault("spec", {})["clusterIP"] = "10.0.0.7"
        if body["kind"] == "Pod":
            body.setdefault("status", {"phase": "Pending"})
        return web.json_response(self.put(body["kind"], body), status=201)

    def _get(self, there, _body):
        return web.json_response(there)

    def _delete(self, there, body):
        wanted = (body.get("preconditions") or {}).get("uid")
        if wanted and wanted != there["metadata"]["uid"]:
            return _status(409, "Conflict", "the UID in the precondition does not match")
        self.drop(there["kind"], there["metadata"]["namespace"], there["metadata"]["name"])
        return web.json_response({"kind": "Status", "status": "Success"})

    def _patch(self, there, body):
        return self._change(there, body, lambda: _merge(copy.deepcopy(there), body))

    def _update(self, there, body):
        return self._change(there, body, lambda: body)

    def _change(self, there, body, made):
        at = (body.get("metadata") or {}).get("resourceVersion")
        if at and at != there["metadata"]["resourceVersion"]:
            return _status(409, "Conflict", "the object has been modified")
        new = made()
        new["metadata"]["uid"] = there["metadata"]["uid"]
        return web.json_response(self.put(there["kind"], new))

    def _page(self, request, chosen):
        start, limit = int(request.query.get("continue") or 0), int(request.query.get("limit") or 0) or len(chosen)
        rest = start + limit < len(chosen)
        metadata = {"resourceVersion": str(self.version)} | ({"continue": str(start + limit)} if rest else {})
        return web.json_response({"kind": "List", "metadata": metadata, "items": chosen[start : start + limit]})

    async def _watch(self, request, plural, namespace):
        since = int(request.query.get("resourceVersion") or 0)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if since < self.oldest:
            status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
            await response.write(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
            return response
        stream: asyncio.Queue = asyncio.Queue()
        for entry in self.history:
            if entry[0] > since:
                stream.put_nowait(entry)
        self.streams.add(stream)
        try:
            while (entry := await stream.get()) is not None:
                _, event, kind, body = entry
                wanted = kind == plural and namespace in (None, body["metadata"]["namespace"])
                if wanted and _matches(body, request.query.get("labelSelector", "")):
                    await response.write(json.dumps({"type": event, "object": body}).encode() + b"\n")
            await response.write(self.cut_within)
        finally:
            self.streams.discard(stream)
        return response


def _status(code: int, reason: str, message: str):
    return web.json_response({"kind": "Status", "code": code, "reason": reason, "message": message}, status=code)


def _matches(body, selector: str) -> bool:
    labels = body["metadata"].get("labels") or {}
    for term in filter(None, selector.split(",")):
        name, equals, value = term.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    return True


def _merge(target, patch):
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            target[key] = _merge(target.get(key) if isinstance(target.get(key), dict) else {}, value)
        else:
            target[key] = value
    return target


@pytest.fixture
def run() -> Callable:
    """Run a coroutine, at most 20 s."""
    return lambda coroutine: asyncio.run(asyncio.wait_for(coroutine, 20 * slowdown()))


@pytest.fixture
def until() -> Callable:
    """Wait until something is true; the test's own limit ends it."""

    async def wait(condition):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event to tell of it
            await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def fault() -> type[Fault]:
    return Fault


@pytest.fixture
def kubernetes(tmp_path):
    """An async context manager: the fake server, a connection to it, and a client."""

    class Kubernetes:
        timeout = 60.0

        def __init__(self) -> None:
            self.api = FakeAPI()

        async def __aenter__(self):
            self.server = TestServer(self.api.app())
            await self.server.start_server()
            self.api.server = self.server
            config = {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "x",
                "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
                "clusters": [{"name": "x", "cluster": {"server": str(self.server.make_url("")).rstrip("/")}}],
                "users": [{"name": "x", "user": {"token": "t0ken"}}],
            }
            path = tmp_path / "kubeconfig"
            path.write_text(json.dumps(config))
            self.connection = await Connection.load(str(path))
            self.requests: list[tuple[str, str, int]] = []
            self.client = KubeClient(
                self.connection,
                limits=Limits(1e6, 1000),
                timeout=self.timeout,
                observer=lambda *r: self.requests.append(r),
            )
            return self

        async def __aexit__(self, *_):
            self.api.cut_watches()
            await self.client.__aexit__(None, None, None)
            await self.server.close()

    return Kubernetes


@pytest.fixture
def job() -> Callable[..., dict]:
    """Make a job's object."""

    def make(name="forest", namespace="team", **status) -> dict:
        return {
            "apiVersion": api.API_VERSION,
            "kind": JOBS.kind,
            "metadata": {"name": name, "namespace": namespace, "uid": f"uid-of-{name}", "resourceVersion": "1"},
            "spec": {"runner": {"script": "print(1)"}, "workers": {"replicas": 2}},
        } | ({"status": status} if status else {})

    return make


@pytest.fixture
def child() -> Callable[..., dict]:
    """Make an object of a job."""

    def make(kind: str, job: dict, name: str, *, role="worker", attempt=1, owner: str | None = None, **extra) -> dict:
        metadata = job["metadata"]
        return {
            "apiVersion": BY_KIND[kind].api_version,
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": metadata["namespace"],
                "labels": {
                    str(api.Label.JOB): metadata["name"],
                    str(api.Label.JOB_UID): metadata["uid"],
                    str(api.Label.ATTEMPT): str(attempt),
                    str(api.Label.ROLE): role,
                },
                "ownerReferences": [{"uid": owner or metadata["uid"], "controller": True, "kind": "DaskTrainingJob"}],
            },
        } | extra

    return make
