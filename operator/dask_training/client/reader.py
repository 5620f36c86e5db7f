"""A job's artifacts from outside the cluster: a short-lived pod reads the store, a forwarded port brings the files."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from dask_training.api import Port
from dask_training.artifacts.faults import MissingError, StoppedError
from dask_training.artifacts.names import MANIFEST
from dask_training.artifacts.storage import CHUNK_BYTES
from dask_training.client.connection import Body, Connection, core_path
from dask_training.client.podstate import waiting_problem
from dask_training.client.portforward import PodHTTP
from dask_training.errors import ArtifactError, KubernetesError, NotFoundError, StoreDeniedError, StoreUnavailableError

if TYPE_CHECKING:
    from dask_training.artifacts import ArtifactStore
    from dask_training.artifacts.collect import Source
    from dask_training.artifacts.manifest import ManifestEntry
    from dask_training.artifacts.retry import Stop

READY_SECONDS = 180.0
_POLL_SECONDS = 0.3
_TRIES = 4
_RUN_PARTS = 4  # <namespace>/<name>/<uid>/<attempt>


@contextmanager
def open_store(
    connection: Connection, job: Body, say: Callable[[str], None] = lambda _: None
) -> Iterator[ArtifactStore]:
    """The store that *job* keeps its artifacts in, read through a pod that is there only meanwhile.

    Runs are `<namespace>/<name>/<uid>/<attempt>`. *say* is told, in one line, what is being waited for. Raises
    KubernetesError if the pod can't be made or does not start, ArtifactError if the store can't be read.
    """
    from dask_training.artifacts import ArtifactStore  # noqa: PLC0415 - takes a while; --help need not wait

    token = secrets.token_urlsafe(24)
    namespace = str(job["metadata"]["namespace"])
    pod = _reader_pod(job, token)
    name = str(connection.request("POST", core_path(namespace, "pods"), body=pod)["metadata"]["name"])
    try:
        _wait_until_running(connection, namespace, name, say)
        url = str(
            ((job.get("status") or {}).get("artifacts") or {}).get("url") or f"the store of {job['metadata']['name']}"
        )
        storage = ReaderStorage(lambda: PodHTTP(connection, namespace, name, Port.READER), token, root_url(url, job))
        storage.wait_until_ready(READY_SECONDS / 4)
        with ArtifactStore(storage) as store:
            yield store
    finally:
        with contextlib.suppress(KubernetesError):
            connection.request("DELETE", core_path(namespace, "pods", name), body={"gracePeriodSeconds": 0})


def run_prefix(job: Body, attempt: int | None = None) -> str:
    """Where the store has a job's run: of *attempt*, or of all attempts."""
    metadata = job["metadata"]
    parts = (metadata["namespace"], metadata["name"], metadata["uid"], *(() if attempt is None else (str(attempt),)))
    return "/".join(parts)


def root_url(url: str, job: Body) -> str:
    """The store's own address, from that of one of the job's runs in it."""
    return url.partition("/" + run_prefix(job))[0]


def _reader_pod(body: Body, token: str) -> Body:
    from dask_training.manifests import reader_pod  # noqa: PLC0415 - takes a while; --help need not wait
    from dask_training.model import TrainingJob  # noqa: PLC0415 - as above

    job = TrainingJob.from_body({key: value for key, value in body.items() if key != "status"})
    image = str((body.get("status") or {}).get("image") or job.spec.image)
    if not image:
        raise NotFoundError(f"{job.name} was never started: it has no artifacts")
    name = f"{job.name}-reader-{secrets.token_hex(3)}"
    return reader_pod(job, name=name, image=image, token=token, uid=job.metadata.uid)


