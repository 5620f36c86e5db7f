"""The example on data beyond memory as a user runs it: partitions wait on disk, and no worker is killed."""

import json

import pandas as pd
import pytest
from example_runs import (
    MADE,
    RECORDS,
    assert_png,
    assert_same_probabilities,
    job_with_all_workers,
    predict_elsewhere,
    script_files,
    workers_of,
)


def test_hyperband_learns_from_partitions_that_wait_on_disk_and_no_worker_is_killed(run_job):
    run = run_job(job_with_all_workers("out-of-core"), options=("--", "--small"), timeout=170)
    assert run.exit_code == 0, run.finished
    assert run.kept() >= RECORDS
    assert script_files(run.kept()) == MADE["out-of-core"]
    assert_png(run.folder / "memory.png")
    for task in ("readings", "partial_fit"):
        assert len(workers_of(run, task)) == 2

    metrics = run.finished["metrics"]
    limit = 512 * 2**20
    assert run.finished["workerRestarts"] == 0
    assert run.finished["peakWorkerMemoryBytes"] < limit
    assert metrics["worker_limit_mib"] == 512
    assert metrics["peak_spilled_mib"] > 0, "all of it was in memory"
    memory = pd.read_csv(run.folder / "memory.csv")
    assert (memory["memory"] < limit).all()
    assert memory["worker"].nunique() == metrics["most_workers"] == 2

    # What Hyperband of max_iter 9 comes to, whatever the data: 9 models, then 5, then 3.
    assert (metrics["models"], metrics["partial_fit_calls"]) == (17, 69)
    found = json.loads((run.folder / "hyperband.json").read_text())
    assert (found["models"], found["partial_fit_calls"], found["max_iter"]) == (17, 69, 9)
    history = pd.read_csv(run.folder / "history.csv")
    assert history["model_id"].nunique() == 17
    assert history["score"].max() == pytest.approx(found["best_score"])
    best = history.loc[history["score"].idxmax()]
    for name in ("alpha", "l1_ratio", "eta0"):
        assert best[f"param_{name}"] == pytest.approx(found["best_params"][name])
    # The chance of a failure, which is known exactly, reaches 0.88 on such readings.
    assert 0.7 < metrics["baseline_roc_auc"] < metrics["roc_auc"] < 0.9

    predicted, sample = predict_elsewhere("out-of-core", "best_model.joblib", run.folder)
    assert_same_probabilities(predicted, sample, rel=1e-6)
