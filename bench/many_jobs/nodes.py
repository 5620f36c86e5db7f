"""Nodes that take pods and say that these run, and have neither processors nor containers: Kubernetes' kwok."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

from bench.cluster import ROOT, BenchError, Cluster, run, tool, until

PODS_EACH = 2000
LABEL = "bench.dask-training.io/kwok"
TAINT = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}
PLACE: dict[str, Any] = {
    "nodeSelector": {LABEL: "true"},
    "tolerations": [{"key": TAINT["key"], "operator": "Exists"}],
}
"""What a job's spec says for its pods to come to these nodes, and to no others."""


@contextlib.contextmanager
def nodes(cluster: Cluster, number: int) -> Iterator[None]:
    """So many nodes, ready for pods; gone afterwards. Raises BenchError."""
    run("bash", str(ROOT / "images" / "kind-node" / "tools.sh"), "kwok")
    names = [f"kwok-{each}" for each in range(number)]
    command = [tool("kwok"), "--kubeconfig", os.environ["KUBECONFIG"], "--manage-all-nodes=false"]
    command += [f"--manage-nodes-with-annotation-selector={TAINT['key']}={TAINT['value']}"]
    with tempfile.TemporaryFile() as log:
        kwok = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            for name in names:
                cluster.delete(f"/api/v1/nodes/{name}")
                cluster.api.request("POST", "/api/v1/nodes", body=_node(name))
            until(lambda: kwok.poll() is not None or _ready(cluster) == number, 60, "kwok's nodes are not ready")
            if kwok.poll() is not None:
                log.seek(0)
                raise BenchError(f"kwok has ended: {log.read()[-2000:].decode(errors='replace')}")
            yield
        finally:
            for name in names:
                cluster.delete_later(f"/api/v1/nodes/{name}")
            kwok.terminate()
            kwok.wait(10)


def _node(name: str) -> dict[str, Any]:
    room = {"cpu": "10k", "memory": "100Ti", "pods": str(PODS_EACH)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {LABEL: "true"}, "annotations": {TAINT["key"]: TAINT["value"]}},
        "spec": {"taints": [TAINT]},
        "status": {"allocatable": room, "capacity": room},
    }


def _ready(cluster: Cluster) -> int:
    found = cluster.api.list("/api/v1/nodes", labelSelector=f"{LABEL}=true")
    conditions = [each["status"].get("conditions", ()) for each in found]
    return sum(any(each["type"] == "Ready" and each["status"] == "True" for each in every) for every in conditions)
