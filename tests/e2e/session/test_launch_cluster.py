"""`launch_cluster` against a cluster: from outside by port-forward, and in a pod with the chart's narrow role."""

from __future__ import annotations

import asyncio
import json
import operator
import time
import urllib.request
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest
from distributed import Client
from machine import slowdown

from dask_training import TrainingCluster, launch_cluster, list_clusters
from dask_training.errors import ClusterStartTimeoutError, NotFoundError

# The image's Python is of another patch release than this machine's.
pytestmark = pytest.mark.filterwarnings("ignore:Mismatched versions found")
SMALL = {"cpu": "10m", "memory": "256Mi", "scheduler_cpu": "10m", "scheduler_memory": "256Mi"}


@pytest.fixture(autouse=True)
def kubeconfig(cluster, monkeypatch, tmp_path):
    """As from a user's shell."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def launch(namespace):
    """`launch_cluster` for small pods in the test's namespace."""

    def launch(n_workers=1, **options):
        return launch_cluster(n_workers, namespace=namespace, **SMALL | {"startup_timeout": 90} | options)

    return launch


def works(client) -> bool:
    """What was under way when the connection was cut is cancelled; what comes later is not."""
    try:
        return client.status == "running" and client.submit(operator.add, 2, 2, pure=False).result(timeout=60) == 4
    except CancelledError:
        return False


def answers(url: str) -> bool:
    """The dashboard is there some seconds after the scheduler: its imports give way to the first tasks."""
    try:
        with urllib.request.urlopen(url, timeout=60) as page:
            return page.status == 200
    except OSError:  # refused, or not answered in time
        return False


def test_a_cluster_of_ones_own_from_outside(launch, left, wait_for, kubectl, namespace, tmp_path, capfd):
    (tmp_path / "my_helper.py").write_text("def answer():\n    return 42\n")
    tags = {"team": "fraud"}
    with launch(code=tmp_path / "my_helper.py", env={"GREETING": "hello"}, tags=tags, name="mine") as cluster:
        assert cluster.scheduler_address.startswith("tls://127.0.0.1:")
        with Client(cluster) as client:
            assert client.submit(operator.add, 1, 2).result(timeout=60) == 3

            def on_worker():
                import os

                import my_helper

                print("said on the worker", flush=True)
                return my_helper.answer(), os.environ["GREETING"]

            assert client.submit(on_worker).result(timeout=60) == (42, "hello")
            cluster.scale(2)
            cluster.wait_for_workers(2, timeout=60)
            assert "workers=2" in repr(cluster)
            # By address, for code that knows no cluster.
            with Client(cluster.scheduler_address, set_as_default=False) as second:
                assert len(second.scheduler_info()["workers"]) == 2
            wait_for(lambda: "said on the worker" in "".join(cluster.get_logs().values()), timeout=60)
            assert {"Cluster", "Scheduler"} < set(cluster.get_logs())
            wait_for(lambda: answers(cluster.dashboard_link), timeout=60)

            # The way to the scheduler is cut: the client and the cluster find a new one.
            for tunnel in cluster._backend._tunnels:
                tunnel.cut()
            wait_for(lambda: works(client), timeout=60)
            cluster.wait_for_workers(2, timeout=60)

        (mine,) = list_clusters(namespace=namespace)
        assert (mine.name, mine.phase, mine.owner) == ("mine", "Running", "")
        made = json.loads(kubectl("get", "dtj,pods,services,networkpolicies", "-o", "json"))["items"]
        assert {each["metadata"]["labels"].get("team") for each in made} == {"fraud"}
        assert {each["kind"] for each in made} == {"DaskTrainingJob", "Pod", "Service", "NetworkPolicy"}
    assert list_clusters(namespace=namespace) == []
    wait_for(lambda: not left(), timeout=40)
    said = capfd.readouterr().err
    assert "Creating cluster mine" in said
    assert "is ready after" in said


def test_a_cluster_can_be_left_and_found_again(launch, left, wait_for, namespace):
    first = launch(shutdown_on_close=False, quiet=True)
    with Client(first) as client:
        client.publish_dataset(kept=client.submit(operator.add, 20, 22))
    first.close()
    with TrainingCluster.from_name(first.name, namespace=namespace) as again, Client(again) as client:
        assert client.get_dataset("kept").result(timeout=60) == 42
        again.close(shutdown=True)
    wait_for(lambda: not left(), timeout=40)
    with pytest.raises(NotFoundError, match=f"there is no cluster {first.name} in namespace {namespace}"):
        TrainingCluster.from_name(first.name, namespace=namespace)


def test_a_cluster_that_can_t_start_says_why_and_is_removed(launch, left, wait_for, capfd):
    begin = time.monotonic()
    seconds = round(min(12 * slowdown(), 40))  # after 60 the operator gives such a job up itself
    with pytest.raises(ClusterStartTimeoutError) as caught:
        launch(image="no-such-registry.invalid/image:1", startup_timeout=f"{seconds} seconds")
    assert time.monotonic() - begin < 30 * slowdown()
    assert caught.value.reason == "ImagePullFailed"
    assert "no-such-registry.invalid/image:1" in str(caught.value)
    assert "startup_timeout" in str(caught.value)
    assert "can't be pulled" in capfd.readouterr().err
    wait_for(lambda: not left(), timeout=40)


def test_twenty_rounds_leave_nothing(launch, left, wait_for):
    def one_round(_number: int) -> None:
        with launch(wait=False, quiet=True) as cluster:
            assert cluster.scheduler_info["type"] == "Scheduler"

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(one_round, range(19)))

    async def asynchronously() -> None:
        async with launch(asynchronous=True, quiet=True) as cluster, Client(cluster, asynchronous=True) as client:
            assert await client.submit(operator.add, 1, 1) == 2

    asyncio.run(asynchronously())
    wait_for(lambda: not left(), timeout=60)


SESSION = """\
import os
from distributed import Client
from dask_training import launch_cluster, list_clusters

cluster = launch_cluster(1, cpu="10m", memory="256Mi", scheduler_cpu="10m", scheduler_memory="256Mi",
                         startup_timeout=90, name="inside")
print("address", cluster.scheduler_address, flush=True)
print("dashboard", cluster.dashboard_link, flush=True)
client = Client(cluster)
print("sum", client.submit(sum, [1, 2, 3]).result(timeout=60), flush=True)
cluster.adapt(minimum=1, maximum=2)
print("owner", list_clusters()[0].owner, os.environ["HOSTNAME"], flush=True)
print("logs", sorted(cluster.get_logs())[:2], flush=True)
import time
time.sleep(3600)
"""


def test_in_a_pod_the_cluster_goes_with_the_pod(start_session, kubectl, left, wait_for):
    session_pod = start_session(SESSION)

    def said() -> str:
        return kubectl("logs", session_pod, check=False)

    wait_for(lambda: "logs [" in said() or "Traceback" in said(), timeout=60)
    log = said()
    assert "Traceback" not in log, log
    assert "sum 6" in log
    assert "owner notebook notebook" in log
    assert "127.0.0.1" not in log  # straight to the Service
    assert "logs ['Cluster', 'Scheduler']" in log
    assert "dtj/inside" in " ".join(left()).replace("dasktrainingjob.dask-training.io", "dtj")
    kubectl("delete", "pod", session_pod, "--grace-period=0", "--force")
    wait_for(lambda: not left(), timeout=60)
