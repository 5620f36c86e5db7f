"""A runner on a cluster of somebody else's: it works there as any client does, and leaves it as it was."""

from __future__ import annotations

import json
import math
import signal
import sys
import time

import cloudpickle
import distributed
import pytest
from machine import give_up_at, slowdown

SCRIPT = """\
import os
import helpers
from joblib import Parallel, delayed
from distributed import get_client
import dask_training

def work(n):
    return helpers.square(n)

print(sum(Parallel(n_jobs=-1)(delayed(work)(n) for n in range(8))))
print("direct", get_client().submit(helpers.square, 5).result())
kept = get_client().scatter([1, 2, 3])  # not released by the script
print("inside", get_client().submit(helpers.pid).result() == os.getpid())
print("shape", Parallel(n_jobs=2)(delayed(helpers.Square)(n) for n in range(2))[1].area())
dask_training.report(accuracy=0.5)
open(os.path.join(os.environ["ARTIFACTS_DIR"], "model.txt"), "w").write("model")
"""
HELPERS = """\
import os

class Square:
    def __init__(self, side):
        self.side = side

    def area(self):
        return square(self.side)

def square(n):
    return n * n

def pid():
    return os.getpid()
"""
SPEC = {"clusterRef": {"name": "shared"}, "workers": {"replicas": 1}}


cloudpickle.register_pickle_by_value(sys.modules[__name__])  # what is run there to look is not importable there


def state(dask_scheduler):
    """All that a guest could leave behind on a scheduler."""
    return {
        "clients": sorted(name for name in dask_scheduler.clients if name != "fire-and-forget"),
        "tasks": sorted(map(str, dask_scheduler.tasks)),
        "plugins": sorted(dask_scheduler.plugins),
        "worker plugins": sorted(dask_scheduler.worker_plugins),
        "datasets": sorted(dask_scheduler.extensions["publish"].datasets),
        "handlers": sorted(dask_scheduler.handlers),
        # Each client hears what is printed, and the scheduler forgets none of those.
        "subscribers": sorted(
            (name, each)
            for name, topic in dask_scheduler._broker._topics.items()
            for each in topic.subscribers
            if name not in ("print", "warn")
        ),
        "workers": sorted(dask_scheduler.workers),
    }


def worker_state(dask_worker):
    import joblib.parallel

    backend = joblib.parallel.BACKENDS.get("dask")
    return {
        "plugins": sorted(dask_worker.plugins),
        "handlers": sorted(dask_worker.handlers),
        "data": sorted(map(str, dask_worker.data)),
        "client": dask_worker._client is not None,
        "backend": None if backend is None else backend.__module__,
    }


def seen(host, **kwargs):
    """The cluster's state but for who looks at it."""
    with distributed.Client(host.address, set_as_default=False, **kwargs) as client:
        scheduler = client.run_on_scheduler(state)
        scheduler["clients"].remove(client.id)
        [workers] = client.run(worker_state).values()
        return scheduler, workers


def returns_to(host, before, seconds=10):
    """Fails with what differs if the cluster's state is not soon as it was."""
    deadline = give_up_at(seconds)
    while (now := seen(host)) != before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert now == before


def guest(pods, host, script=SCRIPT, **spec):
    """Starts a runner as the operator would make it."""
    attempt = pods(script, spec={**SPEC, **spec}, env={"DASK_SCHEDULER_ADDRESS": host.address})
    return attempt, attempt.start


def with_helpers(pod_root):
    (pod_root / "code").mkdir(parents=True, exist_ok=True)
    (pod_root / "code/helpers.py").write_text(HELPERS)


def test_a_guest_works_there_and_leaves_it_as_it_was(pods, host, tmp_path, wait_until):
    attempt, start = guest(pods, host, code={"configMap": {"name": "my-code"}}, packages=[])
    before = seen(host)
    with_helpers(tmp_path / attempt.uid[:4] / "runner")
    runner = start("runner")
    assert runner.wait(60) == 0, runner.printed
    returns_to(host, before)

    lines = runner.printed.splitlines()
    assert [line for line in lines if not line.startswith("[dask-training]")] == [
        "140",
        "direct 25",
        "inside False",
        "shape 1",
    ], runner.printed
    notices = [line for line in lines if line.startswith("[dask-training]")]
    assert len(notices) == 1, notices
    assert f"running on DaskCluster 'shared' at {host.address}: unencrypted" in notices[0]
    assert (runner.termination.reason, runner.termination.metrics) == ("Completed", {"accuracy": 0.5})
    assert runner.termination.tasks == 10
    folder = attempt.kept()
    assert {path.name for path in folder.glob("logs/*")} == {"runner.log"}, "their logs tell of everybody's work"
    assert "the scheduler is not the job" in (folder / "performance_report.html").read_text()
    assert "Not available" not in (folder / "profile.html").read_text()
    assert json.loads((folder / "environment.json").read_text())["cluster"]["workers"]
    summary = json.loads((folder / "summary.json").read_text())
    assert "tasks" not in summary, "the scheduler counts for nobody"
    assert summary["joblib"]["tasks"] >= 8
    assert list(summary["resourceSeconds"]["byRole"]) == ["runner"], "the cluster is somebody else's"


