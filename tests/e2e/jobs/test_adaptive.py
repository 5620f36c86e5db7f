"""A job whose number of workers follows its work."""

import pytest

# Each task notes each of its executions on a shared volume; the script counts them at the end.
SCRIPT = """
import itertools, os, pathlib, time
from distributed import wait
from joblib import Parallel, delayed
import dask_training

NOTES = pathlib.Path("/shared")

def work(number):
    (NOTES / f"work-{{number}}-{{time.time_ns()}}").write_text(os.environ["DASK_TRAINING_POD_NAME"])
    time.sleep(0.25)
    return number * number

def produce(number):
    (NOTES / f"produce-{{number}}-{{time.time_ns()}}").touch()
    return [number] * 1000

def numbers():  # until three workers have had some of them
    for number in itertools.count():
        if number >= 80 and len({{path.read_text() for path in NOTES.glob("work-*")}} - {{""}}) >= 3:
            return
        yield number

squares = list(Parallel(n_jobs=-1, return_as="generator", batch_size=1)(delayed(work)(i) for i in numbers()))
assert squares == [i * i for i in range(len(squares))], squares
held = dask_training.client().map(produce, range(12))
wait(held)
{wait}
lists = dask_training.client().gather(held)
assert lists == [[i] * 1000 for i in range(12)], "the results of workers that are gone"
workers = {{path.read_text() for path in NOTES.glob("work-*")}}
dask_training.report(results=len(squares) + len(lists), executions=len(list(NOTES.iterdir())), workers=len(workers))
"""
SHARED = {"name": "shared", "mountPath": "/shared"}


@pytest.fixture
def shared(jobs) -> list[dict]:
    """A volume that all pods of a job can write to."""
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "shared"}}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    jobs.apply(claim | {"spec": spec})
    return [{"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}]


def test_the_number_of_workers_follows_the_work_and_no_result_is_lost(jobs, shared, wait_script, wait_for):
    workers = {"replicas": 1, "minReplicas": 1, "maxReplicas": 3, "volumeMounts": [SHARED]}
    script = SCRIPT.format(wait=wait_script)
    jobs.start("adaptive", script, volumes=shared, runner={"volumeMounts": [SHARED]}, workers=workers)
    jobs.until("adaptive", lambda body: body["status"].get("workers", {}).get("desired") == 3, timeout=40)
    runner = jobs.pod("adaptive", "runner")
    jobs.logged(runner, "waiting", 60)
    body = jobs.until("adaptive", lambda body: body["status"]["workers"]["desired"] == 1, timeout=30)
    assert body["spec"]["workers"]["replicas"] == 1, "the spec is its user's"
    wait_for(lambda: len(jobs.pods("adaptive", role="worker")) == 1, timeout=20)
    jobs.release(runner)
    body = jobs.end("adaptive")
    assert body["status"]["phase"] == "Succeeded", jobs.described(body)
    done = body["status"]["metrics"]
    assert done["results"] == done["executions"] >= 92
    assert done["workers"] == 3
    assert body["status"]["workers"].get("lost", 0) == 0, "those were sent away"
    assert body["status"]["workers"].get("restarts", 0) == 0
    scaled = [event["message"] for event in jobs.told("adaptive", "Scaled")]
    assert scaled[0].startswith("from 1 to ")
    assert scaled[-1].endswith(" to 1 workers")
    assert 2 <= len(scaled) <= 4, f"no coming and going: {scaled}"
