"""Pods that are deleted, evicted or killed while a job runs, the operator's own among them."""

import itertools
import time

import pytest

from dask_training import api

# Tasks of 0.1 s each, whose results no worker's death may change.
TASKS = """
import itertools, pathlib, time
from joblib import Parallel, delayed
import dask_training

def twice(number):
    time.sleep(0.1)
    return 2 * number

def numbers():
    yield from range(30)

# As a generator: tasks are taken from `numbers` as others are done, and not long before.
results = list(Parallel(n_jobs=-1, return_as="generator", batch_size=1)(delayed(twice)(i) for i in numbers()))
assert results == [2 * i for i in range(len(results))], results
dask_training.report(tasks=len(results))
"""
# The same, but for as long as the test likes: under way until it says so, and on busy machines, too.
UNTIL_RELEASED = TASKS.replace(
    "    yield from range(30)\n",
    """
    for number in itertools.count():
        if number == 10:
            print("waiting", flush=True)
        if number >= 30 and pathlib.Path("/tmp/go").exists():
            return
        yield number
""",
)


def succeeded(jobs, body, attempts=1):
    assert body["status"]["phase"] == "Succeeded", jobs.described(body)
    assert body["status"]["attempt"] == len(body["status"]["attempts"]) == attempts
    return body["status"]


def kill(jobs, pod):
    """Deletes a pod as a lost node does: at once."""
    jobs.kubectl("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")


def evict(jobs, pod):
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": jobs.namespace}}
    status, answer = jobs.api.send("POST", f"/api/v1/namespaces/{jobs.namespace}/pods/{pod}/eviction", body)
    assert status == 201, answer


def test_lost_workers_are_replaced_and_the_result_is_right(jobs):
    lose = {"killed": kill, "evicted": evict, "all-killed": kill}
    lost = {"killed": 1, "evicted": 1, "all-killed": 2}
    for name in lost:
        jobs.start(name, UNTIL_RELEASED, workers={"replicas": 2, "minReplicas": 2})
    runners = {name: jobs.waiting(name) for name in lost}
    for name, number in lost.items():
        jobs.until(name, lambda body: body["status"].get("workers", {}).get("ready") == 2)
        for pod in jobs.pods(name, role="worker")[:number]:
            lose[name](jobs, pod["metadata"]["name"])
    for name, number in lost.items():
        replaced = {"lost": number, "ready": 2}
        jobs.until(name, lambda body, replaced=replaced: replaced.items() <= body["status"]["workers"].items(), 60)
        jobs.release(runners[name])

    for name, body in jobs.ends(*lost, timeout=120).items():
        status = succeeded(jobs, body)
        assert status["metrics"]["tasks"] >= 30
        assert status["workers"]["lost"] == lost[name], name
    jobs.nothing_left()


@pytest.mark.parametrize("role", ["scheduler", "runner"])
def test_a_lost_scheduler_or_runner_ends_the_attempt_and_the_next_begins_anew(jobs, wait_script, role):
    reason = f"{role.capitalize()}Disrupted"
    jobs.start("once", wait_script)
    script = (
        f"import os\nif os.environ['DASK_TRAINING_ATTEMPT'] == '1':{wait_script.replace(chr(10), chr(10) + '    ')}"
    )
    rule = {"action": "Ignore", "onReasons": ["SchedulerDisrupted", "RunnerDisrupted"]}
    jobs.start("again", f"{script}\n{TASKS}", failurePolicy={"rules": [rule]})
    for name in ("once", "again"):
        jobs.waiting(name)
        jobs.phase(name, "Running")
        kill(jobs, jobs.pod(name, role))

    body = jobs.end("once", 30)
    assert (body["status"]["phase"], body["status"]["reason"]) == ("Failed", reason), jobs.described(body)
    assert "deleted" in body["status"]["message"]
    assert "backoffLimit" in body["status"]["message"] or "failurePolicy" in body["status"]["message"]
    second = jobs.until("again", lambda body: body["status"]["attempt"] == 2)
    assert {pod["metadata"]["labels"][api.Label.ATTEMPT] for pod in jobs.pods("again")} <= {"2"}
    assert second["status"]["attempts"][0]["reason"] == reason
    status = succeeded(jobs, jobs.end("again", 60), attempts=2)
    assert status["metrics"] == {"tasks": 30}
    assert status["attempts"][0]["ignored"] is True
    jobs.nothing_left()


