"""The fraud example as a user runs it: a random search on both workers, and one model trained by both together."""

import json

import pandas as pd
import pytest
from example_runs import (
    RECORDS,
    assert_png,
    assert_same_probabilities,
    job_file,
    predict_elsewhere,
    script_files,
    workers_of,
)

MADE = {
    "booster.json", "history.json", "hp_history.csv", "metrics.json", "pr_curve.png", "sample.csv",
}  # fmt: skip


def test_frauds_are_found_by_a_model_that_both_workers_train_together(run_job):
    run = run_job(job_file("fraud"), options=("--", "--small"), timeout=170)
    assert run.exit_code == 0, run.finished
    assert run.kept() >= RECORDS
    assert script_files(run.kept()) == MADE
    assert_png(run.folder / "pr_curve.png")
    assert len(workers_of(run, "train_one")) == 2
    assert len(workers_of(run, "fn")) == 2, "the task of xgboost.dask that trains, one on each"

    metrics = run.finished["metrics"]
    assert (metrics["rows"], metrics["frauds"]) == (94926, 152)
    assert [metrics[f"{part}_rows"] for part in ("train", "valid", "test")] == [66448, 18985, 9493]
    # As good as what it is to find allows, and not as good as only a leak of the answer can make it.
    assert 0.6 < metrics["auprc"] < 0.999
    assert 0.1 < metrics["logistic_auprc"] < metrics["auprc"]
    assert metrics["dummy_auprc"] == pytest.approx(15 / 9493)
    assert 0 < metrics["threshold"] < 1
    assert metrics["test_precision"] > 0.5
    assert metrics["test_recall"] > 0.5

    searched = pd.read_csv(run.folder / "hp_history.csv")
    assert len(searched) == metrics["samples"] == 4
    assert searched["auprc"].is_monotonic_decreasing
    history = json.loads((run.folder / "history.json").read_text())
    assert {name: set(scores) for name, scores in history.items()} == {
        "train": {"aucpr", "logloss"},
        "valid": {"aucpr", "logloss"},
    }
    assert len(history["valid"]["aucpr"]) >= metrics["trees"]

    predicted, sample = predict_elsewhere("fraud", "booster.json", run.folder, without=("sklearn", "joblib"))
    assert_same_probabilities(predicted, sample, rel=1e-5)
    assert predicted["stop"].sum() == min(metrics["test_stopped"], len(sample))