def _wait_until_running(connection: Connection, namespace: str, name: str, say: Callable[[str], None]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    said = ""
    while True:
        pod = connection.request("GET", core_path(namespace, "pods", name))
        phase = pod.get("status", {}).get("phase")
        problem = waiting_problem(pod)
        if phase == "Running":
            return
        if phase in {"Succeeded", "Failed"} or (problem is not None and problem.is_final):
            raise KubernetesError(f"the pod {name} that reads the artifacts does not start: {problem or phase}")
        if problem is not None and str(problem) != said:
            said = str(problem)
            say(f"the pod {name} that reads the artifacts waits: {said}")
        if time.monotonic() > deadline:
            raise KubernetesError(f"the pod {name} that reads the artifacts did not start in {READY_SECONDS:.0f} s")
        time.sleep(_POLL_SECONDS)


class ReaderStorage:
    """The `Storage` of `ArtifactStore` behind the reader's HTTP API; reads only."""

    threads = 4

    def __init__(self, connect: Callable[[], http.client.HTTPConnection], token: str, url: str) -> None:
        self.url = url
        self._connect = connect
        self._headers = {"Authorization": f"Bearer {token}"}
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._runs: dict[str, list[str]] = {}

    @property
    def root(self) -> Path | None:
        """It is no folder here."""
        return None

    def wait_until_ready(self, seconds: float) -> None:
        """Return when the reader answers; raises StoreUnavailableError if it does not in *seconds*."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                with self._answer("/healthz", {}):
                    return
            except (OSError, http.client.HTTPException, KubernetesError, ArtifactError) as error:
                if time.monotonic() > deadline:
                    raise StoreUnavailableError(f"the pod that reads the artifacts does not answer: {error}") from error
            time.sleep(_POLL_SECONDS)

    def read(self, key: str, limit: int, stop: Stop) -> Iterator[bytes]:
        """The file's first *limit* bytes; after a broken connection it goes on where it was."""
        *run, path = key.split("/", _RUN_PARTS)
        prefix = "/".join(run)
        query = {"prefix": prefix} | ({} if path == MANIFEST else {"path": path})
        place = "/v1/manifest" if path == MANIFEST else "/v1/file"
        got = 0
        for left in reversed(range(_TRIES)):
            try:
                with self._answer(place, query) as response:
                    _skip(response, got)
                    while got < limit and (data := response.read(min(CHUNK_BYTES, limit - got))):
                        if stop():
                            raise StoppedError("stopped")
                        got += len(data)
                        yield data
                    if got < limit and response.length:  # http.client takes a connection that ends for the end
                        raise http.client.IncompleteRead(b"", response.length)
                    return
            except (OSError, http.client.HTTPException, KubernetesError) as error:
                if not left:
                    raise StoreUnavailableError(f"reading {path} from the cluster failed: {error}") from error
            time.sleep(_POLL_SECONDS)

    def children(self, prefix: str, stop: Stop) -> tuple[list[str], bool]:  # noqa: ARG002 - Storage's signature
        """As the reader's list of complete runs has it."""
        runs = self.runs(prefix)
        below = {run.removeprefix(f"{prefix}/" if prefix else "").split("/", 1)[0] for run in runs if run != prefix}
        return sorted(below), prefix in runs

    def runs(self, prefix: str) -> list[str]:
        """The complete runs at or below *prefix*."""
        known = next((each for each in self._runs if prefix == each or prefix.startswith(f"{each}/")), None)
        if known is None:
            with self._answer("/v1/runs", {"prefix": prefix}) as response:
                answer = json.loads(response.read())
            listed = answer["runs"] if isinstance(answer, dict) else answer
            self._runs[prefix] = [each["run"] if isinstance(each, dict) else str(each) for each in listed]
            known = prefix
        return [run for run in self._runs[known] if not prefix or run == prefix or run.startswith(f"{prefix}/")]

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _answer(self, place: str, query: Mapping[str, str]) -> Iterator[http.client.HTTPResponse]:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        connection = connection or self._connect()
        whole = False
        try:
            connection.request("GET", f"{place}?{urlencode(query)}" if query else place, headers=self._headers)
            response = connection.getresponse()
            if response.status != 200:
                raise _refused(response.status, response.read(4000).decode("utf-8", "replace"))
            yield response
            whole = response.isclosed()
        finally:
            if whole:
                with self._lock:
                    self._idle.append(connection)
            else:
                connection.close()

    def put(self, source: Source, key: str, stop: Stop) -> ManifestEntry:
        """Not possible."""
        raise _read_only(source, key, stop)

    def put_bytes(self, data: bytes, key: str, stop: Stop) -> None:
        """Not possible."""
        raise _read_only(data, key, stop)

    def remove(self, key: str, stop: Stop) -> None:
        """Not possible."""
        raise _read_only(key, stop)

    def sweep(self, prefix: str, stop: Stop) -> None:
        """Not possible."""
        raise _read_only(prefix, stop)

    def probe(self, deadline_seconds: float) -> None:
        """Not possible."""
        raise _read_only(deadline_seconds)

    def flush(self) -> None:
        """Nothing was written."""


def _read_only(*_: object) -> StoreDeniedError:
    return StoreDeniedError("a job's artifacts can only be read from outside the cluster")


def _refused(status: int, text: str) -> ArtifactError:
    try:
        message = str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        message = text.strip() or f"HTTP {status}"
    if status == 404:
        return MissingError(message)
    if status in {401, 403}:
        return StoreDeniedError(message)
    return StoreUnavailableError(message)


def _skip(response: http.client.HTTPResponse, count: int) -> None:
    while count > 0:
        data = response.read(min(CHUNK_BYTES, count))
        if not data:
            return
        count -= len(data)
