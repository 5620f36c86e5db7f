"""A job from its first moment to its last: what a user sees of it, what it keeps, and that nothing else stays."""

import itertools
import json
import threading
import time
from datetime import UTC, datetime

import joblib
import pytest
from machine import give_up_at, slowdown
from sklearn.datasets import load_iris

from dask_training import api
from dask_training.reconcile.writing import UPDATE_SECONDS
from dask_training.runner import run_summary

TRAIN = """
import joblib
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score
import dask_training

X, y = load_iris(return_X_y=True)
forest = RandomForestClassifier(10, random_state=0)
scores = cross_val_score(forest, X, y, cv=6, n_jobs=-1)
joblib.dump(forest.fit(X, y), dask_training.artifacts_dir() / "model.joblib")
dask_training.report(accuracy=scores.mean(), folds=len(scores), note="not a number")
print("trained on", len(X), "rows")
"""
ORDER = ["Pending", "Starting", "Running", "Finalizing", "Succeeded"]


def seconds_between(first: str, last: str) -> float:
    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()


def history(jobs, name, timeout=60) -> list[dict]:
    """All versions of the job from now on until it has released everything; lets its script go on once it runs."""
    path = f"/apis/{api.API_VERSION}/namespaces/{jobs.namespace}/{api.PLURAL}"
    versions, released = [], False
    for change in jobs.api.watch(path, timeout * slowdown(), fieldSelector=f"metadata.name={name}"):
        versions.append({"status": {}} | change["object"])
        if not released and in_phase(versions[-1], "Running"):
            jobs.release(jobs.waiting(name))
            released = True
        conditions = {each["type"]: each["status"] for each in versions[-1]["status"].get("conditions", ())}
        if conditions.get("ResourcesReleased") == "True":
            return versions
    pytest.fail(f"not ended within {timeout} s: {jobs.described(jobs.get(name))}")


class PodTimes:
    """For how long the pods of a namespace run, by role, as the kubelet says: watched until `pods` of them are gone."""

    def __init__(self, jobs, pods: int) -> None:
        self._seconds: dict[str, float] = {}
        self._left = pods
        self._watch = threading.Thread(target=self._follow, args=(jobs,), daemon=True)
        self._watch.start()

    def _follow(self, jobs) -> None:
        for change in jobs.api.watch(f"/api/v1/namespaces/{jobs.namespace}/pods", 180):
            if change["type"] == "DELETED":
                self._count(change["object"])
                self._left -= 1
            if not self._left:
                return

    def _count(self, pod: dict) -> None:
        [container] = pod["status"]["containerStatuses"]
        ended = (container["state"].get("terminated") or {}).get("finishedAt")
        seconds = seconds_between(pod["status"]["startTime"], ended or datetime.now(UTC).isoformat())
        role = pod["metadata"]["labels"]["dask-training.io/role"].replace("worker", "workers")
        self._seconds[role] = self._seconds.get(role, 0.0) + seconds

    def by_role(self) -> dict[str, float]:
        """Once all of them are gone."""
        self._watch.join(30 * slowdown())
        assert not self._left, f"{self._left} pods were never seen to go"
        return self._seconds


def assert_taken(used: dict, lived: dict[str, float]) -> None:
    """Four pods of 10m CPU and 128 MiB each have run for so many seconds."""
    # They may run for few seconds each, and Kubernetes tells times in whole ones.
    assert used["cpu"] == pytest.approx(0.01 * sum(lived.values()), rel=0.05, abs=4 * 0.01)
    assert used["memoryGiB"] == pytest.approx(0.125 * sum(lived.values()), rel=0.05, abs=4 * 0.125)
    assert used["cpu"] == pytest.approx(sum(role["cpu"] for role in used["byRole"].values()), rel=0.001)
    for role, seconds in lived.items():
        pods = 2 if role == "workers" else 1
        assert used["byRole"][role]["memoryGiB"] == pytest.approx(0.125 * seconds, rel=0.05, abs=0.125 * pods)


def assert_summed_up(summary: run_summary.AttemptSummary, used: dict) -> None:
    assert (summary.reason, summary.joblib.calls, summary.joblib.tasks) == ("Completed", 2, 16)
    assert summary.tasks.done >= summary.joblib.batches > 0
    assert 0 < summary.thread_seconds.busy <= summary.thread_seconds.available
    assert summary.workers.lost == 0
    # It was written while the pods still ran, and counts from when their programs had started.
    assert 0.5 * 4 * 0.01 * summary.timings.total < summary.resource_seconds.cpu < 1.05 * used["cpu"]


