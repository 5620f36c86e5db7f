"""The airline example on a cluster: the same figures as in plain Python on this machine."""

import json

import pandas as pd
import pytest
from example_runs import EXAMPLES, RECORDS, run_elsewhere, run_plainly, script_files


def test_the_airline_grid_finds_what_plain_python_finds(train, fetch, jobs, tmp_path):
    body = train("airline", "--rows", "6000", "--only", "grid", "multilabel", "nested")
    metrics = body["status"]["metrics"]
    assert metrics["fits"] == 75 + 3 + 6
    plain = run_plainly("airline", tmp_path / "plain", "--rows", "6000", "--only", "grid", "multilabel", "nested")
    assert metrics == pytest.approx(json.loads((plain / "metrics.json").read_text()), rel=1e-4)
    kept = fetch("airline")
    assert kept.files >= RECORDS
    assert script_files(kept.files) == {
        "metrics.json", "model.joblib", "sample.csv", "cv_results.csv", "parts.csv", "roc_curve.png",
    }  # fmt: skip
    # The model that the cluster has trained, in a process without Dask.
    script, sample = EXAMPLES / "airline" / "predict.py", kept.folder / "sample.csv"
    printed = run_elsewhere(script, kept.folder / "model.joblib", sample, folder=tmp_path)
    assert len(printed.splitlines()) == len(pd.read_csv(sample)) + 1
    jobs.nothing_left()
