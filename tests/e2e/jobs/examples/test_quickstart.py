"""The quickstart from its own job.yaml, as the README has it: kubectl apply."""

import joblib
from example_runs import EXAMPLES, RECORDS, script_files


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
    assert kept.files >= RECORDS - {"logs/worker-1.log"}  # all may be done before that is there
    assert script_files(kept.files) == {"model.joblib", "metrics.json", "cv_accuracy.png"}
    assert joblib.load(kept.folder / "model.joblib").predict([[0.0] * 64]).shape == (1,)
    jobs.nothing_left()
