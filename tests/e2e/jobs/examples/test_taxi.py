"""The taxis from their own job.yaml: fits counted over pods, and the same figures as on this machine."""

import json

import pytest
from example_runs import MADE, RECORDS, script_files


def test_the_taxis_are_prepared_once_for_each_fold(jobs, train, fetch, runtime_ml):
    metrics = train("taxi", "--small", image=runtime_ml)["status"]["metrics"]
    assert metrics["roc_auc"] == pytest.approx(0.795, abs=0.03)  # as tests/local
    assert metrics["cv_roc_auc"] == pytest.approx(0.819, abs=0.03)
    kept = fetch("taxi")
    assert kept.files >= RECORDS
    assert script_files(kept.files) == MADE["taxi"]
    counts = json.loads((kept.folder / "fit_counts.json").read_text())
    assert counts["dask_ml"]["fits"] == {"preparation": 4, "boosting": 37}
    assert counts["scikit_learn"]["fits"] == {"preparation": 37, "boosting": 37}
    assert counts["dask_ml"]["workers"] == 2
    assert counts["same_results"] is True
    jobs.nothing_left()
