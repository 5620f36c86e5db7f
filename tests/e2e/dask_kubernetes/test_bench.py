"""The startup benchmark measures on the real cluster and leaves nothing behind; its figures are no test's business.

That nothing stays of dask-kubernetes is seen when it is removed, in conftest.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.timeout(480)
def test_the_quick_startup_benchmark_measures_both_and_leaves_nothing(dask_kubernetes, cluster, tmp_path):
    environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}
    command = [sys.executable, "-m", "bench.startup", "--quick", "--peer-is-there", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-8000:]

    [file] = tmp_path.glob("startup-*.json")
    rounds = {each["contender"]: each for each in json.loads(file.read_text())["rounds"]}
    assert set(rounds) == {"ours", "tuned"}
    ours, tuned = rounds["ours"], rounds["tuned"]
    for found in (ours["stages"], tuned["stages"]):
        times = [found[stage] for stage in ("applied", "script", "workers", "task", "fitted", "exit")]
        assert times == sorted(times)
        assert found["created"] > found["applied"]  # seen by a watch, which may lag behind what pods write down
        assert found["fitted"] < found["verdict"]
        assert found["fitted"] < found["gone"]
    assert ours["stages"]["fitted"] < ours["stages"]["artifacts"] <= ours["stages"]["verdict"]
    # The API server's count, against what cannot be done with less: a Service, a Secret, a NetworkPolicy and four pods.
    assert ours["writes"]["ours-create"] >= 7
    assert sum(count for name, count in ours["writes"].items() if name.startswith("peer-")) == 0
    assert tuned["writes"]["peer-create"] >= 6
    assert "| last pod of the cluster gone |" in done.stdout
