"""The taxis as a user trains on them: what each search fits, counted, and the pipeline used without Dask."""

import json

import pandas as pd
import pytest
from example_runs import (
    MADE,
    RECORDS,
    assert_png,
    job_with_all_workers,
    predict_elsewhere,
    script_files,
    workers_of,
)


def test_dask_ml_prepares_each_fold_once_and_scikit_learn_once_for_each_setting(run_job):
    run = run_job(job_with_all_workers("taxi"), options=("--", "--small"), timeout=150)
    assert run.exit_code == 0, run.finished
    assert run.kept() >= RECORDS
    assert script_files(run.kept()) == MADE["taxi"]
    assert_png(run.folder / "tips.png")

    counts = json.loads((run.folder / "fit_counts.json").read_text())
    assert (counts["candidates"], counts["folds"]) == (12, 3)
    assert counts["dask_ml"]["fits"] == {"preparation": 3 + 1, "boosting": 36 + 1}
    assert counts["scikit_learn"]["fits"] == {"preparation": 36 + 1, "boosting": 36 + 1}
    assert counts["same_results"] is True
    assert counts["dask_ml"]["workers"] == counts["scikit_learn"]["workers"] == 2
    tasks = counts["dask_ml"]["tasks"]
    assert (tasks["preparation-fit-transform"], tasks["boosting-fit"], tasks["score"]) == (3, 36, 36)
    assert len(workers_of(run, "boosting-fit")) == len(workers_of(run, "_fit_and_score")) == 2
    assert len(pd.read_csv(run.folder / "cv_results.csv")) == 12

    assert_sensible(run.finished["metrics"])
    stages = [line for line in (run.folder / "report.md").read_text().splitlines() if line.startswith("## ")]
    assert stages == ["## Reading", "## Exploring", "## Cleaning", "## Modelling", "## Reporting"]
    assert_predicts_elsewhere(run.folder)


def assert_sensible(metrics):
    assert metrics["rows"] == 2000
    assert metrics["missing_share"] == pytest.approx(0.03, abs=0.005)
    assert metrics["train_rows"] + metrics["test_rows"] == 1400
    assert metrics["roc_auc"] == pytest.approx(0.795, abs=0.03)
    assert metrics["cv_roc_auc"] == pytest.approx(0.819, abs=0.03)
    assert metrics["average_precision"] > 1.3 * metrics["good_tip_share"]
    assert metrics["brier_score"] < metrics["baseline_brier_score"]


def assert_predicts_elsewhere(folder):
    """predict.py gives the same probabilities without Dask, and none for a trip that lacks a value."""
    drop = ("probability", "good_tip")
    frame, sample = predict_elsewhere("taxi", "best_pipeline.joblib", folder, drop=drop, change=without_a_fare)
    predicted = frame["probability"]
    assert predicted.isna().to_list() == [row == 3 for row in range(len(sample))]
    expected = sample["probability"].where(predicted.notna())
    pd.testing.assert_series_equal(predicted, expected, rtol=1e-9)


def without_a_fare(trips):
    trips.loc[3, "fare"] = float("nan")
    return trips
