"""So many jobs applied at once, what becomes of them, and how the operator fares with them."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import psutil
from bench.cluster import OPERATOR, BenchError, Cluster, Operator, run, settle, until
from bench.many_jobs.nodes import PLACE, PODS_EACH, nodes

from dask_training.api import API_VERSION, KIND, PLURAL
from dask_training.client.watching import lines, shutdown

NAMESPACE = "many-jobs-bench"
JOBS = f"/apis/{API_VERSION}/namespaces/{NAMESPACE}/{PLURAL}"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
PODS_OF_A_JOB = 4  # scheduler, runner and two workers
AT_ONCE = 16  # requests of the benchmark's own
LIMIT = 600.0  # seconds that anything may take


class Watched:
    """When each job was seen first, when with a status for the first time, and when each pod, by the watches' clock."""

    def __init__(self, cluster: Cluster) -> None:
        self._api = cluster.api
        self._made: dict[str, float] = {}
        self._written: dict[str, float] = {}
        self._phases: dict[str, str] = {}
        self.pods: list[float] = []
        """When each pod came, in order of time."""
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._responses: list[Any] = []
        follow = ((JOBS, self._list_jobs, self._note_job), (PODS, self._list_pods, self._note_pod))
        self._threads = [threading.Thread(target=self._watch, args=each, daemon=True) for each in follow]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        until(lambda: len(self._responses) >= len(self._threads), 10, "the watches have not begun")
        return self

    def __exit__(self, *exc: object) -> None:
        self._closed.set()
        for response in self._responses:
            shutdown(response)
        for thread in self._threads:
            thread.join(5)

    def _watch(self, path: str, listed: Callable[[list[dict[str, Any]]], None], note: Callable[[bytes], None]) -> None:
        while not self._closed.is_set():  # the server cuts off who is too slow for it
            page = self._api.request("GET", path)
            listed(page["items"])
            query = {"watch": "true", "timeoutSeconds": 3600}
            query["resourceVersion"] = page["metadata"]["resourceVersion"]
            with self._api.stream(path, query=query, read_seconds=3600) as response:
                self._responses.append(response)
                for line in lines(response, self._closed):
                    note(line)

    def _list_pods(self, items: list[dict[str, Any]]) -> None:
        with self._changed:
            self.pods += [time.monotonic()] * (len(items) - len(self.pods))
            self._changed.notify_all()

    def _list_jobs(self, items: list[dict[str, Any]]) -> None:
        for body in items:
            self._note(time.monotonic(), "MODIFIED", body)

    def _note_pod(self, line: bytes) -> None:
        # Not read any further: so many pods would cost the cores that are measured.
        if line.startswith(b'{"type":"ADDED"'):
            with self._changed:
                self.pods.append(time.monotonic())
                self._changed.notify_all()

    def _note_job(self, line: bytes) -> None:
        now = time.monotonic()
        change = json.loads(line)
        self._note(now, change["type"], change["object"])

    def _note(self, now: float, change: str, body: dict[str, Any]) -> None:
        name, status = body["metadata"]["name"], body.get("status") or {}
        with self._changed:
            if change == "DELETED":
                self._phases.pop(name, None)
            else:
                self._made.setdefault(name, now)
                if status:
                    self._written.setdefault(name, now)
                self._phases[name] = status.get("phase", "")
            self._changed.notify_all()

    def wait(self, true: Callable[[], bool], what: str) -> None:
        """Until it is true after a change. Raises BenchError with *what* if it does not come."""
        with self._changed:
            if not self._changed.wait_for(true, LIMIT):
                raise BenchError(f"after {LIMIT:g} s {what}")

    def latency(self, name: str) -> float:
        """Seconds from the job's being there to the operator's first write to it."""
        return self._written[name] - self._made[name]

    def written(self, *names: str) -> bool:
        """Whether the operator has written to all of these."""
        return all(name in self._written for name in names)

    def number(self, phase: str) -> int:
        """How many jobs are in that phase."""
        return sum(each == phase for each in self._phases.values())


