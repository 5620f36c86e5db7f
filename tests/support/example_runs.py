"""What the tests of the examples share, here and on a cluster: how they are run, and what they leave."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest
import yaml

EXAMPLES = Path(__file__).parents[2] / "examples"
# What the scripts of these leave, metrics.json among it.
MADE = {
    "batch-prediction": {
        "model.joblib", "metrics.json", "learning_curve.csv", "learning_curve.png", "sample.csv", "confusion.csv",
        "csv_or_parquet.csv", "prediction_summary.json",
    } | {f"predictions/part-{number:05}.parquet" for number in range(8)},
    "out-of-core": {
        "best_model.joblib", "history.csv", "hyperband.json", "memory.csv", "memory.png", "metrics.json", "sample.csv",
    },
    "taxi": {
        "best_pipeline.joblib", "metrics.json", "cv_results.csv", "fit_counts.json", "sample.csv", "report.md",
        "tips.png",
    },
}  # fmt: skip
# What is kept of every attempt with two workers, beside metrics.json, the script's own files and the manifest.
RECORDS = {
    "summary.json", "environment.json", "performance_report.html", "profile.html",
    "logs/runner.log", "logs/scheduler.log", "logs/worker-0.log", "logs/worker-1.log",
}  # fmt: skip
_SEQUENTIAL = """
import runpy, sys, joblib
with joblib.parallel_config(backend="sequential"):
    runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""
# A machine where there is scikit-learn and nothing of ours.
_ELSEWHERE = """
import runpy, sys
for name in sys.argv.pop(1).split(","):
    sys.modules[name] = None
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""
_TIMES = ("mean_fit_time", "std_fit_time", "mean_score_time", "std_score_time")


def run_plainly(example, folder, *arguments, path="") -> Path:
    """Runs train.py in one process, with one fit after the other; returns the folder with what it left."""
    folder.mkdir()
    environment = {**os.environ, "ARTIFACTS_DIR": str(folder), "PYTHONPATH": str(path)}
    command = [sys.executable, "-c", _SEQUENTIAL, EXAMPLES / example / "train.py", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def script_files(kept: Iterable[str]) -> set[str]:
    """Of the paths that were kept, those that the script has made, and metrics.json."""
    return {path for path in kept if path not in RECORDS and not path.startswith("logs/packages")}


def job_file(example: str, name: str = "job.yaml") -> str:
    """The example's job.yaml, or another of its job files."""
    return (EXAMPLES / example / name).read_text()


def job_with_all_workers(example: str, name: str = "job.yaml") -> dict:
    """The job of that file, but begun when all its workers are there: for tests that expect something of each."""
    body = yaml.safe_load(job_file(example, name))
    body["spec"]["workers"]["minReplicas"] = body["spec"]["workers"]["replicas"]
    return body


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


def predict_elsewhere(example, model, folder, *, drop=("probability",), without=(), change=None):
    """What predict.py makes of the sample that train.py left in `folder`, beside that sample, as two tables.

    It is given the sample without the columns `drop`, after `change` of it, where there is neither Dask, nor anything
    of ours, nor the packages `without`.
    """
    sample = pd.read_csv(folder / "sample.csv")
    rows = sample.drop(columns=list(drop))
    with tempfile.TemporaryDirectory() as elsewhere:
        (change(rows) if change else rows).to_csv(Path(elsewhere) / "rows.csv", index=False)
        script = EXAMPLES / example / "predict.py"
        printed = run_elsewhere(script, folder / model, "rows.csv", folder=elsewhere, without=without)
    return pd.read_csv(io.StringIO(printed)), sample


def assert_same_probabilities(predicted, sample, **tolerance):
    """predict.py gives each row the probability that the training gave it."""
    assert predicted["probability"].to_list() == pytest.approx(sample["probability"].to_list(), **tolerance)


def run_elsewhere(script, *arguments, folder, without=()) -> str:
    """What a script prints in a process that has no Dask, nothing of ours and not the packages `without`."""
    hidden = ",".join(("dask", "distributed", "dask_ml", "dask_training", *without))
    command = [sys.executable, "-c", _ELSEWHERE, hidden, script, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
