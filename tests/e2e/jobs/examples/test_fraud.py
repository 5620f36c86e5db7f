"""XGBoost on all workers at once, in pods: its tracker and workers open ports of their own among the job's pods."""

import json

from example_runs import RECORDS, script_files


def test_all_workers_train_one_model_together(jobs, train, fetch, runtime_ml):
    body = train("fraud", "--small", image=runtime_ml)
    metrics = body["status"]["metrics"]
    assert (metrics["rows"], metrics["frauds"]) == (94926, 152)
    assert 0.6 < metrics["auprc"] < 0.999
    assert metrics["auprc"] > metrics["logistic_auprc"] > 0.1
    kept = fetch("fraud")
    assert kept.files >= RECORDS
    made = {"booster.json", "history.json", "hp_history.csv", "metrics.json", "pr_curve.png", "sample.csv"}
    assert script_files(kept.files) == made
    packages = json.loads((kept.folder / "environment.json").read_text())["packages"]
    assert packages["xgboost-cpu"] == "3.2.0"
    jobs.nothing_left()
