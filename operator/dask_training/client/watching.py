"""Following one job: its body whenever it changes, through broken connections, until the caller has seen enough."""

from __future__ import annotations

import json
import queue
import random
import threading
import time
from collections.abc import Iterator
from typing import Any, Self

from dask_training.client.connection import Body, Connection, jobs_path
from dask_training.errors import KubernetesError, NotFoundError, UnreachableError

_SERVER_SECONDS = 240  # the server ends a watch after so long; a bookmark comes every minute
_SILENCE_SECONDS = 90.0
_LONGEST_PAUSE = 5.0


class Watcher:
    """Watches a job in a thread of its own; `next` gives what it has seen.

    A job that is deleted (or made again under its name) ends it. Use as a context manager.
    """

    def __init__(self, connection: Connection, namespace: str, name: str, uid: str = "") -> None:
        self._connection = connection
        self._namespace = namespace
        self._name = name
        self._uid = uid
        self._seen: queue.SimpleQueue[Body | KubernetesError | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._response: Any = None
        self._thread = threading.Thread(target=self._run, name=f"watch {name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopped.set()
        response = self._response
        if response is not None:
            shutdown(response)
        self._thread.join(2.0)

    def next(self, timeout: float) -> Body | None:
        """The next state of the job, or None if nothing came in *timeout* seconds.

        Raises NotFoundError once the job is gone, and what the API server refuses for good.
        """
        try:
            seen = self._seen.get(timeout=timeout)
        except queue.Empty:
            return None
        if seen is None:
            raise NotFoundError(f"the job {self._name} was deleted")
        if isinstance(seen, KubernetesError):
            raise seen
        return seen

    def _run(self) -> None:
        pause = 0.2
        down_since: float | None = None
        while not self._stopped.is_set():
            try:
                for body in self._states():
                    pause, down_since = 0.2, None
                    self._seen.put(body)
                    if body is None:
                        return
            except NotFoundError:
                self._seen.put(None)
                return
            except UnreachableError as error:
                # A laptop that slept, an API server that is restarted: the job goes on without us.
                down_since = down_since or time.monotonic()
                if time.monotonic() - down_since > _SILENCE_SECONDS:
                    self._seen.put(error)
                    return
            except KubernetesError as error:
                self._seen.put(error)
                return
            self._stopped.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _states(self) -> Iterator[Body | None]:
        """The job as it is, then its changes until the stream ends; None for one that is gone."""
        body = self._connection.request("GET", jobs_path(self._namespace, self._name))
        self._uid = self._uid or body["metadata"]["uid"]
        if body["metadata"]["uid"] != self._uid:
            yield None
            return
        yield body
        query = {
            "watch": "true",
            "fieldSelector": f"metadata.name={self._name}",
            "resourceVersion": body["metadata"]["resourceVersion"],
            "allowWatchBookmarks": "true",
            "timeoutSeconds": _SERVER_SECONDS,
        }
        with self._connection.stream(
            jobs_path(self._namespace), query=query, read_seconds=_SILENCE_SECONDS
        ) as response:
            self._response = response
            if self._stopped.is_set():  # while the stream was opened: nobody ends it
                return
            for line in lines(response, self._stopped):
                event = json.loads(line)
                if event["type"] == "ERROR":  # such as 410: too old; what there is now comes next
                    return
                if event["type"] == "BOOKMARK" or event["object"]["metadata"]["uid"] != self._uid:
                    continue
                yield None if event["type"] == "DELETED" else event["object"]


def lines(response: Any, stopped: threading.Event) -> Iterator[bytes]:
    """The whole lines of a stream until *stopped*, which is set before `shutdown`; one that breaks just ends."""
    rest = b""
    try:
        for data in response.stream(65536):
            if stopped.is_set():  # TLS ends with the shutdown: what came after that has not been decrypted
                return
            *lines, rest = (rest + data).split(b"\n")
            yield from (line for line in lines if line.strip())
    except (GeneratorExit, KeyboardInterrupt):
        raise
    except Exception:  # noqa: BLE001 - urllib3, http.client, ssl and socket each have their own
        return


def shutdown(response: Any) -> None:
    """Ends another thread's wait for the next bytes of *response*, which must not use any that still come."""
    shut = getattr(response, "shutdown", None)  # urllib3 2.3 and later
    try:
        if shut is not None:
            shut()
        else:
            response.close()
    except Exception:  # noqa: BLE001 - it may have ended by itself meanwhile
        return
