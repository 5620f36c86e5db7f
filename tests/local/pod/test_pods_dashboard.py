"""What the dashboard of a job at work shows: its pages, tasks by their names, load and memory, and figures for Prometheus."""

import asyncio
import http.client
import re

from bokeh.client import pull_session

SCRIPT = """
import time
from joblib import Parallel, delayed

def fit_one_model(number):
    time.sleep(0.1)

while True:
    Parallel(n_jobs=-1)(delayed(fit_one_model)(number) for number in range(20))
"""
# Where people look: the overview, each worker, the tasks over time, the graph, progress by the tasks' names, memory.
PAGES = [
    *("/status", "/workers", "/tasks", "/graph", "/groups", "/system", "/profile"),
    *("/individual-progress", "/individual-task-stream", "/individual-graph", "/individual-workers-memory"),
    *("/info/main/workers.html", "/info/main/logs.html", "/sitemap.json", "/health"),
]


def test_a_job_at_work_is_seen_on_every_page(pods, wait_until):
    attempt = pods(SCRIPT, env={"DASK_TRAINING_DASHBOARD": "true"})
    attempt.start_cluster(2)
    attempt.start("runner")
    wait_until(lambda: (attempt.status()[1].get("progress") or {}).get("done", 0) > 20, 60)

    def page(path) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", attempt.http_port, timeout=20)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        finally:
            connection.close()

    assert {path: page(path)[0] for path in PAGES} == dict.fromkeys(PAGES, 200)
    assert "fit_one_model" in shown(attempt.http_port, "/individual-progress", wait_until)
    assert "fit_one_model" in shown(attempt.http_port, "/individual-task-stream", wait_until)
    workers = page("/info/main/workers.html")[1]
    assert len(set(re.findall(r"tls://127.0.0.1:\d+", workers))) == 2

    figures = dict(re.findall(r"^(dask_scheduler_\S+) ([\d.e+]+)$", page("/metrics")[1], re.MULTILINE))
    assert float(figures['dask_scheduler_workers{state="running"}']) == 2
    done = [value for name, value in figures.items() if "fit_one_model" in name and 'state="memory"' in name]
    assert done, "tasks by name"


def shown(port, path, wait_until) -> str:
    """The text in a page's tables, as a browser gets it over its websocket, once there is a task in it."""

    def tables() -> str:
        session = pull_session(url=f"http://127.0.0.1:{port}{path}")
        try:
            sources = [model for model in session.document.models if hasattr(model, "column_names")]
            return " ".join(str(value) for source in sources for value in source.data.get("name", ()))
        finally:
            session.close()

    asyncio.set_event_loop(asyncio.new_event_loop())
    return wait_until(tables, 20)
