"""Applies jobs to the test cluster as a user does, with kubectl, and watches what becomes of them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import kubernetes
import pytest
import yaml
from machine import give_up_at, slowdown, wait_until
from programs import run_captured

from dask_training import api
from dask_training.artifacts import ArtifactStore

# Everything that the operator makes for a job, by its path below a namespace.
MADE = {
    "pods": "/api/v1/namespaces/{}/pods",
    "services": "/api/v1/namespaces/{}/services",
    "secrets": "/api/v1/namespaces/{}/secrets",
    "networkpolicies": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
}
JOBS = f"/apis/{api.API_VERSION}/namespaces/{{}}/{api.PLURAL}"
FINAL = ("Succeeded", "Failed")
# All pods share two cores: little is asked for, and the limit leaves room for scikit-learn.
SMALL = {"requests": {"cpu": "10m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
# The start of scripts that go on when the test says so: `Jobs.release`.
WAIT = """
import pathlib, time
print("waiting", flush=True)
while not pathlib.Path("/tmp/go").exists():
    time.sleep(0.05)
"""


def job(name: str, script: str | None = None, *, runner: dict | None = None, workers: dict | None = None, **spec):
    """A small job with one worker; further arguments are fields of its spec."""
    code = {"script": script} if script is not None else {}
    body = {
        "scheduler": {"dashboard": False, "resources": SMALL},
        "runner": {"resources": SMALL} | code | (runner or {}),
        "workers": {"replicas": 1, "resources": SMALL} | (workers or {}),
    }
    return {"apiVersion": api.API_VERSION, "kind": api.KIND, "metadata": {"name": name}, "spec": body | spec}


def condition(body: dict, kind: str) -> dict:
    """The job's condition of that type; empty if it has none yet."""
    return next((each for each in body.get("status", {}).get("conditions", ()) if each["type"] == kind), {})


def holds(body: dict, kind: str) -> bool:
    """Whether the condition is True."""
    return condition(body, kind).get("status") == "True"


class Api:
    """The API server, as plain JSON."""

    def __init__(self, kubeconfig: str) -> None:
        self._client = kubernetes.config.new_client_from_config(config_file=kubeconfig)
        self._pool = self._client.rest_client.pool_manager
        self._host = self._client.configuration.host

    def close(self) -> None:
        self._pool.clear()
        self._client.close()
        kubernetes.config.kube_config._cleanup_temp_files()  # certificates; otherwise only at the process's end

    def get(self, path: str, **query) -> dict | None:
        """What is at `path`; None if there is nothing."""
        status, found = self.send("GET", path, **query)
        if status == 404:
            return None
        assert status < 300, found
        return found

    def items(self, path: str, **query) -> list[dict]:
        found = self.get(path, **query)
        assert found is not None, f"there is no {path}"
        return found["items"]

    def send(self, method: str, path: str, body: object = None, *, kind: str = "json", **query) -> tuple[int, dict]:
        """Status and answer of one request; `kind` is that of a patch, such as merge-patch+json."""
        headers = {"Accept": "application/json", "Content-Type": f"application/{kind}"}
        content = None if body is None else json.dumps(body)
        response = self._pool.request(method, self._url(path, query), body=content, headers=headers, timeout=30)
        is_json = response.headers.get("Content-Type", "").startswith("application/json")
        return response.status, response.json() if is_json else {"message": response.data.decode()}

    def watch(self, path: str, seconds: float, **query) -> Iterator[dict]:
        """Yields each change as it comes, for so long."""
        query |= {"watch": 1, "timeoutSeconds": int(seconds)}
        response = self._pool.request("GET", self._url(path, query), preload_content=False, timeout=seconds + 10)
        rest = b""
        try:
            for part in response.stream(2**16):
                *lines, rest = (rest + part).split(b"\n")
                yield from (json.loads(line) for line in lines)
        finally:
            response.close()

    def _url(self, path: str, query: dict) -> str:
        return f"{self._host}{path}" + (f"?{urlencode(query)}" if query else "")


