"""A pod's log, line by line, as long as it grows: through broken streams and restarts, no line twice."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from dask_training.client.connection import Body, Connection, core_path
from dask_training.client.watching import shutdown
from dask_training.errors import KubernetesError, NotFoundError, UnreachableError
from dask_training.model.problems import JobFileError

# The server tells times to the second, so a stream that goes on where another broke repeats what came just before.
_OVERLAP = timedelta(seconds=2)
_READ_SECONDS = 45.0
_POLL_SECONDS = 0.4
_GIVE_UP_SECONDS = 120.0


class PodLog:
    """The log of one pod's only container.

    `lines()` ends when the container has ended for good, the pod is gone, or `stop()` was called.
    """

    def __init__(self, connection: Connection, namespace: str, pod: str, *, tail: int | None = None) -> None:
        self._connection = connection
        self._namespace = namespace
        self._pod = pod
        self._tail = tail
        self._memory = _Memory()
        self._stopped = threading.Event()
        self._response: Any = None

    def stop(self) -> None:
        """End `lines()`, from another thread."""
        self._stopped.set()
        if self._response is not None:
            shutdown(self._response)

    def lines(self, *, follow: bool) -> Iterator[str]:
        """The lines so far, and with *follow* those that come.

        Raises NotFoundError if the pod is not there, ForbiddenError if its log may not be read.
        """
        broken_since: float | None = None
        while not self._stopped.is_set():
            pod = self._read_pod(first=not self._memory)
            if pod is None:
                return
            ended = _has_ended(pod)
            if not _has_started(pod):
                if ended or not follow:
                    return
                self._stopped.wait(_POLL_SECONDS)
                continue
            before = self._memory.count
            whole = yield from self._stream(follow=follow and not ended)
            if whole and (ended or not follow):
                return
            if self._memory.count > before or whole:
                broken_since = None
            else:
                broken_since = broken_since or time.monotonic()
                if time.monotonic() - broken_since > _GIVE_UP_SECONDS:
                    raise UnreachableError(f"the log of pod {self._pod} can't be read: its stream breaks at once")
            self._stopped.wait(_POLL_SECONDS)

    def _read_pod(self, *, first: bool) -> Body | None:
        try:
            return self._connection.request("GET", core_path(self._namespace, "pods", self._pod))
        except NotFoundError:
            if first:
                raise
            return None

    def _stream(self, *, follow: bool) -> Generator[str, None, bool]:
        """New lines of one request; returns whether it came to the log's end rather than breaking."""
        query: dict[str, object] = {"timestamps": "true", "follow": str(follow).lower()}
        if self._memory:
            query["sinceTime"] = self._memory.since()
        elif self._tail is not None:
            query["tailLines"] = self._tail
        path = core_path(self._namespace, "pods", self._pod, "log")
        try:
            with self._connection.stream(path, query=query, read_seconds=_READ_SECONDS) as response:
                self._response = response
                return (yield from self._new(response, last_counts=not follow))
        except (NotFoundError, UnreachableError, JobFileError):  # 400: the container is just being started
            return False

    def _new(self, response: Any, *, last_counts: bool) -> Generator[str, None, bool]:
        rest = b""
        try:
            for data in response.stream(65536):
                if self._stopped.is_set():  # no TLS any more: see watching.lines
                    return False
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    text = self._memory.new(line)
                    if text is not None:
                        yield text
        except (GeneratorExit, KeyboardInterrupt):
            raise
        except Exception:  # noqa: BLE001 - urllib3, http.client, ssl and socket each have their own
            return False  # what follows the last newline comes again
        if rest and last_counts and (text := self._memory.new(rest)) is not None:
            yield text
        return True


class _Memory:
    """Which lines were seen within the last seconds of a log, by their times (nanoseconds) and texts."""

    def __init__(self) -> None:
        self.count = 0
        self._latest = datetime.min.replace(tzinfo=UTC)
        self._recent: deque[tuple[datetime, int]] = deque()
        self._known: dict[int, int] = {}
        self._again: dict[int, int] = {}

    def __bool__(self) -> bool:
        return self.count > 0

    def since(self) -> str:
        """From where to go on; what is known of the time since then is not told again."""
        self._again = dict(self._known)
        return (self._latest - _OVERLAP).strftime("%Y-%m-%dT%H:%M:%SZ")

    def new(self, line: bytes) -> str | None:
        """The line's text without its time, or None if it came before."""
        key = hash(line)
        if self._again.get(key):
            self._again[key] -= 1
            return None
        stamp, _, text = line.partition(b" ")
        at = _parsed(stamp)
        if at is None:
            text = line  # a message of the server's own
        else:
            self._keep(at, key)
        self.count += 1
        return text.decode("utf-8", "replace").removesuffix("\r")

    def _keep(self, at: datetime, key: int) -> None:
        self._latest = max(self._latest, at)
        self._recent.append((at, key))
        self._known[key] = self._known.get(key, 0) + 1
        # One more second: `since` is cut to whole ones.
        while self._recent and self._recent[0][0] < self._latest - _OVERLAP - timedelta(seconds=1):
            _, old = self._recent.popleft()
            self._known[old] -= 1
            if not self._known[old]:
                del self._known[old]


def _parsed(stamp: bytes) -> datetime | None:
    text = stamp.decode("ascii", "replace")
    head, dot, rest = text.partition(".")
    fraction = rest.rstrip("Z")[:6] if dot else ""
    try:
        at = datetime.fromisoformat(f"{head.removesuffix('Z')}.{fraction.ljust(6, '0')}")
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if text.endswith("Z") else None


def _statuses(pod: Body) -> list[Body]:
    return list(pod.get("status", {}).get("containerStatuses") or [])


def _has_started(pod: Body) -> bool:
    return any(
        "running" in each.get("state", {}) or "terminated" in each.get("state", {}) or each.get("restartCount", 0)
        for each in _statuses(pod)
    )


def _has_ended(pod: Body) -> bool:
    """Whether no container of it will write again."""
    return pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}


def follow_in_thread(
    log: PodLog, take: Callable[[str], None], on_error: Callable[[KubernetesError], None], *, follow: bool = True
) -> threading.Thread:
    """Give each line to *take* in a daemon thread, which is returned started."""

    def run() -> None:
        try:
            for line in log.lines(follow=follow):
                take(line)
        except KubernetesError as error:
            on_error(error)

    thread = threading.Thread(target=run, name="pod log", daemon=True)
    thread.start()
    return thread
