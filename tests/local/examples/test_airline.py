"""The airline example as a user runs it, against the same script in plain Python without any cluster."""

import json

import pandas as pd
import pytest
from example_runs import (
    RECORDS,
    assert_png,
    assert_same_probabilities,
    assert_same_search,
    job_with_all_workers,
    predict_elsewhere,
    run_plainly,
    script_files,
    workers_of,
)

ROWS = ("--rows", "6000")  # half of the small size: the fewest that it takes
PARTS = {"grid": 75, "cross_validation": 5, "multilabel": 3, "voting": 3, "nested": 6}  # and their fits


def test_the_flights_are_trained_on_in_five_ways(run_job, tmp_path):
    run = run_job(job_with_all_workers("airline"), options=("--", *ROWS), timeout=170)
    assert run.exit_code == 0, run.finished
    assert run.kept() >= RECORDS
    assert script_files(run.kept()) == {
        "metrics.json", "model.joblib", "sample.csv", "cv_results.csv", "parts.csv", "roc_curve.png",
    }  # fmt: skip
    assert_png(run.folder / "roc_curve.png")
    assert run.finished["tasks"] >= sum(PARTS.values())
    # GridSearchCV and cross_val_score; the three labels and the three voters; all on both workers.
    assert len(workers_of(run, "_fit_and_score")) == len(workers_of(run, "_fit_estimator")) == 2
    metrics = run.finished["metrics"]
    assert_sensible(metrics)
    parts = pd.read_csv(run.folder / "parts.csv")
    assert parts.drop_duplicates("part").set_index("part")["fits"].to_dict() == PARTS
    assert parts[parts["part"] == "multilabel"]["label"].to_list() == ["cancelled", "delayed", "diverted"]

    plain = run_plainly("airline", tmp_path / "plain", *ROWS)
    assert metrics == pytest.approx(json.loads((plain / "metrics.json").read_text()), rel=1e-4)
    assert_same_search(run.folder, plain)
    predicted, sample = predict_elsewhere("airline", "model.joblib", run.folder)
    assert len(predicted) == 100
    assert_same_probabilities(predicted, sample, rel=1e-9)


def assert_sensible(metrics):
    """Better than guessing, and hardly better than who knows the true probabilities: few flights, much luck."""
    assert metrics["fits"] == sum(PARTS.values())
    assert (metrics["rows"], metrics["features"]) == (6000, 11)
    assert metrics["cancelled_share"] == pytest.approx(0.012, abs=0.004)
    assert 0.7 < metrics["ceiling_cancelled"] < 0.9
    for part in PARTS:
        assert 0.55 < metrics[f"{part}_cancelled"] < metrics["ceiling_cancelled"] + 0.03
    assert 0.6 < metrics["multilabel_delayed"] < metrics["ceiling_delayed"] + 0.03
    assert 0.55 < metrics["cv_roc_auc"] < metrics["ceiling_cancelled"] + 0.03