@dataclass
class Jobs:
    """The jobs of one namespace."""

    namespace: str
    api: Api
    kubeconfig: str

    def kubectl(self, *args: str, stdin: str | None = None, warnings: bool = False, may_fail: bool = False) -> str:
        """What kubectl prints, with `warnings` what it says on stderr, too; fails where kubectl does."""
        command = ["kubectl", "--kubeconfig", self.kubeconfig, "-n", self.namespace, *args]
        done = run_captured(command, input=stdin, timeout=300)
        assert may_fail or done.returncode == 0, f"kubectl {' '.join(args)}: {done.stdout}{done.stderr}"
        return done.stdout + (done.stderr if warnings or done.returncode else "")

    def apply(self, *bodies: dict) -> str:
        """Applies the objects; returns what kubectl said, warnings too."""
        return self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(bodies), warnings=True)

    def start(self, name: str, script: str | None = None, **spec) -> str:
        """Applies a small job; returns its name."""
        self.apply(job(name, script, **spec))
        return name

    def run(self, name: str, script: str | None = None, *, timeout: float = 60, **spec) -> dict:
        """Applies a small job and waits for its end."""
        return self.end(self.start(name, script, **spec), timeout)

    def find(self, name: str) -> dict | None:
        return self.api.get(f"{JOBS.format(self.namespace)}/{name}")

    def get(self, name: str) -> dict:
        """The job; its status is never missing."""
        found = self.find(name)
        assert found is not None, f"there is no job {name}"
        return {"status": {}} | found

    def patch(self, name: str, spec: dict) -> None:
        self.kubectl("patch", "dtj", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def delete(self, *names: str) -> None:
        self.kubectl("delete", "dtj", *names, "--wait=false")

    def until(self, name: str, what: Callable[[dict], object], timeout: float = 30) -> dict:
        """The job, once `what` of it is true; fails when it has not become so in time, or never will."""
        deadline = give_up_at(timeout)
        while not what(body := self.get(name)):
            over = body["status"].get("phase") in FINAL and holds(body, "ResourcesReleased")
            if over or time.monotonic() > deadline:
                pytest.fail(f"{'it ended' if over else f'not within {timeout} s'}: {self.described(body)}")
            time.sleep(0.2)
        return body

    def phase(self, name: str, phase: str, timeout: float = 30) -> dict:
        return self.until(name, lambda body: body["status"].get("phase") == phase, timeout)

    def end(self, name: str, timeout: float = 60) -> dict:
        """The job when it has ended and released all that it had."""
        return self.until(name, ended, timeout)

    def ends(self, *names: str, timeout: float = 90) -> dict[str, dict]:
        """As `end`, for several jobs that run at the same time."""
        return {name: self.end(name, timeout) for name in names}

    def made(self, name: str | None = None, kinds=tuple(MADE), **labels) -> list[dict]:
        """The objects that the operator made, of one job or all, with those labels."""
        wanted = {f"{api.LABEL_PREFIX}{key.replace('_', '-')}": value for key, value in labels.items()}
        wanted |= {api.Label.JOB: name} if name else {}
        selector = ",".join([str(api.Label.JOB_UID), *(f"{key}={value}" for key, value in wanted.items())])
        paths = [MADE[kind].format(self.namespace) for kind in kinds]
        return [item for path in paths for item in self.api.items(path, labelSelector=selector)]

    def pods(self, name: str, **labels) -> list[dict]:
        return self.made(name, ("pods",), **labels)

    def pod(self, name: str, role: str, timeout: float = 30, **labels) -> str:
        """Name of the one running pod of that role."""
        deadline = give_up_at(timeout)
        while True:
            pods = [pod for pod in self.pods(name, role=role, **labels) if is_running(pod)]
            if len(pods) == 1:
                return pods[0]["metadata"]["name"]
            if time.monotonic() > deadline:
                pytest.fail(f"{len(pods)} {role} pods run after {timeout} s: {self.described(self.get(name))}")
            time.sleep(0.2)

    def log(self, pod: str) -> str:
        """The log so far; empty for a pod that is gone."""
        return self.kubectl("logs", pod, may_fail=True)

    def logged(self, pod: str, text: str, timeout: float = 30) -> str:
        """The pod's log, once it has the text."""
        deadline = give_up_at(timeout)
        while text not in (log := self.log(pod)):
            name = pod.rsplit("-", 4 if pod.rpartition("-")[2].isdigit() else 3)[0]
            assert not ended(self.get(name)), self.described(self.get(name))
            assert time.monotonic() < deadline, f"{pod} did not say {text!r} within {timeout} s: {log[-3000:]}"
            time.sleep(0.2)
        return log

    def waiting(self, name: str, **labels) -> str:
        """Name of the runner's pod, once its script stands at WAIT."""
        pod = self.pod(name, "runner", **labels)
        self.logged(pod, "waiting")
        return pod

    def release(self, pod: str) -> None:
        """Lets the script go on that stands at WAIT."""
        self.kubectl("exec", pod, "--", "touch", "/tmp/go")

    def events(self, name: str, kind: str = api.KIND) -> list[dict]:
        selector = f"involvedObject.name={name},involvedObject.kind={kind}"
        found = self.api.items(f"/api/v1/namespaces/{self.namespace}/events", fieldSelector=selector)
        return sorted(found, key=lambda event: (event.get("eventTime") or event["firstTimestamp"], event["reason"]))

    def told(self, name: str, reason: str, timeout: float = 15) -> list[dict]:
        """The job's Events with that reason, as soon as there is one: the operator posts them in their own time."""
        deadline = give_up_at(timeout)
        while not (found := [event for event in self.events(name) if event["reason"] == reason]):
            assert time.monotonic() < deadline, f"no Event {reason}: {self.events(name)}"
            time.sleep(0.2)
        return found

    def quota(self, pods: int, used: int | None = None) -> None:
        """Applies a quota of pods; returns when Kubernetes counts for it, and has counted so many (None: any)."""
        body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}}
        self.apply(body | {"spec": {"hard": {"pods": str(pods)}}})

        def counts() -> bool:
            status = self.api.get(f"/api/v1/namespaces/{self.namespace}/resourcequotas/few").get("status", {})
            counted = status.get("used", {}).get("pods")
            is_known = status.get("hard", {}).get("pods") == str(pods) and counted is not None
            return is_known and used in (None, int(counted))

        wait_until(counts, every=0.1, what="the quota")

    def nothing_left(self, name: str | None = None, timeout: float = 15) -> None:
        """Fails if anything that the operator made for a job (or for any) is still there after `timeout` seconds."""
        deadline = give_up_at(timeout)
        while left := self.made(name):
            names = [f"{each.get('kind') or each['metadata']['labels']}: {each['metadata']['name']}" for each in left]
            assert time.monotonic() < deadline, f"left after {timeout} s: {names}"
            time.sleep(0.3)

    def described(self, body: dict) -> str:
        """What a person needs to see why a test failed."""
        name = body["metadata"]["name"]
        pods = [
            {"name": pod["metadata"]["name"], "deleted": pod["metadata"].get("deletionTimestamp")}
            | {key: pod["status"].get(key) for key in ("phase", "reason", "containerStatuses")}
            for pod in self.pods(name)
        ]
        events = [f"{event['type']} {event['reason']}: {event['message']}" for event in self.events(name)]
        shown = {"status": body["status"], "pods": pods, "events": events}
        return f"{name}:\n" + yaml.safe_dump(shown, sort_keys=False, width=150)