def test_a_job_trains_on_its_workers_keeps_its_model_and_leaves_nothing(jobs, make_job, fetch, wait_script):
    pod_times = PodTimes(jobs, pods=4)
    jobs.apply(make_job("train", wait_script + TRAIN, workers={"replicas": 2, "minReplicas": 2}))
    versions = history(jobs, "train")
    jobs.nothing_left(timeout=5)
    jobs.kubectl("wait", "--for=condition=Complete", "dtj/train", "--timeout=5s")
    body = versions[-1]
    status = body["status"]

    phases = [phase for phase, _ in itertools.groupby(each["status"].get("phase") for each in versions)]
    phases = [phase for phase in phases if phase]
    assert phases == [phase for phase in ORDER if phase in phases]
    assert {"Starting", "Running", "Succeeded"} <= set(phases)
    at_most = 8 + body["status"]["timings"]["total"] / UPDATE_SECONDS
    assert len(versions) <= at_most, "the status is written once for each transition, and progress now and then"
    assert [each["status"].get("workers", {}).get("summary") for each in versions if in_phase(each, "Running")][-1] == (
        "2/2"
    )

    conditions = {each["type"]: each for each in status["conditions"]}
    true = {"RunnerStarted", "SuccessCriteriaMet", "ArtifactsStored", "ResourcesReleased", "Complete"}
    assert {kind for kind, each in conditions.items() if each["status"] == "True"} >= true
    assert not {"Failed", "FailureTarget"} & conditions.keys()
    assert {each["observedGeneration"] for each in conditions.values()} == {body["metadata"]["generation"]}
    assert status["observedGeneration"] == body["metadata"]["generation"]

    assert (status["reason"], status["attempt"]) == ("Completed", 1)
    assert [(each["number"], each["reason"], each.get("exitCode")) for each in status["attempts"]] == [
        (1, "Completed", 0)
    ]
    assert status["metrics"] == {"accuracy": pytest.approx(0.96, abs=0.03), "folds": 6}
    assert status["progress"] == {"done": 16, "total": 16, "summary": "16/16"}, "six folds, ten trees"
    timings = status["timings"]
    parts = [timings.get(part, 0) for part in ("pending", "starting", "running", "finalizing")]
    assert sum(parts) == pytest.approx(timings["total"], abs=0.1)
    lived = seconds_between(body["metadata"]["creationTimestamp"], status["completionTime"])
    assert timings["total"] - timings["finalizing"] == pytest.approx(lived, abs=1.5), "what follows is taking away"
    assert min(timings["starting"], timings["running"]) > 0
    assert_taken(status["resourceSeconds"], pod_times.by_role())

    jobs.told("train", "Completed")
    events = jobs.events("train")
    assert {event["type"] for event in events} == {"Normal"}
    reasons = [event["reason"] for event in events]
    assert len(set(reasons)) == len(reasons) >= 3, "each transition has one event"
    assert {(event.get("count") or 1) for event in events} == {1}

    kept = fetch("train")
    assert status["artifacts"]["manifestSHA256"] == kept.sha256
    assert (status["artifacts"]["files"], status["artifacts"]["bytes"]) == (len(kept.files), kept.bytes)
    logs = {"logs/runner.log", "logs/scheduler.log", "logs/worker-0.log", "logs/worker-1.log"}
    records = {"metrics.json", "summary.json", "environment.json", "performance_report.html", "profile.html"}
    assert kept.files == {"model.joblib"} | logs | records
    assert "trained on 150 rows" in (kept.folder / "logs/runner.log").read_text()
    assert json.loads((kept.folder / "metrics.json").read_text())["note"] == "not a number"
    assert_summed_up(run_summary.read((kept.folder / "summary.json").read_bytes()), status["resourceSeconds"])
    X, y = load_iris(return_X_y=True)
    assert joblib.load(kept.folder / "model.joblib").score(X, y) > 0.95


def in_phase(body, phase):
    return body["status"].get("phase") == phase


