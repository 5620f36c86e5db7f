"""What the dashboard of a job at work shows: its pages, tasks by their names, workers, and figures for Prometheus."""

import http.client
import re
import subprocess
import sys

from machine import slowdown

SCRIPT = """
import time
from joblib import Parallel, delayed

def fit_one_model(number):
    time.sleep(0.1)

while True:
    Parallel(n_jobs=-1)(delayed(fit_one_model)(number) for number in range(20))
"""
# In a process of its own: Bokeh's client leaves its event loop open.
SHOWN = """
import sys, time
from bokeh.client import pull_session

names = []
for _ in range(100):
    session = pull_session(url=sys.argv[1])
    sources = [model for model in session.document.models if hasattr(model, "column_names")]
    names = [str(name) for source in sources for name in source.data.get("name", ())]
    session.close()
    if names:
        break
    time.sleep(0.2)
print(names)
"""
# Where people look: the overview, each worker, the tasks over time, the graph, progress by the tasks' names, memory.
PAGES = [
    *("/status", "/workers", "/tasks", "/graph", "/groups", "/system", "/profile"),
    *("/individual-progress", "/individual-task-stream", "/individual-graph", "/individual-workers-memory"),
    *("/info/main/workers.html", "/info/main/logs.html", "/health"),
]


def test_a_job_at_work_is_seen_on_every_page(pods, wait_until):
    attempt = pods(SCRIPT, env={"DASK_TRAINING_DASHBOARD": "true"})
    attempt.start_cluster(2)
    wait_until(lambda: attempt.status()[1].get("workers") == 2)
    attempt.start("runner")
    wait_until(lambda: (attempt.status()[1].get("progress") or {}).get("done", 0) > 2, 60)

    def page(path) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", attempt.http_port, timeout=60)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        finally:
            connection.close()

    wait_until(lambda: page("/status")[0] == 200)  # made when the first task has begun
    assert {path: page(path)[0] for path in PAGES} == dict.fromkeys(PAGES, 200)
    assert "fit_one_model" in shown(attempt.http_port, "/individual-progress")
    assert "fit_one_model" in shown(attempt.http_port, "/individual-task-stream")
    workers = page("/info/main/workers.html")[1]
    assert all(f"forest-12345-1-worker-{number}" in workers for number in (0, 1))

    figures = page("/metrics")[1]
    states = re.findall(r'^dask_scheduler_workers\{state="(\w+)"\} ([\d.]+)$', figures, re.MULTILINE)
    assert sum(float(number) for _, number in states) == 2
    assert re.search(r"^dask_scheduler_prefix_state_totals_total\{.*fit_one_model.*\} [1-9]", figures, re.MULTILINE)


def shown(port, path) -> str:
    """The names in a page's tables, as a browser gets them over its websocket, once there are some."""
    command = [sys.executable, "-c", SHOWN, f"http://127.0.0.1:{port}{path}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60 * slowdown(), check=True).stdout
