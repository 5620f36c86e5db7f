"""A job that goes well, in pods."""

import json

import msgspec
import pytest

from dask_training.costs import Prices
from dask_training.runner import run_summary

PRICES = Prices(currency="EUR", cpu_hour=40.0, memory_gib_hour=5.0)

SCRIPT = """\
import os, sys
from joblib import Parallel, delayed
import dask_training

def work(n):
    print(f"task {n}")
    return n * n

print("hello", flush=True)
sys.stdout.buffer.write(b"raw \\xff\\rbytes\\n")
print(sum(Parallel(n_jobs=-1)(delayed(work)(n) for n in range(8))))
dask_training.report(accuracy=0.5, name="x")
open(os.path.join(os.environ["ARTIFACTS_DIR"], "model.txt"), "w").write("model")
"""


def test_a_job_runs_and_all_of_it_is_kept(pods, wait_until):
    attempt = pods(SCRIPT, spec={"workers": {"replicas": 2, "minReplicas": 2}})
    runner = attempt.run(workers=2, DASK_TRAINING_PRICES=msgspec.json.encode(PRICES).decode())
    assert runner.process.returncode == 0, runner.printed
    said = runner.termination
    assert (said.reason, said.succeeded, said.exit_code, said.script_exit_code) == ("Completed", True, 0, 0)
    assert said.metrics == {"accuracy": 0.5}
    assert said.tasks == 8
    folder = attempt.kept()
    assert said.artifacts.url == str(folder)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {
        "model.txt",
        "metrics.json",
        "summary.json",
        "environment.json",
        "performance_report.html",
        "profile.html",
        "manifest.json",
        *(f"logs/{pod}.log" for pod in ("runner", "scheduler", "worker-0", "worker-1")),
    }
    assert b"raw \xff\rbytes\n140\n" in runner.output.read_bytes()
    assert runner.printed.splitlines()[0] == "hello"
    assert "task" in (folder / "logs/worker-0.log").read_text() + (folder / "logs/worker-1.log").read_text()
    assert "Scheduler" in (folder / "logs/scheduler.log").read_text()
    assert json.loads((folder / "environment.json").read_text())["cluster"]["workers"]
    assert "Not available" not in (folder / "performance_report.html").read_text()
    summary = run_summary.read((folder / "summary.json").read_bytes())
    assert (summary.job.name, summary.reason, summary.exit_code) == ("forest", "Completed", 0)
    assert summary.metrics == {"accuracy": 0.5, "name": "x"}
    assert (summary.joblib.calls, summary.joblib.tasks) == (1, 8)
    assert summary.tasks.done == summary.joblib.batches
    assert summary.workers.lost == 0
    assert summary.moved.peak_worker_memory > 20 * 1024**2
    assert 0 < summary.timings.startup < summary.timings.total
    reserved = {role: used.cpu for role, used in summary.resource_seconds.by_role.items()}
    assert min(reserved["workers"], reserved["scheduler"], reserved["runner"]) > 0
    # Two workers that reserve as much as the runner does, started a little before it.
    assert reserved["workers"] > reserved["runner"]
    assert summary.resource_seconds.cpu == pytest.approx(sum(reserved.values()), abs=0.01)
    assert summary.cost == PRICES.cost_of(summary.resource_seconds)
