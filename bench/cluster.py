"""The kind cluster that is measured on: its API, its node, and commands run beside it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_training.client.connection import Connection
from dask_training.errors import NotFoundError

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache"  # where `make kind` keeps its tools and the cluster's kubeconfig
OPERATOR = "app.kubernetes.io/name=dask-training-operator,app.kubernetes.io/component=operator"


class BenchError(Exception):
    """The benchmark cannot go on; says why and what to do."""


@dataclass(frozen=True)
class Operator:
    """Our operator as it is installed: its Deployment and what that names."""

    name: str
    namespace: str
    service_account: str
    image: str
    runtime_image: str


class Cluster:
    """A kind cluster by its name, through the context that kind made for it in $KUBECONFIG, else in `make kind`'s."""

    def __init__(self, name: str) -> None:
        if "KUBECONFIG" not in os.environ and (CACHE / "kubeconfig").exists():
            os.environ["KUBECONFIG"] = str(CACHE / "kubeconfig")  # for helm as well
        self.name = name
        self.node = f"{name}-control-plane"
        self.api = Connection(context=f"kind-{name}")
        self.version = str(self.api.request("GET", "/version")["gitVersion"])

    def operator(self) -> Operator:
        """Our operator. Raises BenchError if it is not there."""
        for deployment in self.api.list("/apis/apps/v1/deployments", labelSelector=OPERATOR):
            pod = deployment["spec"]["template"]["spec"]
            for container in pod["containers"]:
                settings = {each["name"]: each.get("value") for each in container.get("env", ())}
                runtime = settings.get("DASK_TRAINING_OPERATOR_RUNTIME_IMAGE")
                if runtime:
                    name, namespace = (deployment["metadata"][key] for key in ("name", "namespace"))
                    account = pod.get("serviceAccountName", "default")
                    return Operator(name, namespace, account, container["image"], runtime)
        raise BenchError(f"no operator ({OPERATOR}) on kind-{self.name}: install charts/dask-training-operator first")

    @contextlib.contextmanager
    def namespace(self, name: str, seconds: float = 120) -> Iterator[None]:
        """A namespace of the benchmark's own: new, and gone afterwards within so many seconds. Raises BenchError."""
        self.delete(f"/api/v1/namespaces/{name}", seconds)
        self.api.request("POST", "/api/v1/namespaces", body={"metadata": {"name": name}})
        try:
            yield
        finally:
            self.delete(f"/api/v1/namespaces/{name}", seconds)

    def delete(self, path: str, seconds: float = 120) -> None:
        """Delete what is there and wait until it is gone."""
        self.delete_later(path)
        until(lambda: not self.exists(path), seconds, f"{path} is not gone")

    def delete_later(self, path: str) -> None:
        """Ask for it to be deleted, if it is there."""
        with contextlib.suppress(NotFoundError):
            self.api.request("DELETE", path)

    def exists(self, path: str) -> bool:
        """Whether the API server has it."""
        try:
            self.api.request("GET", path)
        except NotFoundError:
            return False
        return True

    def load(self, image: str) -> None:
        """Put an image from Docker onto the node."""
        # Not `kind load`: that asks for crictl, and takes a snapshotter for granted that not every node has.
        save = subprocess.Popen([tool("docker"), "save", image], stdout=subprocess.PIPE)
        command = [tool("docker"), "exec", "--privileged", "-i", self.node, "ctr", "-n", "k8s.io", "images", "import"]
        command += ["--snapshotter", "overlayfs", "-"]
        done = subprocess.run(command, stdin=save.stdout, capture_output=True, text=True, check=False)
        if save.wait() or done.returncode:
            raise BenchError(f"loading {image} onto {self.node} failed: {done.stderr.strip()[-2000:]}")

    def unload(self, image: str) -> None:
        """Remove an image from the node."""
        if names := self._images(image):
            run("docker", "exec", self.node, "ctr", "-n", "k8s.io", "images", "rm", *names)

    def _images(self, image: str) -> list[str]:
        listed = run("docker", "exec", self.node, "ctr", "-n", "k8s.io", "images", "ls", "-q").splitlines()
        return [name for name in listed if name.endswith(f"/{image}")]


def until(true: Callable[[], Any], seconds: float, what: str, *, every: float = 0.2) -> None:
    """Wait for a condition outside of what is measured. Raises BenchError with *what* if it does not come."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise BenchError(f"after {seconds:g} s {what}")
        time.sleep(every)


def tool(name: str) -> str:
    """Where a command is: PATH, or where `make kind` has put it. Raises BenchError."""
    places = os.pathsep.join([str(CACHE / "tools" / "bin"), os.environ.get("PATH", "")])
    found = shutil.which(name, path=places)
    if not found:
        raise BenchError(f"no {name} in PATH nor from make kind: make kind")
    return found


def run(name: str, *args: str) -> str:
    """What a command prints. Raises BenchError with what it complained of."""
    done = subprocess.run([tool(name), *args], capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise BenchError(f"{name} {' '.join(args[:4])} ...: exit code {done.returncode}\n{done.stderr.strip()[-2000:]}")
    return done.stdout.strip()


def busy(seconds: float = 0.5) -> float:
    """How much of all cores was in use just now, 0 to 1."""

    def read() -> tuple[int, int]:
        with open("/proc/stat") as file:  # noqa: PTH123 - the kernel's, not a file
            times = [int(each) for each in file.readline().split()[1:9]]
        return sum(times), times[3] + times[4]

    total, idle = read()
    time.sleep(seconds)
    later_total, later_idle = read()
    return 1 - (later_idle - idle) / max(1, later_total - total)


def settle(limit: float = 30, below: float = 0.3) -> float:
    """Wait until the machine is quiet twice in a row, at most *limit* seconds; how busy it is then."""
    deadline = time.monotonic() + limit
    quiet = 0
    while True:
        now = busy()
        quiet = quiet + 1 if now < below else 0
        if quiet == 2 or time.monotonic() > deadline:
            return now