def ended(body: dict) -> bool:
    """Whether the job is over and has released all that it had."""
    return body["status"].get("phase") in FINAL and holds(body, "ResourcesReleased")


def is_running(pod: dict) -> bool:
    states = [each["state"] for each in pod["status"].get("containerStatuses", ())]
    return not pod["metadata"].get("deletionTimestamp") and any("running" in state for state in states)


@pytest.fixture(scope="session")
def server(cluster) -> Iterator[Api]:
    """The test cluster's API server."""
    found = Api(str(cluster.kubeconfig))
    yield found
    found.close()


@pytest.fixture
def jobs(cluster, server, namespace) -> Jobs:
    """The jobs of a namespace of the test's own."""
    return Jobs(namespace, server, str(cluster.kubeconfig))


@pytest.fixture
def make_job():
    """`job`, for tests that change what it gives."""
    return job


@pytest.fixture
def wait_script() -> str:
    """The start of a script that goes on when the test says so."""
    return WAIT


@dataclass(frozen=True)
class Kept:
    """What a job has kept, fetched and verified: the paths that its manifest lists, and where they are now."""

    folder: Path
    files: set[str]
    bytes: int
    sha256: str


@pytest.fixture
def fetch(jobs, tmp_path) -> Callable[[str], Kept]:
    """Fetches what a job has kept, as a user outside of the cluster does."""

    def fetch(name: str) -> Kept:
        folder = tmp_path / name
        command = [sys.executable, "-m", "dask_training.cli", "artifacts", "get", name, str(folder)]
        environment = os.environ | {"KUBECONFIG": jobs.kubeconfig}
        done = subprocess.run(
            [*command, "-n", jobs.namespace], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        manifest = ArtifactStore.from_url(str(folder)).manifest("")
        files = {entry.path for entry in manifest.files}
        return Kept(folder, files, manifest.total_bytes, manifest.sha256)

    return fetch


class Operator:
    """The operator of the test cluster: to be killed, stopped and read."""

    SELECTOR = "app.kubernetes.io/name=dask-training-operator,app.kubernetes.io/component=operator"

    def __init__(self, server: Api, kubeconfig: str) -> None:
        self._api = server
        (deployment,) = server.items("/apis/apps/v1/deployments", labelSelector=self.SELECTOR)
        self.name = deployment["metadata"]["name"]
        self.account = deployment["spec"]["template"]["spec"]["serviceAccountName"]
        self._own = Jobs(deployment["metadata"]["namespace"], server, kubeconfig)
        self.namespace = self._own.namespace
        self.replicas = deployment["spec"]["replicas"]

    def image(self, component: str) -> str:
        """The image of the installation's `operator` or `store`, which is on the node."""
        selector = f"app.kubernetes.io/name=dask-training-operator,app.kubernetes.io/component={component}"
        (deployment,) = self._api.items("/apis/apps/v1/deployments", labelSelector=selector)
        return deployment["spec"]["template"]["spec"]["containers"][0]["image"]

    def pods(self) -> list[str]:
        path = MADE["pods"].format(self.namespace)
        return [pod["metadata"]["name"] for pod in self._api.items(path, labelSelector=self.SELECTOR)]

    def kill(self) -> None:
        """Ends its pods at once, without a word."""
        pods = wait_until(self.pods, 30, every=0.1, what="a pod of the operator")
        self._own.kubectl("delete", "pod", *pods, "--grace-period=0", "--force", "--ignore-not-found")

    def ready(self) -> None:
        self._own.kubectl("rollout", "status", f"deployment/{self.name}", f"--timeout={round(60 * slowdown())}s")

    def leader(self) -> str:
        """The pod that holds the lease; "" while nobody does."""
        [lease] = self._api.items(f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases")
        return (lease["spec"].get("holderIdentity") or "").partition("_")[0]

    def delete(self, pod: str) -> None:
        """Deletes one of its pods, which may put things in order first."""
        self._own.kubectl("delete", "pod", pod, "--wait=false")

    def said(self, pod: str) -> str:
        """What one of its pods has said so far."""
        return self._own.log(pod)

    @contextlib.contextmanager
    def scaled(self, replicas: int) -> Iterator[None]:
        """Within, there are so many replicas of it."""
        scale = ("scale", f"deployment/{self.name}")
        self._own.kubectl(*scale, f"--replicas={replicas}")
        try:
            deadline = give_up_at(30)
            while len(self.pods()) > replicas:
                assert time.monotonic() < deadline, "the operator does not go"
                time.sleep(0.2)
            self.ready()
            yield
        finally:
            self._own.kubectl(*scale, f"--replicas={self.replicas}")
            self.ready()

    def stopped(self) -> contextlib.AbstractContextManager[None]:
        """Within, there is no operator."""
        return self.scaled(0)

    def log(self) -> str:
        """What its containers have said, those before the last restart too."""
        logs = [self._own.log(pod) for pod in self.pods()]
        return "\n".join([*logs, *(self._own.kubectl("logs", pod, "-p", may_fail=True) for pod in self.pods())])


@pytest.fixture
def operator(cluster, server) -> Iterator[Operator]:
    """The operator; whole again after the test."""
    found = Operator(server, str(cluster.kubeconfig))
    yield found
    found.ready()