def test_the_runner_serves_the_jobs_status(pods, host, wait_until):
    wait = "import pathlib, time, dask_training\ndask_training.report(loss=1.5)\n"
    attempt, start = guest(pods, host, wait + "while not pathlib.Path('go').exists(): time.sleep(0.05)\n")
    runner = start("runner")
    expected = {"workers": 1, "codeStarted": True, "progress": None, "metrics": {"loss": 1.5}, "versions": ""}
    wait_until(lambda: attempt.status() == (200, expected), what="the status")
    assert attempt.status(token="wrong")[0] == 401
    (runner.root / "work/job/work/go").touch()
    assert runner.wait() == 0, runner.printed


def test_a_guest_that_is_killed_leaves_the_cluster_as_it_was(pods, host, wait_until):
    before = seen(host)
    script = """
from distributed import get_client
import time
future = get_client().submit(time.sleep, 1)
print("sent", flush=True)
time.sleep(60)
"""
    _, start = guest(pods, host, script)
    runner = start("runner")
    wait_until(lambda: "sent" in runner.printed, what="the task")
    runner.kill()
    returns_to(host, before)


def test_a_cluster_that_goes_ends_the_attempt(pods, host, wait_until):
    _, start = guest(pods, host, "import time\nprint('here', flush=True)\ntime.sleep(60)\n")
    runner = start("runner")
    wait_until(lambda: "here" in runner.printed, what="the code")
    host.processes[0].kill()
    assert runner.wait(30) == 69, runner.printed
    assert runner.termination.reason == "SchedulerFailed"
    assert f"the scheduler of DaskCluster 'shared' at {host.address} does not answer" in runner.termination.message


def test_workers_that_do_not_come_end_it_at_the_deadline(pods, host, wait_until):
    seconds = math.ceil(4 * slowdown())
    workers = {"replicas": 2, "minReplicas": 2}
    _, start = guest(pods, host, "print(1)", startupDeadlineSeconds=seconds, workers=workers)
    runner = start("runner")
    assert runner.wait(30) == 124, runner.printed
    assert runner.termination.reason == "StartupDeadlineExceeded"
    first, second = runner.termination.message.splitlines()
    assert first.startswith(f"1 of 2 workers (spec.workers.minReplicas) were connected after {seconds} s")
    assert second == "They are those of DaskCluster 'shared': kubectl get pods -l dask.org/cluster-name=shared"


def test_a_runner_that_is_told_to_stop_leaves_nothing(pods, host, wait_until):
    before = seen(host)
    _, start = guest(pods, host, "import time\nprint('here', flush=True)\ntime.sleep(60)\n")
    runner = start("runner")
    wait_until(lambda: "here" in runner.printed, what="the code")
    runner.kill(signal.SIGTERM)
    assert runner.wait(20) == 143, runner.printed
    returns_to(host, before)


@pytest.mark.parametrize("backend", ["none", "threading"])
def test_other_backends_work_as_well(pods, host, backend, tmp_path):
    script = (
        "import helpers\nfrom distributed import get_client\nprint(get_client().submit(helpers.square, 3).result())\n"
    )
    attempt, start = guest(
        pods, host, script, code={"configMap": {"name": "c"}}, runner={"joblib": {"backend": backend}}
    )
    with_helpers(tmp_path / attempt.uid[:4] / "runner")
    runner = start("runner")
    assert runner.wait() == 0, runner.printed
    assert "9" in runner.printed.splitlines()


# What a Python does not have in whose environment the package was never installed.
WITHOUT = """
import importlib.metadata
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "dask_training":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

found = importlib.metadata.version

def version(name):
    if name == "dask-training":
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)

sys.meta_path.insert(0, Missing())
importlib.metadata.version = version
"""


def test_a_cluster_without_our_package_runs_joblibs_own_backend(pods, host, tmp_path):
    (tmp_path / "without").mkdir()
    (tmp_path / "without/sitecustomize.py").write_text(WITHOUT)
    for process in reversed(host.processes):
        process.kill()
        process.wait(10)
    (host.folder / "scheduler.json").unlink()
    env = {"PYTHONPATH": str(tmp_path / "without")}
    host.start_scheduler(**env)
    host.start_worker(**env)
    script = (
        "from joblib import Parallel, delayed\nprint(sum(Parallel(n_jobs=2)(delayed(abs)(-n) for n in range(8))))\n"
    )
    _, start = guest(pods, host, script, packages=[])
    runner = start("runner")
    assert runner.wait() == 0, runner.printed
    lines = runner.printed.splitlines()
    assert "28" in lines
    assert any("lacks dask-training, so joblib's own Dask backend is used" in line for line in lines), runner.printed
