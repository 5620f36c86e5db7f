"""dask-kubernetes on the test cluster: installed once for the tests of this folder, as its own chart does it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[3]))  # bench is no package of the distribution

TRACES = ("startup-bench", "dask-kubernetes", "kubernetes.dask.org")


@pytest.fixture(scope="package")
def dask_kubernetes(cluster, tell) -> Iterator[str]:
    """Its operator, running; gives the image that Dask's own pods may run in. Nothing of it stays."""
    from bench.startup import peer
    from bench.startup.cluster import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "KUBECONFIG", str(cluster.kubeconfig))
        found = Cluster("dask-training")
        with peer.installed(found, found.operator().runtime_image, tell), found.strays_refused():
            yield found.operator().runtime_image
    assert left_behind(cluster) == []


def left_behind(cluster) -> list[str]:
    """What is on the cluster and was the benchmark's or dask-kubernetes'."""
    kinds = "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings,flowschemas"
    names = cluster.kubectl("get", kinds, "-o", "name").split()
    assert len(names) > 20
    return [name for name in names if any(trace in name for trace in TRACES)]
