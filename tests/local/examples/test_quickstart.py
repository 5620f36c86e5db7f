"""The quickstart as a user runs it, against the same script in plain Python without any cluster."""

import json

import pytest
from example_runs import RECORDS, assert_png, job_with_all_workers, run_plainly, script_files, workers_of


def test_the_quickstart_trains_on_both_workers_what_plain_python_trains(run_job, tmp_path):
    run = run_job(job_with_all_workers("quickstart"))
    assert run.exit_code == 0, run.finished
    assert run.kept() >= RECORDS
    assert script_files(run.kept()) == {"model.joblib", "metrics.json", "cv_accuracy.png"}
    assert run.finished["advice"] == []
    assert run.finished["tasks"] == run.finished["metrics"]["fits"] == 80
    assert len(workers_of(run, "_fit_and_score")) == 2
    assert 0.95 < run.finished["metrics"]["test_accuracy"] < 1.0
    assert_png(run.folder / "cv_accuracy.png")
    plain = run_plainly("quickstart", tmp_path / "plain")
    assert run.finished["metrics"] == pytest.approx(json.loads((plain / "metrics.json").read_text()), rel=1e-9)