# Crashes the script's process: the grandchild of the container's first.
CRASH = """
import os, pathlib, signal
parents = {}
for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
    fields = stat.read_text().rpartition(")")[2].split()
    parents[int(stat.parent.name)] = int(fields[1])
(script,) = [process for process, parent in parents.items() if parents.get(parent) == 1]
os.kill(script, signal.SIGSEGV)
"""


def test_processes_that_end_by_themselves_are_told_from_pods_that_were_taken_away(jobs, wait_script):
    for name in ("scheduler", "runner"):
        jobs.start(name, wait_script)
    for name in ("scheduler", "runner"):
        jobs.waiting(name)
    jobs.kubectl("exec", jobs.pod("scheduler", "scheduler"), "--", "bash", "-c", "kill -TERM 1")
    # The supervisor, init's child, lives on and keeps what there is.
    jobs.kubectl("exec", jobs.pod("runner", "runner"), "--", "python", "-c", CRASH)
    ended = jobs.ends("scheduler", "runner", timeout=60)
    assert ended["scheduler"]["status"]["reason"] == "SchedulerFailed", jobs.described(ended["scheduler"])
    assert ended["runner"]["status"]["reason"] == "RunnerKilled", jobs.described(ended["runner"])
    assert "SIGSEGV" in ended["runner"]["status"]["message"]
    assert ended["runner"]["status"]["attempts"][0]["exitCode"] == 139
    assert ended["runner"]["status"]["artifacts"]["files"] > 3
    jobs.nothing_left()


@pytest.mark.exclusive
def test_jobs_do_not_notice_that_the_operator_dies(jobs, operator):
    for name in ("first", "second"):
        jobs.start(name, UNTIL_RELEASED, workers={"replicas": 2})
    for _ in range(2):
        operator.kill()
        time.sleep(1.5)
    runners = [jobs.waiting(name) for name in ("first", "second")]
    before = {pod["metadata"]["uid"] for name in ("first", "second") for pod in jobs.pods(name)}
    operator.kill()
    operator.ready()
    after = {pod["metadata"]["uid"] for name in ("first", "second") for pod in jobs.pods(name)}
    assert after <= before, "nothing was made twice"
    for runner in runners:
        jobs.release(runner)
    for name, body in jobs.ends("first", "second", timeout=90).items():
        assert succeeded(jobs, body)["metrics"]["tasks"] >= 30
        reasons = [event["reason"] for event in jobs.events(name)]
        assert {len(list(group)) for _, group in itertools.groupby(sorted(reasons))} == {1}, reasons
    jobs.nothing_left()


@pytest.mark.exclusive
def test_the_other_replica_goes_on_where_the_leader_was_deleted(jobs, operator, wait_script, wait_for):
    with operator.scaled(2):
        leader = wait_for(operator.leader, timeout=20)
        [other] = set(operator.pods()) - {leader}
        jobs.start("train", f"{wait_script}\n{TASKS}")
        runner = jobs.waiting("train")
        before = {pod["metadata"]["uid"] for pod in jobs.pods("train")}
        assert " working" not in operator.said(other), "it waits for the lease"

        operator.delete(leader)
        successor = wait_for(lambda: operator.leader() not in ("", leader) and operator.leader(), timeout=20)
        jobs.release(runner)
        body = jobs.end("train", 40)
        assert succeeded(jobs, body)["metrics"] == {"tasks": 30}
        assert body["status"]["workers"]["lost"] == 0
        assert " working" in operator.said(successor)
        assert {pod["metadata"]["uid"] for pod in jobs.pods("train")} <= before, "nothing was made twice"
        assert other in operator.pods(), "it lived on"
    jobs.nothing_left()


@pytest.mark.exclusive
def test_what_happens_while_there_is_no_operator_is_made_good(jobs, operator, wait_script):
    jobs.start("ends", wait_script)
    jobs.start("deleted", wait_script)
    runner = jobs.waiting("ends")
    jobs.waiting("deleted")
    with operator.stopped():
        jobs.release(runner)
        jobs.delete("deleted")
        jobs.start("early", TASKS)
        jobs.nothing_left("deleted", timeout=60)  # the garbage collector's work: pods have their grace
        jobs.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{runner}", "--timeout=40s")
    for body in jobs.ends("ends", "early", timeout=60).values():
        succeeded(jobs, body)
    jobs.nothing_left()
