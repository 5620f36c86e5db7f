"""Jobs on a DaskCluster that dask-kubernetes runs: they train there, and leave it as it was."""

from __future__ import annotations

import json

import pytest
import yaml

from dask_training import api

SECURITY = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
SMALL = {"requests": {"cpu": "10m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
CLUSTER = "dask.org/cluster-name=shared"
TRAIN = """
import os, socket
from joblib import Parallel, delayed
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score
import dask_training, helpers

def where(n):
    return helpers.host()

hosts = set(Parallel(n_jobs=-1)(delayed(where)(n) for n in range(20)))
X, y = load_iris(return_X_y=True)
score = cross_val_score(RandomForestClassifier(10, random_state=0), X, y, cv=4, n_jobs=-1).mean()
dask_training.report(score=score, hosts=len(hosts), theirs=int(hosts <= set(os.environ["THEIRS"].split(","))))
"""
HELPERS = "import socket\n\n\ndef host():\n    return socket.gethostname()\n"
SLEEP = """
import time
from joblib import Parallel, delayed
Parallel(n_jobs=-1)(delayed(time.sleep)(6) for _ in range(40))
"""
# Run in the scheduler's pod: what a guest could leave behind, and that the cluster still computes.
LOOK = """
import json
from distributed import Client

def of_scheduler(dask_scheduler):
    return {
        "clients": len([name for name in dask_scheduler.clients if name != "fire-and-forget"]) - 1,
        "tasks": sorted(map(str, dask_scheduler.tasks)),
        "processing": sum(len(worker.processing) for worker in dask_scheduler.workers.values()),
        "plugins": sorted(dask_scheduler.plugins),
        "worker plugins": sorted(dask_scheduler.worker_plugins),
        "datasets": sorted(dask_scheduler.extensions["publish"].datasets),
        "workers": sorted(dask_scheduler.workers),
    }

def of_worker(dask_worker):
    return sorted(dask_worker.plugins), sorted(map(str, dask_worker.data)), dask_worker._client is not None

with Client("tcp://127.0.0.1:8786") as client:
    state = client.run_on_scheduler(of_scheduler)
    state["each worker"] = sorted(client.run(of_worker).items())
    if not state["processing"]:
        state["computes"] = client.gather(client.map(lambda n: n * n, [1, 2, 3], pure=False))
print(json.dumps(state))
"""


def dask_cluster(image: str) -> dict:
    """A DaskCluster with two small workers, whose pods are restricted."""

    def pod(name: str, *args: str, ports: list | None = None) -> dict:
        container = {"name": name, "image": image, "imagePullPolicy": "IfNotPresent", "args": list(args)}
        scratch = {"name": "DASK_TEMPORARY_DIRECTORY", "value": "/tmp"}
        container |= {"securityContext": SECURITY, "resources": SMALL, "env": [scratch]}
        return {"containers": [container | ({"ports": ports} if ports else {})]}

    ports = {"tcp-comm": 8786, "http-dashboard": 8787}
    probe = {"httpGet": {"port": "http-dashboard", "path": "/health"}, "periodSeconds": 1}
    scheduler = pod("scheduler", "dask", "scheduler", ports=[{"name": k, "containerPort": v} for k, v in ports.items()])
    scheduler["containers"][0]["readinessProbe"] = probe
    service = {
        "type": "ClusterIP",
        "selector": {"dask.org/cluster-name": "shared", "dask.org/component": "scheduler"},
        "ports": [{"name": name, "protocol": "TCP", "port": port, "targetPort": name} for name, port in ports.items()],
    }
    # No memory limit of Dask's own: by default it is the container's by the node's cores, and pauses small workers.
    worker = ["dask", "worker", "--name", "$(DASK_WORKER_NAME)", "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    worker += ["--memory-limit", "0"]
    spec = {
        "worker": {"replicas": 2, "spec": pod("worker", *worker)},
        "scheduler": {"spec": scheduler, "service": service},
    }
    return {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster", "metadata": {"name": "shared"}, "spec": spec}


def job(name: str, script: str, **spec) -> dict:
    body = {"clusterRef": {"name": "shared"}, "runner": {"script": script, "resources": SMALL}, **spec}
    body["workers"] = {"minReplicas": 2}
    return {"apiVersion": api.API_VERSION, "kind": api.KIND, "metadata": {"name": name}, "spec": body}


@pytest.fixture
def shared(dask_kubernetes, kubectl, apply):
    """A DaskCluster; gone before its operator is, which has to let go of it."""
    apply(dask_cluster(dask_kubernetes))
    yield
    kubectl("delete", "daskcluster", "shared", "--wait=true", "--timeout=60s")


@pytest.mark.timeout(900)  # with the installation
@pytest.mark.usefixtures("shared")
def test_jobs_train_on_a_dask_cluster_and_leave_it_as_it_was(cluster, namespace, kubectl, apply, job_status, wait_for):

    def pods() -> dict[str, tuple[str, int]]:
        """The cluster's pods that run, with their uids and restarts."""
        found = cluster.get("pods", namespace=namespace)["items"]
        mine = [each for each in found if each["metadata"]["labels"].get("dask.org/cluster-name") == "shared"]
        return {
            each["metadata"]["name"]: (each["metadata"]["uid"], each["status"]["containerStatuses"][0]["restartCount"])
            for each in mine
            if each["status"]["phase"] == "Running"
        }

    def look() -> dict:
        [scheduler] = [name for name in pods() if "scheduler" in name]
        return json.loads(kubectl("exec", scheduler, "--", "python", "-c", LOOK).splitlines()[-1])

    wait_for(lambda: len(pods()) == 3, timeout=120, every=1)
    wait_for(lambda: len(look()["workers"]) == 2, timeout=60, every=1)
    their_pods, before = pods(), look()
    assert before["clients"] == 0
    assert before["computes"] == [1, 4, 9]
    workers = ",".join(name for name in their_pods if "worker" in name)

    data = {"helpers.py": HELPERS}
    code = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "my-code"}, "data": data}
    environment = [{"name": "THEIRS", "value": workers}]
    apply(code, job("guest", TRAIN, env=environment, code={"configMap": {"name": "my-code"}}))
    ended = wait_for(lambda: finished(job_status("guest")), timeout=90)
    assert (ended["phase"], ended["reason"]) == ("Succeeded", "Completed"), yaml.safe_dump(ended)
    assert ended["metrics"]["theirs"] == 1, "all tasks ran on the cluster's workers"
    assert ended["metrics"]["hosts"] == 2
    assert ended["metrics"]["score"] > 0.9
    assert ended["progress"]["done"] == 24
    [service] = [cluster.get("service", "shared-scheduler", namespace)["spec"]["clusterIP"]]
    assert ended["schedulerAddress"] == f"tcp://{service}:8786"
    wait_for(lambda: (pods(), look()) == (their_pods, before), timeout=60, every=1)

    apply(job("deleted", SLEEP))
    wait_for(lambda: job_status("deleted").get("phase") == "Running", timeout=60)
    assert job_status("deleted")["workers"]["summary"] == "2/2"
    wait_for(lambda: look()["processing"] >= 2, timeout=30)
    kubectl("delete", "dtj", "guest", "deleted", "--wait=true")
    # Dask lets a task that runs run to its end; what has not begun is taken back.
    wait_for(lambda: (pods(), look()) == (their_pods, before), timeout=60, every=1)
    left = ("get", "pods,services,secrets,networkpolicies", "-l", api.Label.JOB_UID, "-o", "name")
    wait_for(lambda: not kubectl(*left).split(), timeout=40)


def finished(status: dict) -> dict | None:
    return status if status.get("phase") in ("Succeeded", "Failed") else None