def measure(
    cluster: Cluster, operator: Operator, *, jobs: int, suspended: int, probes: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """What `report.markdown` takes, JSON-ready. Raises BenchError. What was made is gone in any case."""
    found: dict[str, Any] = {"jobs": jobs, "suspended": suspended, "busyBefore": settle()}
    restart(cluster, operator)
    number = -(-PODS_OF_A_JOB * (jobs + 1) // PODS_EACH)
    with nodes(cluster, number), cluster.namespace(NAMESPACE, LIMIT), Watched(cluster) as watched:
        found["idle"] = _rest(cluster, operator, watched, "idle", probes)
        say(f"idle: {_told(found['idle'])}")
        found["burst"] = _burst(cluster, watched, jobs)
        say(f"all pods of {jobs} jobs are there after {found['burst']['podsSeconds']:.1f} s")
        watched.wait(lambda: watched.number("Running") == jobs, "not all jobs run")
        found["many"] = _rest(cluster, operator, watched, "many", probes)
        say(f"with {jobs} jobs: {_told(found['many'])}")
        more = [f"suspended-{each}" for each in range(suspended)]
        _create(cluster, [_job(name, suspend=True) for name in more])
        watched.wait(lambda: watched.written(*more), "not all suspended jobs were written to")
        found["most"] = _rest(cluster, operator, watched, "most", 0)
        say(f"with {suspended} suspended jobs more: {_told(found['most'])}")
        deleted = time.monotonic()
    found["goneSeconds"] = time.monotonic() - deleted
    say(f"the namespace is gone after {found['goneSeconds']:.0f} s")
    found["restarts"] = _restarts(cluster, operator)
    return found


def restart(cluster: Cluster, operator: Operator) -> None:
    """A new operator: memory that an earlier load has left it with is none of this one's."""
    _kubectl(cluster, operator, "rollout", "restart", f"deployment/{operator.name}")
    _kubectl(cluster, operator, "rollout", "status", f"deployment/{operator.name}", "--timeout=120s")
    until(lambda: len(_pods_of(cluster, operator)) == 1, 60, "the old operator is still there")


def _burst(cluster: Cluster, watched: Watched, jobs: int) -> dict[str, Any]:
    names = [f"many-{each}" for each in range(jobs)]
    before = cpu_seconds()
    began = time.monotonic()
    applied = _create(cluster, [_job(name) for name in names]) - began
    watched.wait(lambda: len(watched.pods) >= PODS_OF_A_JOB * jobs, "not all pods are there")
    spent = cpu_seconds()
    watched.wait(lambda: watched.written(*names), "not all jobs were written to")
    return {
        "appliedSeconds": applied,
        "requestsAtOnce": AT_ONCE,
        "podsSeconds": watched.pods[-1] - began,
        "cpuSeconds": {name: round(seconds - before.get(name, 0), 2) for name, seconds in spent.items()},
        "latencies": sorted(watched.latency(name) for name in names),
        "podsAfter": [(round(at - began, 2), number) for number, at in enumerate(watched.pods, 1)],
    }


def cpu_seconds() -> dict[str, float]:
    """What each program of the cluster, the operator and the benchmark has had of this machine's cores so far."""
    found: dict[str, float] = {}
    for process in psutil.process_iter(["pid", "name", "cmdline", "cpu_times"]):
        name = process.info["name"]
        if "dask_training.handlers" in (process.info["cmdline"] or ()):
            name = "the operator"
        elif process.info["pid"] == os.getpid():
            name = "the benchmark"
        times = process.info["cpu_times"]
        found[name] = found.get(name, 0.0) + times.user + times.system
    return found


def _rest(cluster: Cluster, operator: Operator, watched: Watched, what: str, probes: int) -> dict[str, Any]:
    """Jobs that come one after the other while nothing else changes; then the operator's memory."""
    settle(60)
    latencies = []
    for each in range(probes):
        name = f"probe-{what}-{each}"
        cluster.api.request("POST", JOBS, body=_job(name, suspend=True))
        watched.wait(lambda name=name: watched.written(name), f"{name} was not written to")  # type: ignore[misc]
        latencies.append(watched.latency(name))
        cluster.delete_later(f"{JOBS}/{name}")
    return {"latencies": sorted(latencies)} | _memory(cluster, operator)


def _create(cluster: Cluster, bodies: list[dict[str, Any]]) -> float:
    """Makes them, several at a time; when the last one was made."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda body: cluster.api.request("POST", JOBS, body=body), bodies))
    return time.monotonic()


def _job(name: str, **more: Any) -> dict[str, Any]:
    spec = {"workers": {"replicas": 2}, "runner": {"script": "print('never run')"}, **PLACE, **more}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}


def _kubectl(cluster: Cluster, operator: Operator, *args: str) -> str:
    """What kubectl prints, in the operator's namespace."""
    return run("kubectl", "--context", f"kind-{cluster.name}", "-n", operator.namespace, *args)


def _pods_of(cluster: Cluster, operator: Operator) -> list[dict[str, Any]]:
    path = f"/api/v1/namespaces/{operator.namespace}/pods"
    return cluster.api.list(path, labelSelector=OPERATOR)


def _memory(cluster: Cluster, operator: Operator) -> dict[str, float]:
    """Bytes in memory of the operator's process, now and at the most."""
    [pod] = _pods_of(cluster, operator)
    code = "print(open('/proc/1/status').read())"
    status = _kubectl(cluster, operator, "exec", pod["metadata"]["name"], "--", "python", "-c", code)
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return {
        name: int(fields[field].split()[0]) * 1024 for name, field in (("memory", "VmRSS"), ("peakMemory", "VmHWM"))
    }


def _restarts(cluster: Cluster, operator: Operator) -> int:
    [pod] = _pods_of(cluster, operator)
    return sum(each["restartCount"] for each in pod["status"]["containerStatuses"])


def _told(found: dict[str, Any]) -> str:
    latencies = found["latencies"]
    slowest = f"first write within {latencies[-1] * 1000:.0f} ms, " if latencies else ""
    return f"{slowest}{found['memory'] / 1e6:.0f} MB"
