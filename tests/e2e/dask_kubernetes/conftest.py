"""dask-kubernetes on the test cluster: installed once for the tests of this folder, as its own chart does it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TRACES = ("startup-bench", "dask-kubernetes", "kubernetes.dask.org")


@pytest.fixture(scope="package")
def dask_kubernetes(cluster) -> Iterator[str]:
    """Its operator, running; gives the image that Dask's own pods may run in. Nothing of it stays."""
    peer(cluster, "install")
    try:
        yield cluster.images["runtime"]
    finally:
        peer(cluster, "remove")
    assert left_behind(cluster) == []


def peer(cluster, what: str) -> None:
    """As the startup benchmark does it."""
    environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}
    command = [sys.executable, "-m", "bench.startup.peer", what]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def left_behind(cluster) -> list[str]:
    """What is on the cluster and was the benchmark's or dask-kubernetes'."""
    kinds = "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings,flowschemas"
    names = cluster.kubectl("get", kinds, "-o", "name").split()
    assert len(names) > 20
    return [name for name in names if any(trace in name for trace in TRACES)]
