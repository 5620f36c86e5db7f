"""The same interface with processes of this machine, where there is no Kubernetes."""

from __future__ import annotations

import asyncio
import inspect
import os
import urllib.request

import pytest
from distributed import Client

import dask_training.session.launch
from dask_training import TrainingCluster, launch_cluster
from dask_training.errors import NoKubeconfigError, OptionError

pytestmark = pytest.mark.filterwarnings("ignore:Sending large graph:UserWarning")


@pytest.fixture(autouse=True)
def no_kubernetes(monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(dask_training.session.launch, "_said_local", False)


def test_without_kubernetes_it_runs_here_and_says_so_once(capfd, tmp_path):
    (tmp_path / "my_module.py").write_text("def answer():\n    return 42\n")

    def on_worker():
        import os

        import my_module

        return my_module.answer(), os.environ["GREETING"], os.environ["OMP_NUM_THREADS"]

    set_by_nannies = ("OMP_NUM_THREADS", "MALLOC_TRIM_THRESHOLD_", "PYTHONHASHSEED")
    before = [os.environ.get(name) for name in set_by_nannies]
    options = {"cpu": 1, "memory": "256Mi", "code": tmp_path / "my_module.py", "env": {"GREETING": "hello"}}
    with launch_cluster(1, **options) as cluster, Client(cluster) as client:
        assert client.submit(on_worker).result(timeout=60) == (42, "hello", "1")
        assert [worker["memory_limit"] for worker in client.scheduler_info()["workers"].values()] == [256 * 2**20]
        assert list(client.nthreads().values()) == [1]
        cluster.scale(2)
        cluster.wait_for_workers(2, timeout=60)
        assert "workers=2" in repr(cluster)
        cluster.adapt(minimum=1, maximum=2)
        assert "Adaptive" in cluster._scaling_status()
        assert {"Cluster", "Scheduler"} < set(cluster.get_logs())
        with urllib.request.urlopen(cluster.dashboard_link, timeout=60) as page:
            assert page.status == 200
    with launch_cluster(1, memory="256Mi"):
        pass
    assert capfd.readouterr().err.count("No Kubernetes is configured") == 1
    # One thread for each worker is not one for all that the session does.
    assert [os.environ.get(name) for name in set_by_nannies] == before


def test_asynchronously_and_its_time_outs():
    async def use() -> None:
        cluster = launch_cluster(1, memory="256Mi", no_client_timeout=5, local=True, asynchronous=True, quiet=True)
        async with cluster:
            async with Client(cluster, asynchronous=True) as client:
                assert await client.submit(sum, [1, 2]) == 3
                await asyncio.sleep(6)
                assert cluster.status.name == "running"  # it has a client
            for _ in range(100):
                if cluster.status.name == "closed":
                    break
                await asyncio.sleep(0.1)
            assert cluster.reason == "IdleTimeout: no client for 5 s (no_client_timeout)"

    asyncio.run(use())


def test_what_is_not_here_is_said_before_anything_is_started():
    with pytest.raises(OptionError, match="packages: no-such-package-at-all is wanted, it is not installed"):
        launch_cluster(1, packages=["no-such-package-at-all"], local=True)
    with pytest.raises(OptionError, match=r"packages: distributed<1 is wanted, version \S+ is installed"):
        launch_cluster(1, packages=["distributed<1"], local=True)


def test_kubernetes_is_not_replaced_where_it_was_asked_for():
    with pytest.raises(NoKubeconfigError):
        launch_cluster(1, context="lab")
    with pytest.raises(NoKubeconfigError):
        launch_cluster(1, local=False)
    assert inspect.signature(TrainingCluster.from_name).parameters["shutdown_on_close"].default is False