def test_code_may_be_a_script_elsewhere_a_module_or_a_command(jobs):
    helpers = """
from joblib import Parallel, delayed
import os, socket, sys
import dask_training

def report():
    hosts = Parallel(n_jobs=-1)(delayed(socket.gethostname)() for _ in range(100))
    dask_training.report(tasks=len(hosts), inside=int(socket.gethostname() in hosts))
    dask_training.report(argument=int(sys.argv[1]), level=int(os.environ["LEVEL"]))

if __name__ == "__main__":
    report()
"""
    data = {"helpers.py": helpers, "train.py": "import helpers\nhelpers.report()\n", "level": "3"}
    jobs.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "my-code"}, "data": data})
    level = {"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "my-code", "key": "level"}}}
    common = {"code": {"configMap": {"name": "my-code"}}, "env": [level]}
    codes = {
        "elsewhere": {"scriptFrom": {"configMap": {"name": "my-code", "key": "train.py"}}, "args": ["7"]},
        "module": {"module": "helpers", "args": ["7"]},
        "command": {"command": ["bash", "-c", 'exec python /code/helpers.py "$1"', "-"], "args": ["7"]},
    }
    for name, runner in codes.items():
        jobs.start(name, runner=runner, **common)
    for name, body in jobs.ends(*codes).items():
        assert body["status"]["phase"] == "Succeeded", jobs.described(body)
        assert body["status"]["metrics"] == {"tasks": 100, "inside": 0, "argument": 7, "level": 3}, name
        (advice,) = body["status"]["advice"]
        assert (advice["rule"], advice["message"][:9]) == ("tiny-tasks", "100 tasks"), name
    assert "on average: below 20 ms" in jobs.kubectl("describe", "dtj", "module")


def test_kubectl_shows_a_newcomer_what_goes_on_and_what_went_wrong(jobs, make_job, wait_script):
    jobs.start("good", wait_script, scheduler={"dashboard": True})
    jobs.start("wrong", "rows = {}\nprint(rows['late'])\n")
    runner = jobs.waiting("good")
    jobs.phase("good", "Running")
    jobs.end("wrong")

    header, *rows = jobs.kubectl("get", "dtj").splitlines()
    assert header.split() == ["NAME", "PHASE", "WORKERS", "PROGRESS", "ATTEMPT", "AGE"]
    shown = {row.split()[0]: row.split()[1:] for row in rows}
    assert shown["good"][:2] == ["Running", "1/1"]
    assert shown["wrong"][0] == "Failed"
    header, *rows = jobs.kubectl("get", "dtj", "-o", "wide").splitlines()
    assert header.split()[-3:] == ["REASON", "ARTIFACTS", "DASHBOARD"]
    shown = {row.split()[0]: row for row in rows}
    assert "RunnerFailed" in shown["wrong"]
    assert "Running" in shown["good"]
    assert ":8787" in shown["good"]

    jobs.told("wrong", "RunnerFailed")
    described = jobs.kubectl("describe", "dtj", "wrong")
    message = "KeyError: 'late', line 2 of spec.runner.script"
    assert described.count(message) >= 2, "in the status and in an event"
    assert "Exit Code:" in described
    status, events = described.split("Events:", 1)
    assert "Warning" in events
    assert "RunnerFailed" in status
    assert "RunnerFailed" in events

    jobs.release(runner)
    jobs.end("good")
    assert "Succeeded" in jobs.kubectl("get", "dtj", "good")
    assert "good" in jobs.kubectl("get", "all")


def test_a_job_deleted_at_any_moment_can_be_applied_again_at_once(jobs, make_job):
    body = make_job("again", TRAIN, workers={"replicas": 2})
    for moment in range(10):
        jobs.apply(body)
        time.sleep(0.3 * moment)  # from before its first pod to after its first task
        jobs.delete("again")
    jobs.apply(body)
    last = jobs.end("again", timeout=60)
    assert last["status"]["phase"] == "Succeeded", jobs.described(last)
    assert (last["status"]["attempt"], last["status"]["metrics"]["folds"]) == (1, 6)
    # A kubelet that is told to end a container while it makes it may take the whole grace of the pod.
    jobs.nothing_left(timeout=75)
    assert {event["type"] for event in jobs.events("again")} == {"Normal"}
    jobs.delete("again")
    jobs.nothing_left()


@pytest.mark.parametrize("cascade", ["foreground", "orphan"])
def test_a_job_deleted_in_another_manner_leaves_nothing_either(jobs, wait_script, cascade):
    jobs.start("mine", wait_script)
    jobs.waiting("mine")
    jobs.kubectl("delete", "dtj", "mine", f"--cascade={cascade}", f"--timeout={round(20 * slowdown())}s")
    jobs.nothing_left("mine")


def test_finished_jobs_are_deleted_when_their_time_is_over(jobs):
    seconds = {"at-once": 0, "soon": 6, "later": 3600}
    for name, ttl in seconds.items():
        jobs.start(name, "pass", ttlSecondsAfterFinished=ttl)
    soon = jobs.until("soon", lambda body: "completionTime" in body["status"], 60)
    gone(jobs, "at-once", 15)
    jobs.told("at-once", "Completed")  # it has not been deleted unfinished
    gone(jobs, "soon", 15)
    assert 6 <= seconds_between(soon["status"]["completionTime"], now(jobs)) <= 12 * slowdown()
    later = jobs.end("later")
    assert later["status"]["phase"] == "Succeeded"
    jobs.patch("later", {"ttlSecondsAfterFinished": 0})
    gone(jobs, "later", 10)
    jobs.nothing_left()


def gone(jobs, name, timeout):
    deadline = give_up_at(timeout)
    while jobs.find(name):
        assert time.monotonic() < deadline, f"{name} is still there after {timeout} s: {jobs.described(jobs.get(name))}"
        time.sleep(0.2)


def now(jobs) -> str:
    """The server's clock."""
    made = jobs.kubectl(
        "create", "configmap", "clock", "--dry-run=server", "-o", "jsonpath={.metadata.creationTimestamp}"
    )
    return made.strip()
