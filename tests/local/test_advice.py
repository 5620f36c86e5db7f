"""Advice at the end of real runs: on the screen, in the last event and in summary.json."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from distributed import Client, Event, LocalCluster

from dask_training.runner.accounting import Accounting
from dask_training.runner.address import write_address
from dask_training.runner.telemetry import Telemetry

TINY = """
from joblib import Parallel, delayed
Parallel()(delayed(abs)(i) for i in range(2000))
"""
# With n_jobs=1 joblib runs everything in the script's own process.
ALONE = """
import time
from joblib import Parallel, delayed
Parallel(n_jobs=1)(delayed(time.sleep)(0.5) for _ in range(21))
"""


def test_tiny_tasks_are_advised_on_at_the_end_of_what_is_shown(make_job, tmp_path):
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(make_job(script=TINY, name="tiny", replicas=2)))
    command = [sys.executable, "-m", "dask_training.cli", "run", "job.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    shown = done.stderr[done.stderr.index("\ntiny: Succeeded") :]
    assert re.search(r"\n  Advice     2,000 tasks took \d+(\.\d)? ms each on average: below 20 ms ", shown)
    assert re.search(r"\n             -> do the work of about [\d,]+ in one task, or leave it to the script", shown)
    kept = next((tmp_path / "artifacts/tiny").glob("*/summary.json"))
    (advice,) = json.loads(kept.read_text())["advice"]
    assert advice["rule"] == "tiny-tasks"
    assert advice["message"] in shown


def test_a_script_that_leaves_its_workers_idle_is_told_so(run_job, make_job):
    run = run_job(make_job(script=ALONE, replicas=2))
    assert run.exit_code == 0, run.finished
    (advice,) = run.finished["advice"]
    assert advice["rule"] == "nothing-on-workers"
    assert re.fullmatch(r"the script ran for \d+ s, and 2 workers had nothing to do", advice["message"])
    assert "leave out n_jobs=1" in advice["fix"]
    assert json.loads((run.folder / "summary.json").read_text())["advice"] == [advice]


class PlainTelemetry(Telemetry):
    """On a cluster without certificates."""

    def _connect(self, address):
        return Client(address, set_as_default=False)


@pytest.fixture
def cluster():
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with LocalCluster(**options, protocol="tcp") as cluster:
        yield cluster


def test_a_cluster_says_whether_any_task_has_come(cluster, tmp_path):
    address = tmp_path / "address"
    write_address(address, cluster.scheduler_address)
    telemetry = PlainTelemetry(address, Path(), lambda _: None, timeout=30)
    assert telemetry._connecting.wait(30)
    assert telemetry.has_worked() is None, "a scheduler of somebody else's does not count"
    cluster.scheduler.add_plugin(Accounting(cluster.scheduler))
    assert telemetry.has_worked() is False
    with Client(cluster, set_as_default=False) as client:
        go_on = Event("go-on", client=client)
        first = client.submit(go_on.wait, 60)
        client.wait_for_workers(1)
        for _ in range(1000):
            if any(client.processing().values()):
                break
            time.sleep(0.01)
        assert telemetry.has_worked() is True, "a first task runs"
        go_on.set()
        first.result(60)
        del first
    assert telemetry.has_worked() is True, "it has run"
    cluster.close()
    assert telemetry.has_worked() is None
    telemetry.close()
