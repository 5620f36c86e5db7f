"""The pumps from their own job.yaml: partitions made and predicted in pods, all of them kept."""

import json

import pandas as pd
import pytest
from example_runs import MADE, RECORDS, script_files


def test_pods_that_share_no_folder_predict_every_reading(jobs, train, fetch, runtime_ml):
    metrics = train("batch-prediction", "--small", image=runtime_ml)["status"]["metrics"]
    assert metrics["accuracy"] == pytest.approx(0.858, abs=0.01)  # as tests/local
    kept = fetch("batch-prediction")
    assert kept.files >= RECORDS
    assert script_files(kept.files) == MADE["batch-prediction"]
    predictions = pd.read_parquet(kept.folder / "predictions")
    assert predictions["reading"].to_list() == list(range(20_000))
    summary = json.loads((kept.folder / "prediction_summary.json").read_text())
    assert summary["predicted_shares"] == pytest.approx(predictions["predicted"].value_counts(normalize=True).to_dict())
    jobs.nothing_left()
