"""The operator with failing requests, with watches that are cut, and killed at each of its writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from machine import free_port, give_up_at
from modules import load_module

SYSTEM, DEPLOYMENT = "dask-training-system", "dask-training-operator"
JOBS = 10
KILLS_APART = 3
WRITES = 13
"""What one job with one worker comes to: attempt, Service, Secret, NetworkPolicy, 3 pods, running, verdict, 2 deletes,
end; one more is left for what a run may add (workers ready)."""


pytestmark = pytest.mark.exclusive  # the cluster's own operator steps aside
faults = load_module(Path(__file__).with_name("fault_proxy.py"))
Rule, FaultProxy = faults.Rule, faults.FaultProxy


class Host:
    """The operator as a process of this machine, which sees the cluster through a proxy and nothing else."""

    def __init__(self, folder: Path, namespace: str) -> None:
        self.folder, self.namespace = folder, namespace
        self.process: subprocess.Popen | None = None
        self.starts = 0
        self.key = folder / "key"
        self.key.write_text("a key for tests alone")
        self.log = folder / "operator.log"
        self.lock = threading.Lock()

    def start(self, address: str) -> None:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "x",
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "clusters": [{"name": "x", "cluster": {"server": address}}],
            "users": [{"name": "x", "user": {}}],
        }
        kubeconfig = self.folder / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(config))
        prefix = "DASK_TRAINING_OPERATOR_"
        values = {
            "SCOPE": "namespaces",
            "WATCH_NAMESPACES": self.namespace,
            "RUNTIME_IMAGE": "dask-training-runtime:dev",
            "KEY_FILE": str(self.key),
            "HEALTH_PORT": str(free_port()),
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(prefix)}
        environment = kept | {prefix + name: value for name, value in values.items()} | {"KUBECONFIG": str(kubeconfig)}
        with self.log.open("a") as log:
            command = [sys.executable, "-m", "dask_training.handlers"]
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self.starts += 1

    def kill(self) -> None:
        """End it as the kernel does for want of memory: at once, with nothing put in order."""
        with self.lock:
            if self.process is not None and self.process.poll() is None:
                self.process.send_signal(signal.SIGKILL)
                self.process.wait(10)


@pytest.fixture(scope="module")
def no_operator(cluster):
    """The cluster's own operator steps aside."""
    where = ("-n", SYSTEM, f"deployment/{DEPLOYMENT}")
    cluster.kubectl("scale", *where, "--replicas=0")
    cluster.kubectl(
        "wait", "-n", SYSTEM, "pods", "-l", "app.kubernetes.io/component=operator", "--for=delete", "--timeout=110s"
    )
    yield
    cluster.kubectl("scale", *where, "--replicas=1")
    cluster.kubectl("rollout", "status", *where, "--timeout=120s")


@pytest.fixture
def host(no_operator, namespace, tmp_path):
    host = Host(tmp_path, namespace)
    yield host
    host.kill()
    print(host.log.read_text()[-20_000:])


