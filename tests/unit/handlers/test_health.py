"""When a watch counts as dead, and what the probes answer."""

import asyncio
import json
import logging

import aiohttp
import pytest
from machine import free_port

from dask_training.handlers.health import HealthServer, WatchProgress
from dask_training.handlers.logs import JSONFormatter, TextFormatter, about
from dask_training.handlers.metrics import Metrics

PATH = "/api/v1/pods"


class Content:
    total_bytes = 0


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def progress(now):
    progress = WatchProgress(lambda: now[0])
    progress.expect(PATH)
    return progress


def test_a_watch_that_never_begins_is_dead_after_ninety_seconds(progress, now):
    now[0] = 90
    assert progress.silent() == {}
    now[0] = 91
    assert progress.silent() == {PATH: 91}


def test_every_byte_is_a_sign_of_life(progress, now):
    content = Content()
    progress.opened(PATH, content)
    for _ in range(5):
        now[0] += 80
        content.total_bytes += 1
        assert progress.silent() == {}
    now[0] += 91
    assert list(progress.silent()) == [PATH]


def test_watches_cut_every_few_seconds_are_alive(progress, now):
    for _ in range(20):
        now[0] += 15
        progress.opened(PATH, Content())
    assert progress.silent() == {}


def test_streams_that_open_and_stay_silent_are_dead(progress, now):
    progress.opened(PATH, Content())
    for _ in range(3):
        now[0] += 75  # kopf gives a silent stream up and opens another
        progress.opened(PATH, Content())
    assert list(progress.silent()) == [PATH]


def test_a_list_is_a_sign_of_life(progress, now):
    now[0] = 85
    progress.listed(PATH)
    now[0] = 170
    assert progress.silent() == {}


def test_the_trace_sees_lists_and_watches_of_a_real_session(run, until, kubernetes, job, child):
    async def scene():
        now = [0.0]
        progress = WatchProgress(lambda: now[0])
        async with kubernetes() as kube:
            progress.expect(PATH)
            async with kube.connection.session(traces=[progress.trace()]) as session:
                now[0] = 100
                async with session.get(kube.connection.host + PATH):
                    assert progress.silent() == {}
                async with session.get(kube.connection.host + PATH, params={"watch": "true"}) as stream:
                    now[0] = 200
                    assert list(progress.silent()) == [PATH]
                    kube.api.put("Pod", child("Pod", job(), "p0"))
                    await until(lambda: not progress.silent())
                    stream.close()

    run(scene())


@pytest.fixture
def port():
    return free_port()


def test_probes_say_what_is_wrong(run, port, caplog):
    async def scene():
        problems, ready, metrics = ["the watch is dead"], [False], Metrics()
        server = HealthServer(port, problems=lambda: problems, ready=lambda: ready[0], metrics=metrics.render)
        await server.start()
        async with aiohttp.ClientSession() as session:

            async def get(path):
                async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                    return response.status, await response.text()

            assert await get("/healthz") == (500, "the watch is dead")
            assert (await get("/readyz"))[0] == 503
            problems.clear()
            ready[0] = True
            assert await get("/healthz") == (200, "ok")
            assert (await get("/readyz"))[0] == 200
            metrics.request("create", "pods", 201)
            metrics.phases({"Running": 3})
            status, text = await get("/metrics")
            assert status == 200
            assert 'dasktraining_api_requests_total{code="201",resource="pods",verb="create"} 1.0' in text
            assert 'dasktraining_jobs{phase="Running"} 3.0' in text
            assert 'dasktraining_jobs{phase="Failed"} 0.0' in text
        await server.stop()

    with caplog.at_level(logging.ERROR):
        run(scene())


JOB = {"metadata": {"namespace": "team", "name": "rf", "uid": "u"}, "status": {"attempt": 2}}


@pytest.fixture
def record():
    return logging.getLogger("x").makeRecord("x", logging.INFO, "f", 1, "%s", ("went\nwell",), None, extra=about(JOB))


def test_a_record_names_its_job_as_text(record):
    assert TextFormatter().format(record).endswith("INFO    went\nwell namespace=team job=rf uid=u attempt=2")


def test_a_record_is_one_line_of_json(record):
    line = JSONFormatter().format(record)
    assert "\n" not in line
    found = json.loads(line)
    assert {key: found[key] for key in ("message", "namespace", "job", "uid", "attempt", "level")} == {
        "message": "went\nwell",
        "namespace": "team",
        "job": "rf",
        "uid": "u",
        "attempt": 2,
        "level": "info",
    }


def test_a_records_traceback_is_told(record):
    error = ValueError("oops")
    record.exc_info = (ValueError, error, None)
    assert json.loads(JSONFormatter().format(record))["traceback"].endswith("ValueError: oops")
    assert TextFormatter().format(record).endswith("ValueError: oops")


def test_the_clock_is_the_loops_by_default(run):
    async def scene():
        progress = WatchProgress()
        progress.expect(PATH)
        await asyncio.sleep(0)
        assert progress.silent() == {}

    run(scene())
