"""Deadlines: of one start, and of a job as a whole over all its attempts."""

from machine import slowdown

from dask_training import api

NOWHERE = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
    {"matchExpressions": [{"key": "example.org/disk", "operator": "Exists"}]}
]}}  # fmt: skip
FOREVER = """
import time
import dask_training
(dask_training.artifacts_dir() / "so-far.txt").write_text("half a model")
print("waiting", flush=True)
time.sleep(300)
"""


def test_deadlines_end_a_job_whatever_it_does_and_keep_what_there_is(jobs, fetch):
    # Each with its own reason to be late; all of them at the same time.
    few = {"replicas": 1, "minReplicas": 1, "resources": {"requests": {"cpu": "900"}}}
    jobs.start("start", "pass", startupDeadlineSeconds=10, workers=few, failurePolicy=RETRY_NOTHING)
    jobs.start("starts", "pass", startupDeadlineSeconds=10, affinity={"nodeAffinity": NOWHERE}, backoffLimit=1)
    jobs.start("run", FOREVER, activeDeadlineSeconds=30, backoffLimit=5)
    # The first attempt fails, and the second is under way when the time that is counted from the first is over.
    script = f"import os\nif os.environ['DASK_TRAINING_ATTEMPT'] == '1':\n    raise SystemExit(1)\n{FOREVER}"
    jobs.start("runs", script, activeDeadlineSeconds=75, backoffLimit=5)
    ended = jobs.ends("start", "starts", "run", "runs", timeout=120)

    attempts = {name: len(body["status"]["attempts"]) for name, body in ended.items()}
    assert attempts == {"start": 1, "starts": 2, "run": 1, "runs": 2}
    for name in ("start", "starts"):
        status = ended[name]["status"]
        assert (status["phase"], status["reason"]) == ("Failed", "Unschedulable"), jobs.described(ended[name])
        assert "nodes are available" in status["message"], "why it was late"
    for name, seconds in {"run": 30, "runs": 75}.items():
        status = ended[name]["status"]
        assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded"), jobs.described(ended[name])
        assert "activeDeadlineSeconds" in status["message"]
        assert str(seconds) in status["message"]
        assert seconds - 1 <= status["timings"]["total"] <= seconds + 15 * slowdown(), "over all attempts"
        assert (fetch(name).folder / "so-far.txt").read_text() == "half a model"
    assert ended["runs"]["status"]["attempts"][0]["exitCode"] == 1
    jobs.nothing_left()


RETRY_NOTHING = {"rules": [{"action": "FailJob", "onReasons": ["StartupDeadlineExceeded", "Unschedulable"]}]}


def test_a_certificate_outlives_a_job_of_many_attempts(jobs):
    """The longest activeDeadlineSeconds there is: certificates and deadlines of years do no harm."""
    body = jobs.run("patient", "pass", activeDeadlineSeconds=315360000, startupDeadlineSeconds=86400)
    assert body["status"]["phase"] == "Succeeded", jobs.described(body)
    assert body["status"]["reason"] == api.Reason.COMPLETED
