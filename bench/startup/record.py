"""One job seen from the host: what watches, the runner's log and containerd tell, each with the host's time.

Containers share the host's kernel and with it its clock, so that times printed in a pod need no translation.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Self

from bench.cluster import Cluster, tool
from bench.startup.contenders import Contender

from dask_training.client.watching import shutdown
from dask_training.errors import KubernetesError

STAGE = re.compile(r"bench-stage (\w+) ([\d.]+)")
CONTAINERD = re.compile(r"^(\S+ \S+) \+0000 UTC \S+ /tasks/(start|exit) (\{.*\})$")

Seen = dict[str, Any]


class Recorder:
    """Collects what is seen of one job until it is closed; `seen` is JSON-ready and in order of time.

    Each entry has `at` (seconds since 1970), `source` (pod, event, status, log, containerd) and what it saw.
    """

    def __init__(
        self, cluster: Cluster, namespace: str, contender: Contender, job: str, *, all_logs: bool = False
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._contender = contender
        self._job = job
        self._all_logs = all_logs
        self._seen: list[Seen] = []
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._responses: list[Any] = []
        self._threads: list[threading.Thread] = []
        self._pods: dict[str, Seen] = {}
        self._containerd: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        core = f"/api/v1/namespaces/{self._namespace}"
        jobs = f"/apis/{self._contender.api_version}/namespaces/{self._namespace}/{self._contender.plural}"
        ready = [threading.Event() for _ in range(3)]
        self._start(self._watch, f"{core}/pods", self._on_pod, ready[0])
        self._start(self._watch, f"{core}/events", self._on_event, ready[1])
        self._start(self._watch, jobs, self._on_job, ready[2])
        self._start(self._follow_containerd)
        if not all(each.wait(60) for each in ready):
            raise KubernetesError("the watches did not begin within 60 s")
        return self

    def __exit__(self, *exc: object) -> None:
        self._closed.set()
        for response in self._responses:
            shutdown(response)
        if self._containerd is not None:
            self._containerd.kill()
        for thread in self._threads:
            thread.join(5)

    @property
    def seen(self) -> list[Seen]:
        """A copy, in order of time."""
        with self._changed:
            return sorted(self._seen, key=lambda each: float(each["at"]))

    def mark(self, stage: str, at: float) -> None:
        """Note something of the benchmark's own."""
        self._note(at, "bench", stage=stage)

    def wait(self, done: Callable[[list[Seen]], bool], seconds: float) -> bool:
        """Whether *done* came true of what has been seen, within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: done(self._seen), seconds)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _note(self, at: float, source: str, **what: object) -> None:
        with self._changed:
            self._seen.append({"at": at, "source": source, **what})
            self._changed.notify_all()

    def _watch(self, path: str, handle: Callable[[float, str, Any], None], ready: threading.Event) -> None:
        version = self._cluster.api.request("GET", path, query={"limit": 1})["metadata"]["resourceVersion"]
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": 600}
        with self._stream(path, query) as lines:
            ready.set()
            for line in lines:
                at = time.time()
                change = json.loads(line)
                handle(at, change["type"], change["object"])

    @contextlib.contextmanager
    def _stream(self, path: str, query: dict[str, Any]) -> Iterator[Iterator[bytes]]:
        with self._cluster.api.stream(path, query=query, read_seconds=600) as response:
            self._responses.append(response)
            yield _lines(response, self._closed)

    def _on_pod(self, at: float, change: str, pod: Any) -> None:
        labels = pod["metadata"].get("labels", {})
        if labels.get(self._contender.job_label) != self._job:
            return
        name = pod["metadata"]["name"]
        role = labels.get(self._contender.role_label, "")
        role = "runner" if role == self._contender.runner_role else role
        status = pod.get("status", {})
        states = [each["state"] for each in status.get("containerStatuses", ())]
        now: Seen = {
            "pod": name,
            "role": role,
            "phase": status.get("phase"),
            "conditions": sorted(each["type"] for each in status.get("conditions", ()) if each["status"] == "True"),
            "containers": sorted({state for each in states for state in each}),
            "ids": [each.get("containerID", "").rpartition("/")[2] for each in status.get("containerStatuses", ())],
            "deleting": "deletionTimestamp" in pod["metadata"],
        }
        if change == "DELETED" or now != self._pods.get(name):
            self._note(at, "pod", change=change, **now)
        followed = name in self._pods and "running" in self._pods[name]["containers"]
        self._pods[name] = now
        if (role == "runner" or self._all_logs) and "running" in now["containers"] and not followed:
            self._start(self._follow_log, name)

    def _on_event(self, at: float, change: str, event: Any) -> None:
        about = event["involvedObject"]
        if change == "DELETED" or not about.get("name", "").startswith(self._job):
            return
        self._note(
            at,
            "event",
            about=f"{about['kind']}/{about['name']}",
            reason=event.get("reason"),
            message=str(event.get("message", ""))[:200],
        )

    def _on_job(self, at: float, change: str, body: Any) -> None:
        if body["metadata"]["name"] == self._job:
            status = body.get("status", {})
            self._note(at, "status", change=change, stages=sorted(self._contender.reached(status)), status=status)

    def _follow_log(self, pod: str) -> None:
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod}/log"
        with (
            contextlib.suppress(KubernetesError),
            self._stream(path, {"follow": "true", "timestamps": "true"}) as lines,
        ):
            for line in lines:
                stamp, _, text = line.decode("utf-8", "replace").partition(" ")
                stage = STAGE.search(text)
                if stage:
                    self._note(float(stage[2]), "script", stage=stage[1])
                else:
                    self._note(_seconds(stamp), "log", pod=pod, line=text[:500])

    def _follow_containerd(self) -> None:
        command = [tool("docker"), "exec", self._cluster.node, "ctr", "-n", "k8s.io", "events"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            self._containerd = process
            for line in process.stdout or ():
                found = CONTAINERD.match(line.strip())
                if found:
                    what = json.loads(found[3])
                    # An exit of the container's first process, not of one that was executed in it.
                    if what.get("id", what["container_id"]) == what["container_id"]:
                        at = _seconds(found[1].replace(" ", "T") + "Z")
                        self._note(at, "containerd", container=what["container_id"], what=found[2])


def _lines(response: Any, closed: threading.Event) -> Iterator[bytes]:
    rest = b""
    try:
        for data in response.stream(65536):
            if closed.is_set():  # no TLS any more: see dask_training.client.watching
                return
            *lines, rest = (rest + data).split(b"\n")
            yield from (line for line in lines if line)
    except Exception:
        if not closed.is_set():
            raise


def _seconds(stamp: str) -> float:
    """RFC 3339 with nanoseconds, in seconds since 1970."""
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    return datetime.fromisoformat(whole + "+00:00").timestamp() + float(f"0.{fraction or 0}")
