"""Two runs that really ran, side by side."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import sys, time
from joblib import Parallel, delayed
import dask_training

seconds = float(sys.argv[1])
Parallel(n_jobs=-1)(delayed(time.sleep)(seconds) for _ in range(6))
dask_training.report(seconds=seconds)
"""
PRICES = "{currency: EUR, cpuHour: 3600, memoryGiBHour: 360}"


def test_two_runs_of_a_job_are_compared_with_what_they_took_and_cost(run_job, make_job, tmp_path):
    (tmp_path / "prices.yaml").write_text(PRICES)
    prices = ("--prices", str(tmp_path / "prices.yaml"))
    slow = run_job(make_job(script=SCRIPT, name="naps"), options=(*prices, "--", "0.6"))
    fast = run_job(make_job(script=SCRIPT, name="naps"), options=(*prices, "--workers", "2", "--", "0.1"))
    assert (slow.exit_code, fast.exit_code) == (0, 0)
    command = [sys.executable, "-m", "dask_training.cli", "compare", str(slow.folder), str(fast.folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    differences = document["differences"]
    assert differences["metrics"]["seconds"] == [0.6, 0.1]
    assert differences["workers"]["replicas"] == [1, 2]
    # Two workers are the default, and defaults are not kept.
    assert differences["job"] == {"workers.replicas": [1, None], "runner.args": [["0.6"], ["0.1"]]}
    assert "packages" not in differences
    first, second = (run["summary"] for run in document["runs"])
    assert (first["joblib"]["tasks"], second["joblib"]["tasks"]) == (6, 6)
    assert first["tasks"]["seconds"] >= 6 * 0.6
    assert first["tasks"]["done"] == first["joblib"]["batches"]
    for summary in (first, second):
        used = summary["resourceSeconds"]
        assert summary["cost"]["currency"] == "EUR"
        assert float(summary["cost"]["amount"]) == pytest.approx(used["cpu"] + 0.1 * used["memoryGiB"], rel=1e-3)


def test_prices_that_are_not_right_start_nothing(run_job, make_job, tmp_path):
    (tmp_path / "prices.yaml").write_text("{currency: EUR, cpu: 1}")
    run = run_job(make_job(script="pass"), options=("--prices", str(tmp_path / "prices.yaml")))
    assert run.exit_code == 2
    assert "unknown field `cpu` (known fields: currency, cpuHour, memoryGiBHour, gpuHour" in run.stderr
