"""What a job's scheduler asks for as its work grows and ends, and what becomes of the workers that it names."""

import signal

SCRIPT = """\
import os, pathlib, time
from distributed import wait
from joblib import Parallel, delayed
import dask_training

def note(what):
    with open({counted!r}, "a") as file:
        file.write(f"{{what}} {{os.environ['DASK_TRAINING_POD_NAME']}}\\n")

def work(n):
    note(f"work-{{n}}")
    while n > 20 and not os.path.exists({joined!r}):  # so that there is something left for those who come later
        time.sleep(0.05)
    time.sleep(0.25)
    return n * n

def produce(n):
    note(f"produce-{{n}}")
    return [n] * 1000

print("sum", sum(Parallel(n_jobs=-1)(delayed(work)(n) for n in range(60))), flush=True)
client = dask_training.client()
held = client.map(produce, range(12))
wait(held)
print("held", flush=True)
while not os.path.exists({go!r}):
    time.sleep(0.05)
print("kept", sum(map(sum, client.gather(held))))
"""


def test_workers_that_come_later_work_and_the_idle_ones_leave_all_that_they_know(pods, wait_until, tmp_path):
    counted, joined, go = (tmp_path / name for name in ("counted", "joined", "go"))
    workers = {"replicas": 1, "minReplicas": 1, "maxReplicas": 3}
    attempt = pods(SCRIPT.format(counted=str(counted), joined=str(joined), go=str(go)), spec={"workers": workers})
    attempt.start_cluster(1)
    runner = attempt.start("runner")
    wait_until(lambda: (attempt.status()[1].get("target") or 0) >= 3, what="asking for three workers")
    assert attempt.status()[1]["workers"] == 1
    names = [f"forest-12345-1-worker-{number}" for number in range(3)]
    for name in names[1:]:
        attempt.start("worker", name)
    wait_until(lambda: attempt.status()[1].get("workers") == 3, what="the late workers")
    joined.touch()
    wait_until(lambda: "held" in runner.printed, what="the work's end")
    status = wait_until(lambda: found if len((found := attempt.status()[1])["idleWorkers"]) == 3 else None)
    assert status["target"] == 0
    assert sorted(status["idleWorkers"]) == names, "as their pods are called"

    leaving = status["idleWorkers"][:2]
    for name in leaving:
        attempt.pods[name].kill(signal.SIGTERM)
    assert [attempt.pods[name].wait(30) for name in leaving] == [0, 0]
    status = wait_until(lambda: found if (found := attempt.status()[1])["workers"] == 1 else None)
    assert status["idleWorkers"] == sorted(set(names) - set(leaving)), "nobody came back"
    go.touch()
    assert runner.wait() == 0, runner.printed
    assert runner.termination.worker_restarts == 0
    assert f"sum {sum(n * n for n in range(60))}" in runner.printed
    assert f"kept {sum(n * 1000 for n in range(12))}" in runner.printed
    done = [line.split() for line in counted.read_text().splitlines()]
    assert sorted(what for what, _ in done) == sorted(
        [f"work-{n}" for n in range(60)] + [f"produce-{n}" for n in range(12)]
    ), "each once"
    assert {where for what, where in done if what.startswith("work")} == set(names), "the late ones, too"


def test_how_much_work_a_worker_needs_is_for_the_job_to_say_in_words_that_can_be_used(pods):
    attempt = pods(env={"DASK_DISTRIBUTED__ADAPTIVE__TARGET_DURATION": "soon"})
    scheduler = attempt.start("scheduler")
    assert scheduler.wait(30) != 0
    assert "target-duration is 'soon': must be a duration above 0" in scheduler.printed
