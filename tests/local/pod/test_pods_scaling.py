"""Workers that leave while a job runs: nothing is lost, nothing is done twice."""

import signal

import pytest

COUNTING = """\
import os, time
from joblib import Parallel, delayed

def work(n):
    with open({counted!r}, "a") as file:
        file.write(f"{{n}}\\n")
    while not os.path.exists({told!r}):  # all workers have a task when two are told to leave
        time.sleep(0.01)
    time.sleep({seconds})
    return n * n

total = sum(Parallel(n_jobs=-1, batch_size=1)(delayed(work)(n) for n in range({tasks})))
while not os.path.exists({left!r}):
    time.sleep(0.01)
print("sum", total)
"""


@pytest.mark.parametrize(("tasks", "seconds"), [(40, 0.2), (6, 3.0)])
def test_scaling_down_loses_no_result_and_repeats_no_task(pods, wait_until, tmp_path, tasks, seconds):
    counted, told, left = (tmp_path / name for name in ("counted", "told", "left"))
    files = {"counted": str(counted), "told": str(told), "left": str(left)}
    attempt = pods(COUNTING.format(**files, tasks=tasks, seconds=seconds))
    attempt.start_cluster(3)
    wait_until(lambda: attempt.status()[1].get("workers") == 3)
    runner = attempt.start("runner")
    wait_until(lambda: counted.exists() and len(counted.read_text().split()) >= 3)
    for number in (0, 1):
        attempt.worker(number).kill(signal.SIGTERM)
    told.touch()
    assert [attempt.worker(number).wait(30) for number in (0, 1)] == [0, 0]
    assert runner.process.poll() is None
    left.touch()
    assert runner.wait() == 0, runner.printed
    assert f"sum {sum(n * n for n in range(tasks))}" in runner.printed
    assert sorted(map(int, counted.read_text().split())) == list(range(tasks))
    assert runner.termination.worker_restarts == 0
    # What they printed was handed over before they left.
    assert {"worker-0.log", "worker-1.log", "worker-2.log"} <= {p.name for p in (attempt.kept() / "logs").iterdir()}


def test_results_that_only_the_leaving_worker_has_wait_for_somebody_to_take_them(pods, wait_until, tmp_path):
    counted = tmp_path / "counted"
    attempt = pods(
        "import time, dask_training\n"
        "def work(n):\n"
        f"    open({str(counted)!r}, 'a').write('x')\n"
        "    return n + 1\n"
        "client = dask_training.client()\n"
        "future = client.submit(work, 41)\n"
        "while future.status != 'finished':\n    time.sleep(0.01)\n"
        "print('held', flush=True)\n"
        "time.sleep(4)\n"
        "print('answer', future.result())\n"
    )
    attempt.start_cluster(1)
    runner = attempt.start("runner")
    wait_until(lambda: "held" in runner.printed)
    attempt.worker(0).kill(signal.SIGTERM)
    attempt.start("worker", "forest-12345-1-worker-1")
    assert attempt.worker(0).wait(20) == 0
    assert runner.wait() == 0, runner.printed
    assert "answer 42" in runner.printed
    assert counted.read_text() == "x"