@pytest.fixture
def claim(apply):
    """A volume for the jobs' artifacts."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Mi"}}}
    apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "runs"}, "spec": spec})
    return "runs"


@pytest.fixture
def submit(apply, claim):
    def submit(*names: str, script: str = "print('done')") -> None:
        spec = {
            "runner": {"script": script, "joblib": {"backend": "none"}},
            "workers": {"replicas": 1, "minReplicas": 1},
            "artifacts": {"destination": {"persistentVolumeClaim": {"claimName": claim}}},
            "startupDeadlineSeconds": 240,
        }
        kind = {"apiVersion": "dask-training.io/v1alpha1", "kind": "DaskTrainingJob"}
        apply(*(kind | {"metadata": {"name": name}, "spec": spec} for name in names))

    return submit


@pytest.fixture
def statuses(kubectl):
    def statuses() -> dict[str, dict]:
        items = json.loads(kubectl("get", "dtj", "-o", "json"))["items"]
        return {item["metadata"]["name"]: item.get("status") or {} for item in items}

    return statuses


@pytest.fixture
def leftovers(kubectl, claim):
    """What is there of a job beside the job itself."""

    def leftovers() -> list[str]:
        kinds = "pods,services,secrets,networkpolicies"
        return kubectl("get", kinds, "-l", "dask-training.io/job-uid", "-o", "name").split()

    return leftovers


def ended(found: dict[str, dict]) -> bool:
    return all(status.get("phase") in ("Succeeded", "Failed") for status in found.values())


def verdicts(found: dict[str, dict]) -> dict[str, tuple]:
    return {name: (status["phase"], status["reason"], status["attempt"]) for name, status in found.items()}


@pytest.mark.timeout(420)
def test_ten_jobs_end_right_though_a_tenth_of_all_requests_fail(cluster, host, submit, statuses, leftovers, wait_for):
    rules = [
        Rule("", "", 429, share=0.02, headers={"Retry-After": "1"}),
        Rule("", "", 500, share=0.02),
        Rule("", "", "reset", share=0.02),
        Rule("write", "", "late", share=0.03),
        Rule("write", "", "lost", share=0.02),
        Rule("patch", "", 409, share=0.05),
        Rule("get", "", "hang", share=0.01),
    ]
    proxy = FaultProxy(str(cluster.kubeconfig), rules, cut_watches_every=15, seed=7)
    names = [f"job-{number}" for number in range(JOBS)]
    with proxy as address:
        host.start(address)
        submit(*names)
        wait_for(lambda: len(statuses()) == JOBS and ended(statuses()), timeout=360, every=2)
        assert verdicts(statuses()) == dict.fromkeys(names, ("Succeeded", "Completed", 1))
        wait_for(lambda: not leftovers(), timeout=60, every=1)
        assert host.process.poll() is None
        assert host.starts == 1
    struck = sum(rule.struck for rule in rules)
    assert struck >= 0.05 * len(proxy.log), f"{struck} of {len(proxy.log)} requests failed"
    assert max(proxy.made.values()) == 1, "something was made twice"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_job_ends_the_same_wherever_the_operator_is_killed(
    cluster, host, submit, statuses, leftovers, wait_for, side
):
    """Each of three jobs survives a kill at its first, second or third write, and at every third from there; those that
    follow, a kill at each kind of write that was always between two others.
    """
    struck, due = [], {"at": 0}

    def kinds(requests) -> set[tuple[str, str]]:
        return {(request.verb, request.resource) for request in requests}

    def is_due(request) -> bool:
        if not request.number:
            return False
        return request.number >= due["at"] if number <= KILLS_APART else not kinds([request]) <= kinds(struck)

    def strike(request) -> None:
        if number and is_due(request) and host.process.poll() is None:
            struck.append(request)
            due["at"] = request.number + KILLS_APART
            host.kill()

    number = 0

    proxy = FaultProxy(str(cluster.kubeconfig), **{side: strike})
    with proxy as address:
        host.start(address)
        for number in range(1, WRITES + 1):
            name = f"{side}-{number}"
            due["at"] = len(proxy.writes) + 1 + number % KILLS_APART
            submit(name)
            deadline = give_up_at(120)
            while not ended({name: statuses()[name]}) or leftovers():
                assert time.monotonic() < deadline, f"{name}: {statuses()[name]}, left: {leftovers()}"
                if host.process.poll() is not None:
                    host.start(address)
                time.sleep(0.3)
            if number >= KILLS_APART and kinds(struck) == kinds(proxy.writes):
                break
        assert kinds(struck) == kinds(proxy.writes), "some kind of write was never struck"
        assert len(struck) > 10, "the other writes went past the proxy"
        assert set(verdicts(statuses()).values()) == {("Succeeded", "Completed", 1)}
        assert host.starts >= 10
    assert max(proxy.made.values()) == 1, "something was made twice"
