"""Versions that differ for real between a runner and its workers: what is said of it, and that the job goes on."""

from __future__ import annotations

import json

import joblib

SCRIPT = """\
import os, pathlib, time
from joblib import Parallel, delayed

def version(_):
    import joblib
    time.sleep(0.05)
    return joblib.__version__

print("begin", set(Parallel(n_jobs=-1)(delayed(version)(n) for n in range(4))))
pathlib.Path("begun").touch()
while not pathlib.Path("go").exists():
    time.sleep(0.05)
print("end", set(Parallel(n_jobs=-1)(delayed(version)(n) for n in range(20))))
"""


def test_a_late_worker_with_another_joblib_is_told_of_everywhere_and_works(pods, wait_until, other_joblib):
    attempt = pods(SCRIPT, spec={"workers": {"replicas": 2, "minReplicas": 1}})
    attempt.start_cluster(1)
    runner = attempt.start("runner")
    wait_until((runner.root / "work/job/work/begun").exists, what="the code")
    assert attempt.status()[1]["versions"] == ""

    late = "forest-12345-1-worker-1"
    attempt.start("worker", late, PYTHONPATH=str(other_joblib))
    expected = (
        f"versions differ between runner and cluster: joblib is {joblib.__version__} in the runner, 1.5.3 in {late}."
        " Results may differ, or not be readable."
        " Name spec.image by a tag or digest that never changes, and pin spec.packages (name==version)."
    )
    wait_until(lambda: attempt.status()[1]["versions"] == expected, what="the mismatch")
    wait_until(lambda: f"[dask-training] {expected}\n" in runner.printed, what="the line in the log")
    (runner.root / "work/job/work/go").touch()
    assert runner.wait() == 0, runner.printed
    assert runner.printed.count("versions differ") == 1
    assert f"begin {{'{joblib.__version__}'}}" in runner.printed
    assert "1.5.3" in runner.printed.rpartition("end ")[2], "the late worker really has the other one, and worked"
    said = runner.termination
    assert said.reason == "Completed"
    assert (said.versions.workers, said.versions.differences) == (2, expected)
    cluster = json.loads((attempt.kept() / "environment.json").read_text())["cluster"]
    assert cluster["differences"] == expected


def test_a_short_job_is_compared_before_it_ends_and_its_failure_names_what_can_not_work(pods, tmp_path):
    """A worker that only says to have another Dask: that is enough to be a cause."""
    info = tmp_path / "other" / "dask-2024.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dask\nVersion: 2024.1.0\n")
    attempt = pods("raise OSError('no')", spec={"workers": {"replicas": 1}})
    attempt.start("scheduler")
    attempt.start("worker", "forest-12345-1-worker-0", PYTHONPATH=str(info.parent))
    runner = attempt.start("runner")
    assert runner.wait() == 1
    said = runner.termination
    assert ": dask is " in said.versions.differences
    assert "2024.1.0 in forest-12345-1-worker-0. Tasks may fail or hang." in said.versions.differences
    assert f"\nThe cause may be that {said.versions.differences}" in said.message


def test_a_guest_tells_what_its_host_has(pods, host, other_joblib):
    host.processes[-1].kill()
    host.processes.pop().wait(10)
    host.start_worker(PYTHONPATH=str(other_joblib))
    spec = {"clusterRef": {"name": "shared"}, "workers": {"replicas": 1}}
    attempt = pods("print('short')", spec=spec, env={"DASK_SCHEDULER_ADDRESS": host.address})
    runner = attempt.start("runner")
    assert runner.wait() == 0, runner.printed
    said = runner.termination.versions.differences
    assert said.startswith("versions differ between runner and DaskCluster 'shared': joblib is ")
    assert said.endswith("not be readable. Run both from one image (spec.image).")
    assert f"[dask-training] {said}" in runner.printed


def test_a_worker_that_is_deaf_holds_up_nothing(pods, wait_until):
    """As one whose task does not let go of the interpreter: it can't be asked for its versions meanwhile."""
    attempt = pods(
        "import ctypes, pathlib, dask_training\n"
        "deaf = dask_training.client().submit(lambda: ctypes.PyDLL(None).sleep(60))\n"
        "dask_training.report(loss=0.5)\n"
        "deaf.result()\n"
        "pathlib.Path('over').touch()\n"
    )
    attempt.start_cluster(1)
    runner = attempt.start("runner")
    wait_until(lambda: attempt.status()[1].get("metrics") == {"loss": 0.5}, what="the news")
    assert runner.process.poll() is None
    assert not (runner.root / "work/job/work/over").exists()
