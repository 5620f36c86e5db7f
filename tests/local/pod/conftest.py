"""The programs of a job's pods as real processes on this machine: a folder stands for each pod's file system."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import machine
import pytest
from machine import free_port, slowdown

from dask_training import api, termination
from dask_training.artifacts import ArtifactStore
from dask_training.artifacts.layout import key_prefix
from dask_training.certificates import make_certificates

UID = "0a1b2c3d-0000-4000-8000-000000000000"
TOKEN = "0123456789abcdef"
HOST = "127.0.0.1"


@dataclass
class Pod:
    """A pod: its process, its file system and what it printed."""

    root: Path
    process: subprocess.Popen
    output: Path

    @property
    def printed(self) -> str:
        return self.output.read_text(errors="replace")

    @property
    def termination(self) -> termination.Termination | None:
        file = self.root / "dev/termination-log"
        return termination.parse(file.read_text()) if file.exists() else None

    def wait(self, timeout: float = 60.0) -> int:
        try:
            return self.process.wait(timeout * slowdown())
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {timeout} s; it printed:\n{self.printed[-4000:]}")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends the signal to the pod's program, or with SIGKILL to all of the pod, as its node's loss would."""
        if number != signal.SIGKILL:
            self.process.send_signal(number)
            return
        import psutil

        family = psutil.Process(self.process.pid)
        for process in [family, *family.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):  # its parent's end may have ended it
                process.kill()


