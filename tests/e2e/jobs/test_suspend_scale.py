"""Jobs that are suspended and resumed, and jobs that get more and fewer workers while their tasks run."""

import json
import time

import yaml

from dask_training import api
from dask_training.api import Label

# Each task notes each of its executions on a shared volume; the script counts them at the end.
COUNTED = """
import itertools, pathlib, time
from joblib import Parallel, delayed
import dask_training

NOTES = pathlib.Path("/shared")

def work(number):
    (NOTES / f"{{number}}-{{time.time_ns()}}").touch()
    time.sleep({seconds})
    return number * number

def numbers():  # at least so many, and for as long as the test likes
    for number in itertools.count():
        if number >= {tasks} and pathlib.Path("/tmp/go").exists():
            return
        yield number

results = []
for result in Parallel(n_jobs=-1, return_as="generator", batch_size=1)(delayed(work)(i) for i in numbers()):
    results.append(result)
    if len(results) == 4:
        print("waiting", flush=True)
assert results == [i * i for i in range(len(results))], results
dask_training.report(results=len(results), executions=len(list(NOTES.iterdir())))
"""
SHARED = {"name": "shared", "mountPath": "/shared"}


def start_counted(jobs, name, *, tasks, seconds, **workers):
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    jobs.apply(claim)
    jobs.start(
        name,
        COUNTED.format(tasks=tasks, seconds=seconds),
        volumes=[{"name": "shared", "persistentVolumeClaim": {"claimName": name}}],
        runner={"volumeMounts": [SHARED]},
        workers=workers | {"volumeMounts": [SHARED]},
    )


def indices(jobs, name) -> list[int]:
    """The numbers of the workers that are to stay."""
    pods = [pod for pod in jobs.pods(name, role="worker") if not pod["metadata"].get("deletionTimestamp")]
    return sorted(int(pod["metadata"]["labels"][Label.INDEX]) for pod in pods)


def test_scaling_up_and_down_while_tasks_run_loses_no_result_and_repeats_no_task(jobs, wait_for):
    start_counted(jobs, "scaled", tasks=40, seconds=0.2, replicas=2, minReplicas=1)
    runner = jobs.waiting("scaled")
    jobs.kubectl("scale", "dtj/scaled", "--replicas=4")
    # Its status is written every ten seconds, where it is not urgent.
    jobs.until("scaled", lambda body: body["status"]["workers"]["summary"] == "4/4", timeout=30)
    assert indices(jobs, "scaled") == [0, 1, 2, 3]
    scale = json.loads(jobs.kubectl("get", "dtj", "scaled", "--subresource=scale", "-o", "json"))
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (4, 4)
    selected = jobs.kubectl("get", "pods", "-l", scale["status"]["selector"], "-o", "name").split()
    assert len(selected) == 4

    jobs.kubectl("scale", "dtj/scaled", "--replicas=1")
    jobs.until("scaled", lambda body: body["status"]["workers"]["desired"] == 1, timeout=20)
    wait_for(lambda: len(indices(jobs, "scaled")) == 1, timeout=10)
    jobs.release(runner)
    body = jobs.end("scaled", 90)
    assert body["status"]["phase"] == "Succeeded", jobs.described(body)
    done = body["status"]["metrics"]
    assert done["results"] == done["executions"] >= 40
    assert body["status"]["workers"].get("lost", 0) == 0, "those were sent away"
    assert body["status"]["workers"].get("restarts", 0) == 0
    jobs.nothing_left()


def test_a_job_waits_while_it_is_suspended_and_starts_anew_when_it_is_resumed(jobs, wait_script):
    jobs.start("paused", wait_script, suspend=True)
    jobs.start("running", wait_script)
    jobs.start("finished", "pass")
    body = jobs.phase("paused", "Suspended")
    assert jobs.made("paused") == []
    assert body["status"].get("attempt", 0) == 0

    first = jobs.waiting("running")
    jobs.patch("running", {"suspend": True})
    body = jobs.phase("running", "Suspended")
    jobs.nothing_left("running")
    assert first not in [pod["metadata"]["name"] for pod in jobs.pods("running")]
    conditions = {each["type"]: each["status"] for each in body["status"]["conditions"]}
    assert conditions["Suspended"] == "True"
    assert "Suspended" in jobs.kubectl("get", "dtj", "running")

    done = jobs.end("finished")
    jobs.patch("finished", {"suspend": True})
    time.sleep(2)
    again = jobs.get("finished")
    assert again["status"]["phase"] == "Succeeded"
    assert again["status"]["attempts"] == done["status"]["attempts"]
    assert jobs.made("finished") == []

    for name in ("paused", "running"):
        jobs.patch(name, {"suspend": False})
    for name in ("paused", "running"):
        jobs.release(jobs.waiting(name))
    ended = jobs.ends("paused", "running")
    for body in ended.values():
        assert body["status"]["phase"] == "Succeeded", jobs.described(body)
        conditions = {each["type"]: each["status"] for each in body["status"]["conditions"]}
        assert conditions["Suspended"] == "False"
    assert ended["paused"]["status"]["attempt"] == 1
    assert ended["running"]["status"]["attempt"] == 2
    assert len(jobs.told("running", "Suspended")) == 1
    assert ended["running"]["status"].get("failed", 0) == 0, "a suspension is no failure"
    jobs.nothing_left()


def test_suspend_and_resume_in_quick_succession_end_well(jobs):
    jobs.start("hectic", "print('done')", workers={"replicas": 2})
    for moment in range(8):
        time.sleep(0.3 * moment)
        if jobs.get("hectic")["status"].get("phase") == api.Phase.SUCCEEDED:
            break
        jobs.patch("hectic", {"suspend": moment % 2 == 0})
    jobs.patch("hectic", {"suspend": False})
    body = jobs.end("hectic", 60)
    assert body["status"]["phase"] == "Succeeded", yaml.safe_dump(body)
    jobs.nothing_left()
