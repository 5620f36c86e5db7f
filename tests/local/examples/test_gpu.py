"""The GPU example where there is no GPU: it trains on CPUs when told to, and otherwise says what is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from example_runs import (
    EXAMPLES,
    RECORDS,
    assert_png,
    assert_same_probabilities,
    job_file,
    predict_elsewhere,
    script_files,
)


def without_packages():
    """The job file for an environment that has an XGBoost: that with CUDA is too large to be fetched for a test."""
    body = yaml.safe_load(job_file("gpu"))
    del body["spec"]["packages"]
    return body


def test_candidates_are_trained_on_both_workers_and_the_model_predicts_elsewhere(run_job):
    run = run_job(without_packages(), options=("--", "--small", "--device", "cpu"))
    assert run.exit_code == 0, run.finished
    assert "spec.workers.resources: nvidia.com/gpu is not reserved on this machine." in run.notices
    made = {"model.json", "metrics.json", "candidates.csv", "candidates.png", "sample.csv"}
    assert script_files(run.kept()) == made
    assert run.kept() >= RECORDS
    metrics = run.finished["metrics"]
    assert (metrics["rows"], metrics["candidates"], metrics["device"]) == (10_000, 4, "cpu")
    assert 0.68 < metrics["test_auc"] < 0.85  # nobody can know more: the labels are drawn with that much chance
    candidates = pd.read_csv(run.folder / "candidates.csv")
    assert sorted(candidates["candidate"]) == [0, 1, 2, 3]
    assert candidates["auc"].is_monotonic_decreasing
    assert run.finished["tasks"] == 4
    assert_png(run.folder / "candidates.png")
    predicted, sample = predict_elsewhere("gpu", "model.json", run.folder, without=("sklearn",))
    assert_same_probabilities(predicted, sample, abs=1e-5)


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU here")
def test_without_a_gpu_it_says_what_is_missing_and_trains_nothing(tmp_path):
    command = [sys.executable, EXAMPLES / "gpu" / "train.py", "--small"]
    environment = os.environ | {"ARTIFACTS_DIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no GPU on " in done.stderr
    assert "With --device cpu it trains without" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