@dataclass
class Pods:
    """An attempt at a job: what its Secret holds, and the pods that were started for it."""

    tmp: Path
    name: str = "forest"
    uid: str = UID
    attempt: int = 1
    spec: dict = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)

    def __post_init__(self):
        self.scheduler_port, self.http_port = free_port(), free_port()
        self.certificates = make_certificates(self.name, ("scheduler", "worker", "client"), lifetime_seconds=3600)
        self.store = self.tmp / "store"

    @property
    def address(self) -> str:
        return f"tls://{HOST}:{self.scheduler_port}"

    @property
    def body(self) -> dict:
        spec = {"workers": {"replicas": 1}, **self.spec}
        metadata = {"name": self.name, "namespace": "team-a", "uid": self.uid}
        return {"apiVersion": api.API_VERSION, "kind": api.KIND, "metadata": metadata, "spec": spec}

    def start(self, role: str, name: str | None = None, **env: str) -> Pod:
        """Starts a pod; one that is there already is started again in place, as the kubelet does it."""
        name = name or role
        root = self.tmp / self.uid[:4] / name
        self._fill(role, root)
        output = self.tmp / f"{self.uid[:4]}-{name}.out"
        command = [sys.executable, "-m", "dask_training.runner.pod", role]
        with output.open("ab") as out:
            process = subprocess.Popen(
                command, cwd=root / "work", env=self._environment(role, name, root) | env, stdout=out, stderr=out
            )
        self.pods[name] = Pod(root, process, output)
        return self.pods[name]

    def start_cluster(self, workers: int = 1) -> None:
        self.start("scheduler")
        for number in range(workers):
            self.start("worker", f"forest-12345-1-worker-{number}")

    def run(self, workers: int = 1, timeout: float = 60.0, **env: str) -> Pod:
        """Starts all pods at once and waits for the runner's end."""
        self.start_cluster(workers)
        runner = self.start("runner", **env)
        runner.wait(timeout)
        return runner

    def worker(self, number: int) -> Pod:
        return self.pods[f"forest-12345-1-worker-{number}"]

    def status(self, token: str | None = TOKEN, path: str = "/dask-training/v1/status") -> tuple[int, dict]:
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        request = urllib.request.Request(f"http://{HOST}:{self.http_port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5 * slowdown()) as reply:
                return reply.status, json.loads(reply.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, {}
        except OSError:
            return 0, {}

    def kept(self) -> Path:
        """Where the attempt's files are in the folder store; verified."""
        store = ArtifactStore.from_url(str(self.store))
        prefix = key_prefix("team-a", self.name, self.uid, self.attempt)
        assert store.verify(prefix) == []
        return self.store / prefix

    def end(self) -> None:
        for pod in self.pods.values():
            if pod.process.poll() is None:
                pod.kill()
        for pod in self.pods.values():
            pod.process.wait(10)

    def _fill(self, role: str, root: Path) -> None:
        secret = root / "etc/dask-training"
        for folder in (secret, root / "code", root / "work", root / "dev", root / "script"):
            folder.mkdir(parents=True, exist_ok=True)
        leaf = {"runner": "client"}.get(role, role)
        (secret / "ca.pem").write_bytes(self.certificates.ca)
        if leaf in self.certificates.leaves:
            made = self.certificates.leaves[leaf]
            (secret / f"{leaf}.pem").write_bytes(made.certificate + made.key)
        if role == "runner":
            (secret / "job.json").write_text(json.dumps(self.body))
        if role == "scheduler" or (role == "runner" and "clusterRef" in self.spec):
            (secret / "token").write_text(TOKEN)
        if role == "engine":
            (secret / "code.json").write_text(json.dumps(self.spec.get("runner", {})))

    def _environment(self, role: str, name: str, root: Path) -> dict[str, str]:
        here = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
        return {
            **here,
            "DASK_TRAINING_ROOT": str(root),
            "DASK_TRAINING_SCHEDULER_PORT": str(self.scheduler_port),
            "DASK_TRAINING_HTTP_PORT": str(self.http_port),
            "DASK_TRAINING_WORKER_PORT": "0",
            "HOME": str(root / "work"),
            api.Env.SCHEDULER_ADDRESS: self.address,
            api.Env.POD_IP: HOST,
            api.Env.POD_NAME: name,
            api.Env.JOB_NAME: self.name,
            api.Env.JOB_NAMESPACE: "team-a",
            api.Env.JOB_UID: self.uid,
            api.Env.ATTEMPT: str(self.attempt),
            api.Env.THREADS: "1",
            api.Env.DASHBOARD: "false",
            api.Env.STORE_URL: f"file://{self.store}",
            **self.env,
        }


@pytest.fixture
def pods(tmp_path):
    """Makes attempts; whatever of them is left at the end is killed."""
    made = []

    def make(script: str | None = None, *, env=None, **fields) -> Pods:
        spec = fields.pop("spec", {})
        if script is not None:
            spec = {**spec, "runner": {"script": script, **spec.get("runner", {})}}
        made.append(Pods(tmp_path, spec=spec, env=env or {}, **fields))
        return made[-1]

    yield make
    for attempt in made:
        attempt.end()


@dataclass
class Host:
    """A cluster of somebody else's: Dask's own commands, without TLS."""

    folder: Path
    processes: list[subprocess.Popen] = field(default_factory=list)

    @property
    def address(self) -> str:
        return json.loads((self.folder / "scheduler.json").read_text())["address"]

    def start(self, *command: str, **env: str) -> subprocess.Popen:
        known = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
        known["DASK_TEMPORARY_DIRECTORY"] = str(self.folder)
        with (self.folder / f"{command[0]}-{len(self.processes)}.out").open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command], cwd=self.folder, env=known | env, stdout=out, stderr=out
            )
        self.processes.append(process)
        return process

    def start_scheduler(self, **env: str) -> None:
        file = self.folder / "scheduler.json"
        self.start("scheduler", "--host", HOST, "--port", "0", "--no-dashboard", "--scheduler-file", str(file), **env)
        machine.wait_until(lambda: file.exists() and file.read_text().strip(), what="the scheduler")

    def start_worker(self, **env: str) -> None:
        import distributed

        self.start(
            "worker",
            self.address,
            "--nthreads",
            "1",
            "--no-nanny",
            "--no-dashboard",
            "--local-directory",
            str(self.folder),
            **env,
        )
        with distributed.Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=20 * slowdown())

    def end(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait(10)


@pytest.fixture
def host(tmp_path):
    """Somebody else's cluster with one worker."""
    folder = tmp_path / "host"
    folder.mkdir()
    found = Host(folder)
    try:
        found.start_scheduler()
        found.start_worker()
        yield found
    finally:
        found.end()


@pytest.fixture
def wait_until():
    """`wait_until`, for tests."""
    return machine.wait_until
