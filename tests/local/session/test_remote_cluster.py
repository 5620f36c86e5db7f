"""A session's cluster through the API server: real TLS, real port-forwards, and all that a notebook does with it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import CancelledError

import dask
import pytest
from distributed import Client
from machine import give_up_at

from dask_training import TrainingCluster, launch_cluster
from dask_training.errors import ClusterStartTimeoutError, NotAttachableError, OptionError

JOBS = "/apis/dask-training.io/v1alpha1/namespaces/default/dasktrainingjobs"


def add(a, b):
    return a + b


def works(client) -> bool:
    """What was under way when the connection was cut is cancelled; what comes later is not."""
    try:
        return client.status == "running" and client.submit(add, 3, 4, pure=False).result(timeout=60) == 7
    except CancelledError:
        return False


def test_what_a_notebook_does(api, operator, until, capfd):
    before = dask.config.get("distributed.comm.tls.ca-file", None)
    with launch_cluster(1, name="mine", wait=1) as cluster:
        assert repr(cluster).startswith("TrainingCluster(mine, 'tls://127.0.0.1:")
        with Client(cluster) as client:
            assert client.submit(add, 1, 2).result(timeout=60) == 3
            cluster.scale(3)
            cluster.wait_for_workers(3, timeout=60)
            until(lambda: len(cluster.scheduler_info["workers"]) == 3)
            with Client(cluster.scheduler_address, set_as_default=False) as by_address:
                assert by_address.submit(add, 2, 2).result(timeout=60) == 4
        cluster.adapt(minimum=1, maximum=4)
        assert "Adaptive" in cluster._scaling_status()
        assert operator.jobs()[0]["spec"]["workers"]["maxReplicas"] == 4
        cluster.scale(1)
        assert "Manual" in cluster._scaling_status()
        assert "maxReplicas" not in operator.jobs()[0]["spec"]["workers"]
        assert cluster.get_logs()["Scheduler"] == "the scheduler's line"
        assert "Creating cluster mine" in cluster.get_logs(scheduler=False, workers=False)["Cluster"]
        with urllib.request.urlopen(cluster.dashboard_link, timeout=60) as page:
            assert page.status == 200
        assert "Workers" in cluster._repr_html_()
    assert operator.jobs() == []
    assert dask.config.get("distributed.comm.tls.ca-file", None) == before
    assert "Cluster mine is ready after" in capfd.readouterr().err


def test_what_is_cut_goes_on(api, operator, until):
    with launch_cluster(1, quiet=True) as cluster, Client(cluster) as client:
        assert client.submit(add, 1, 2).result(timeout=60) == 3
        (way, _) = cluster._backend._tunnels
        way.cut()
        until(lambda: works(client))
        # The cluster hears of workers again, too.
        cluster.scale(2)
        until(lambda: len(cluster.scheduler_info["workers"]) == 2)
        cluster.wait_for_workers(2, timeout=60)


def test_a_cluster_that_ends_by_itself_says_why_and_ends_its_clients(api, operator, until, caplog):
    with launch_cluster(1, quiet=True) as cluster, Client(cluster) as client:
        api.status(cluster.name, phase="Failed", reason="IdleTimeout", message="no task for 1200 s")
        until(lambda: cluster.status.name == "closed")
        assert cluster.reason == "IdleTimeout: no task for 1200 s"
        assert f"cluster {cluster.name} has ended: IdleTimeout: no task for 1200 s" in caplog.text
        until(lambda: client.status == "closed")


def test_asynchronously(api, operator):
    async def use() -> None:
        async with launch_cluster(1, asynchronous=True, quiet=True) as cluster:
            async with Client(cluster, asynchronous=True) as client:
                assert await client.submit(add, 1, 2) == 3
            await cluster.scale(2)
            await cluster.wait_for_workers(2, timeout=60)
            await cluster.adapt(1, 3)
            assert "Scheduler" in await cluster.get_logs()
        assert operator.jobs() == []
        # One that is never started makes nothing.
        unused = launch_cluster(1, asynchronous=True, quiet=True)
        await unused.close()
        assert api.sent("POST")[-1][3]["metadata"]["name"] == cluster.name

    asyncio.run(use())


def test_a_start_that_is_cancelled_leaves_nothing(api, until):
    async def use() -> None:
        starting = asyncio.ensure_future(launch_cluster(1, asynchronous=True, quiet=True)._start())
        await asyncio.to_thread(until, lambda: any(place == JOBS for place, _ in api.objects))
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert not any(place == JOBS for place, _ in api.objects)

    asyncio.run(use())


def test_what_could_not_be_started_leaves_no_thread(api):
    gc.collect()
    before = {each.name for each in threading.enumerate()}
    with pytest.raises(ClusterStartTimeoutError):
        launch_cluster(1, startup_timeout=1, quiet=True)
    assert not any(place == JOBS for place, _ in api.objects)
    names = {each.name for each in threading.enumerate()} - before
    assert not [name for name in names if "heartbeat" in name or "tunnel" in name or "watch" in name]


def test_left_and_found_again(api, operator, until):
    first = launch_cluster(1, shutdown_on_close=False, quiet=True)
    assert "heartbeatTimeoutSeconds" not in operator.jobs()[0]["spec"]["session"]
    first.close()
    assert len(operator.jobs()) == 1
    with TrainingCluster.from_name(first.name) as again, Client(again) as client:
        assert client.submit(add, 1, 2).result(timeout=60) == 3
    assert len(operator.jobs()) == 1
    TrainingCluster.from_name(first.name).close(shutdown=True)
    assert operator.jobs() == []


def test_of_another_user_it_can_t_be_attached_to(api, operator, tmp_path, monkeypatch):
    with launch_cluster(1, quiet=True, name="mine"):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
        with pytest.raises(NotAttachableError, match="the key of cluster mine is not on this machine"):
            TrainingCluster.from_name("mine")


def test_options_of_distributed_s_adapt_that_the_operator_has_not_are_refused(api, operator):
    with launch_cluster(1, quiet=True) as cluster:
        with pytest.raises(OptionError, match="interval: adapt"):
            cluster.adapt(minimum=1, maximum=2, interval="1s")
        with pytest.raises(OptionError, match="maximum: say how many"):
            cluster.adapt(minimum=1)


SCRIPT = """\
import sys, time
from dask_training import launch_cluster
if __name__ == "__main__":
    cluster = launch_cluster(1, name="child", quiet={quiet})
    print("launched", flush=True)
    {then}
