"""An API server with the semantics that a client meets: lists, watches, patches, logs, dry runs, refusals, faults.

Real HTTP on a real socket: streams are chunked, and can be cut in the middle of a line.
"""

from __future__ import annotations

import copy
import datetime
import itertools
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import fake_forward

JOBS = "/apis/dask-training.io/v1alpha1"
RESOURCES = {
    "/api/v1": [
        {"kind": "ConfigMap", "name": "configmaps", "namespaced": True},
        {"kind": "Secret", "name": "secrets", "namespaced": True},
        {"kind": "Pod", "name": "pods", "namespaced": True},
        {"kind": "Namespace", "name": "namespaces", "namespaced": False},
    ]
}


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def merged(old, patch):
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


class FakeAPI:
    """Objects by (collection, name); `faults` answer instead, `requests` has what came."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict] = {}
        self.requests: list[tuple[str, str, dict, object]] = []
        self.faults: list[tuple[str, str, int, dict]] = []
        """Method, part of the path, status and Status object: each answers once."""
        self.installed = True
        self.invalid: list[dict] = []
        """Causes: jobs are refused with 422."""
        self.logs: dict[str, LogScript] = {}
        self.cut_watches_after: int | None = None
        self.ports: dict[tuple[str, int], tuple[str, int]] = {}
        """Who answers at a pod's port, by pod and port: for port-forward."""
        self._history: list[tuple[int, str, str, dict]] = []
        self._versions = itertools.count(100)
        self._changed = threading.Condition()
        handler = type("Handler", (_Handler,), {"api": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self.closing = True
        with self._changed:
            self._changed.notify_all()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    closing = False

    # What tests do.

    def job(self, name: str = "flights", namespace: str = "default", **status) -> dict:
        body = {
            "apiVersion": "dask-training.io/v1alpha1",
            "kind": "DaskTrainingJob",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"runner": {"script": "print(1)\n"}, "workers": {"replicas": 2}, "backoffLimit": 0},
        }
        if status:
            body["status"] = status
        return self.put(f"{JOBS}/namespaces/{namespace}/dasktrainingjobs", body)

    def pod(self, name: str, role: str, job: dict, *, attempt: int = 1, index: int | None = None, **status) -> dict:
        labels = {
            "dask-training.io/job-uid": job["metadata"]["uid"],
            "dask-training.io/attempt": str(attempt),
            "dask-training.io/role": role,
        }
        if index is not None:
            labels["dask-training.io/worker"] = str(index)
        status = {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]} | status
        namespace = job["metadata"]["namespace"]
        body = {"kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels}, "status": status}
        return self.put(f"/api/v1/namespaces/{namespace}/pods", body)

    def status(self, name: str = "flights", namespace: str = "default", **status) -> dict:
        collection = f"{JOBS}/namespaces/{namespace}/dasktrainingjobs"
        with self._changed:  # a PATCH may come meanwhile
            body = merged(self.objects[collection, name], {"status": status})
            return self.put(collection, body)

    def patch(self, collection: str, name: str, patch: dict, *, dry_run: bool) -> dict:
        with self._changed:
            new = merged(self.objects.get((collection, name)) or {}, patch)
            return new if dry_run else self.put(collection, new)

    def put(self, collection: str, body: dict) -> dict:
        with self._changed:
            name = body["metadata"]["name"]
            old = self.objects.get((collection, name))
            version = next(self._versions)
            made = {"uid": f"uid-{version}", "creationTimestamp": now(), "generation": 1}
            kept = {key: old["metadata"][key] for key in made} if old else made
            body = body | {"metadata": body["metadata"] | kept | {"resourceVersion": str(version)}}
            self.objects[collection, name] = body
            self._history.append((version, collection, "MODIFIED" if old else "ADDED", body))
            self._changed.notify_all()
            return body

    def remove(self, collection: str, name: str) -> None:
        with self._changed:
            body = self.objects.pop((collection, name))
            self._history.append((next(self._versions), collection, "DELETED", body))
            self._changed.notify_all()

    def sent(self, method: str, part: str = "") -> list[tuple[str, str, dict, object]]:
        return [each for each in self.requests if each[0] == method and part in each[1]]

    # What requests do.

    def find(self, path: str) -> tuple[str, str, str]:
        """Collection, name and subresource of a path."""
        parts = path.split("/")
        start = 3 if parts[1] == "api" else 4
        rest = parts[start:]
        if rest[0] == "namespaces" and len(rest) > 2:
            start, rest = start + 2, rest[2:]
        collection = "/".join(parts[: start + 1])
        return collection, rest[1] if len(rest) > 1 else "", "/".join(rest[2:])

    def watch(self, collection: str, since: int, query: dict, write) -> None:
        written = 0
        end = time.monotonic() + float(query.get("timeoutSeconds", 60))
        name = query.get("fieldSelector", "").removeprefix("metadata.name=")
        while not self.closing and time.monotonic() < end:
            with self._changed:
                news = [each for each in self._history if each[0] > since and each[1] == collection]
                if not news:
                    self._changed.wait(0.2)
                    continue
            for version, _, kind, body in news:
                since = version
                if name and body["metadata"]["name"] != name:
                    continue
                line = json.dumps({"type": kind, "object": body}).encode() + b"\n"
                if self.cut_watches_after is not None and written >= self.cut_watches_after:
                    write(line[: len(line) // 2])  # in the middle of an event
                    return
                write(line)
                written += 1


class LogScript:
    """A container's log: lines with their times; streams are cut where the test says."""

    def __init__(self, *lines: str, cuts: tuple[int, ...] = ()) -> None:
        start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)
        self.lines = [(start + datetime.timedelta(milliseconds=40 * number), line) for number, line in enumerate(lines)]
        self.cuts = list(cuts)
        """Bytes after which one stream each breaks."""
        self.ended = True
        self.streams = 0

    def add(self, line: str) -> None:
        self.lines.append((datetime.datetime.now(datetime.UTC), line))

    def stream(self, query: dict, write, closing) -> None:
        self.streams += 1
        since = query.get("sinceTime")
        start = datetime.datetime.fromisoformat(since) if since else None
        sent, number = 0, 0
        cut = self.cuts.pop(0) if self.cuts else None
        if "tailLines" in query:
            number = max(0, len(self.lines) - int(query["tailLines"]))
        while True:
            while number < len(self.lines):
                at, line = self.lines[number]
                number += 1
                if start is not None and at < start:
                    continue
                stamp = at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "123Z" if query.get("timestamps") == "true" else ""
                data = f"{stamp} {line}\n".encode()
                if cut is not None and sent + len(data) > cut:
                    write(data[: cut - sent])
                    raise ConnectionAbortedError
                write(data)
                sent += len(data)
            if query.get("follow") != "true" or self.ended or closing():
                return
            time.sleep(0.02)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: FakeAPI

    def log_message(self, *_args) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def do_GET(self) -> None:
        self.answer(None)

    do_DELETE = do_GET  # noqa: N815 - http.server's name

    def do_POST(self) -> None:
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"null"))

    do_PATCH = do_POST  # noqa: N815 - as above

    def answer(self, body) -> None:
        if self.command == "DELETE":
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"null")
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.api.requests.append((self.command, parts.path, query, copy.deepcopy(body)))
        for fault in self.api.faults:
            if fault[0] == self.command and fault[1] in parts.path:
                self.api.faults.remove(fault)
                self.fail(fault[2], **fault[3])
                return
        if not self.api.installed and parts.path.startswith("/apis/dask-training.io"):
            self.reply(404, "404 page not found\n", kind="text/plain")
            return
        if parts.path in RESOURCES:
            self.reply(200, {"resources": RESOURCES[parts.path]})
            return
        getattr(self, f"on_{self.command.lower()}")(*self.api.find(parts.path), query, body)

    def on_get(self, collection, name, sub, query, _body) -> None:
        if sub == "portforward":
            self.forward(name, int(query["ports"]))
        elif sub == "log":
            self.stream(lambda write: self.api.logs[name].stream(query, write, lambda: self.api.closing))
        elif query.get("watch") == "true":
            self.stream(lambda write: self.api.watch(collection, int(query["resourceVersion"]), query, write))
        elif name:
            body = self.api.objects.get((collection, name))
            if body is None:
                self.missing(collection, name)
            else:
                self.reply(200, body)
        else:
            self.reply(200, {"items": self.listed(collection, query)})

    def forward(self, pod: str, port: int) -> None:
        if not any(name == pod for name, _ in self.api.ports):
            self.missing("/api/v1/pods", pod)
            return
        fake_forward.serve(self, port, self.api.ports.get((pod, port)))

    def listed(self, collection, query) -> list[dict]:
        everywhere = collection.startswith(f"{JOBS}/dasktrainingjobs")
        wanted = dict(pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair)
        return [
            body
            for (place, _), body in self.api.objects.items()
            if (place == collection or (everywhere and place.startswith(JOBS)))
            and wanted.items() <= body["metadata"].get("labels", {}).items()
        ]

    def on_post(self, collection, _name, _sub, query, body) -> None:
        name = body["metadata"]["name"]
        if self.api.invalid and collection.startswith(JOBS):
            self.fail(422, reason="Invalid", message="is invalid", details={"causes": self.api.invalid})
        elif (collection, name) in self.api.objects:
            self.fail(409, reason="AlreadyExists", message=f'"{name}" already exists')
        elif query.get("dryRun"):
            self.reply(201, body)
        else:
            namespace = collection.split("/")[-2]
            self.reply(201, self.api.put(collection, body | {"metadata": body["metadata"] | {"namespace": namespace}}))

    def on_patch(self, collection, name, sub, query, body) -> None:
        old = self.api.objects.get((collection, name))
        applied = "apply-patch" in self.headers["Content-Type"]
        if old is None and not applied:
            self.missing(collection, name)
            return
        wanted = body.get("metadata", {}).get("uid")
        if wanted and old is not None and wanted != old["metadata"]["uid"]:
            self.fail(409, reason="Conflict", message="Precondition failed: UID in precondition")
            return
        if sub == "scale":
            body = {"spec": {"workers": {"replicas": body["spec"]["replicas"]}}}
        self.reply(200, self.api.patch(collection, name, body, dry_run="dryRun" in query))

    def on_delete(self, collection, name, _sub, _query, body) -> None:
        old = self.api.objects.get((collection, name))
        uid = ((body or {}).get("preconditions") or {}).get("uid")
        if old is None:
            self.missing(collection, name)
        elif uid and uid != old["metadata"]["uid"]:
            self.fail(409, reason="Conflict", message="Precondition failed: UID in precondition")
        else:
            self.api.remove(collection, name)
            self.reply(200, {"kind": "Status", "status": "Success"})

    def missing(self, collection: str, name: str) -> None:
        plural = collection.rpartition("/")[2]
        self.fail(
            404, reason="NotFound", message=f'{plural} "{name}" not found', details={"name": name, "kind": plural}
        )

    def fail(self, status: int, **fields) -> None:
        self.reply(status, {"kind": "Status", "status": "Failure", "code": status, **fields})

    def reply(self, status: int, body, kind: str = "application/json") -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, produce) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

        def write(data: bytes) -> None:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()

        try:
            produce(write)
            self.wfile.write(b"0\r\n\r\n")
        except ConnectionAbortedError:
            self.close_connection = True  # without the last chunk: the reader sees a broken stream
