"""The scaling example on a cluster: its pods on one node are told to be on one machine."""

import pandas as pd
from example_runs import RECORDS, script_files


def test_work_is_timed_with_one_worker_and_with_two(train, fetch, jobs):
    body = train("scaling", "--small")
    metrics = body["status"]["metrics"]
    assert metrics["workers"] == 2
    assert metrics["differing_results"] == 0
    assert metrics["tasks"] == 18 + 24 + 48 + 8
    assert 1.3 < metrics["svc_exponent"] < 3
    kept = fetch("scaling")
    assert kept.files >= RECORDS
    assert script_files(kept.files) == {
        "metrics.json", "benchmark.csv", "amdahl.csv", "svc_rows.csv", "speedup.png", "report.md",
    }  # fmt: skip
    assert "2 workers of 1 thread(s) on 1 machine with" in (kept.folder / "report.md").read_text()
    table = pd.read_csv(kept.folder / "benchmark.csv")
    assert {("sequential", 1), ("dask", 1), ("dask", 2)} <= set(zip(table["backend"], table["workers"], strict=True))
    jobs.nothing_left()