"""


def run(then: str, *, quiet: bool = True) -> subprocess.Popen:
    code = SCRIPT.format(then=then, quiet=quiet)
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([sys.executable, "-c", code], text=True, **pipes)


@pytest.mark.parametrize("then", ["pass", "sys.exit(3)", "raise ValueError('oh')"])
def test_the_end_of_the_process_ends_its_cluster(api, operator, then):
    process = run(then)
    out, error = process.communicate(timeout=60)
    assert "launched" in out, error
    assert operator.jobs() == []
    assert "ResourceWarning" not in error


def test_a_forked_child_does_not_end_its_parent_s_cluster(api, operator):
    process = run("import os; os.fork() or sys.exit(); time.sleep(1.5); print('there', flush=True); input()")
    assert process.stdout.readline().strip() == "launched"
    deadline = give_up_at(20)
    while process.stdout.readline().strip() != "there":
        assert time.monotonic() < deadline
    jobs = operator.jobs()
    process.kill()
    process.communicate()
    assert len(jobs) == 1


def test_ctrl_c_while_it_starts_leaves_nothing(api, until):
    process = run("pass", quiet=False)  # nobody plays the operator: it waits
    until(lambda: (JOBS, "child") in api.objects)
    assert "Creating cluster child" in process.stderr.readline()
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert "launched" not in out
    assert "KeyboardInterrupt" in error
    assert (JOBS, "child") not in api.objects
