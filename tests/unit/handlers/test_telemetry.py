"""What schedulers are asked, and how little they are believed."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from dask_training.handlers import telemetry
from dask_training.handlers.cache import Cache
from dask_training.handlers.telemetry import TelemetryPoller
from dask_training.kube.resources import JOBS, PODS
from dask_training.manifests import scheduler_token

KEY = ("team", "forest")
SECRET = b"0123456789abcdef"


@pytest.fixture
def scheduler(run, until, job, child):
    """Run a poller against a scheduler that answers with `reply`, until `enough` and `seconds` more; give its news."""

    async def scene(
        reply,
        *,
        enough=lambda asked, told: told,
        seconds=0.3,
        phase="Running",
        pod_phase="Running",
        status=None,
        scale_down=30.0,
        changes=(),
        **spec,
    ):
        asked, told, cache = [], [], Cache()

        async def handle(request):
            asked.append((request.path, request.headers.get("Authorization")))
            return await reply(request)

        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", handle)
        async with TestServer(app) as server:
            body = job(phase=phase, attempt=1, **status or {})
            body["spec"] |= spec
            cache.put(JOBS, body)
            pod_status = {"phase": pod_phase, "podIP": "127.0.0.1"}
            role = "runner" if "clusterRef" in spec else "scheduler"
            pod = child("Pod", body, f"forest-aaaaa-1-{role}", role=role, status=pod_status)
            pod["metadata"] |= {"uid": "pod", "resourceVersion": "2"}
            cache.put(PODS, pod)
            poller = TelemetryPoller(cache, SECRET, told.append, port=server.port, scale_down=scale_down)
            task = asyncio.create_task(poller.run())
            await until(lambda: enough(asked, told))
            for change in changes:
                change(body)
                body["metadata"]["resourceVersion"] = str(int(body["metadata"]["resourceVersion"]) + 1)
                cache.put(JOBS, body)
                count = len(asked) + 3  # the second was asked after the change, and answered before the third
                await until(lambda count=count: len(asked) >= count)
            await asyncio.sleep(seconds)
            task.cancel()
            await asyncio.wait({task})
            return asked, told, poller.of("uid-of-forest", 1)

    return lambda *args, **kwargs: run(scene(*args, **kwargs))


def answer(body, **kwargs):
    async def reply(_request):
        return web.json_response(body, **kwargs)

    return reply


def test_the_scheduler_is_asked_with_the_attempts_token(scheduler):
    asked, told, known = scheduler(answer({"workers": 2, "codeStarted": True, "progress": {"done": 3, "total": 9}}))
    token = scheduler_token(SECRET, "uid-of-forest", 1)
    assert asked == [("/dask-training/v1/status", f"Bearer {token}")]
    assert told == [KEY]
    assert (known.workers, known.done, known.total) == (2, 3, 9)


def test_progress_comes_at_most_every_ten_seconds_once_the_script_runs(scheduler):
    numbers = iter(range(1000))

    async def reply(_request):
        return web.json_response({"codeStarted": True, "progress": {"done": next(numbers), "total": 1000}})

    asked, told, _ = scheduler(reply, seconds=1.8)
    assert len(asked) == len(told) == 1


def test_before_that_it_is_asked_each_second_and_told_of_only_when_there_is_news(scheduler):
    assert telemetry.EAGER_PERIOD == 1.0
    _, told, _ = scheduler(answer({"workers": 1}), enough=lambda asked, _: len(asked) >= 3)
    assert told == [KEY]


def test_who_does_not_answer_is_asked_seldom_in_the_end_and_believed_when_it_does(scheduler, monkeypatch):
    for name, seconds in {"TICK": 0.01, "EAGER_PERIOD": 0.02, "PERIOD": 0.6}.items():
        monkeypatch.setattr(telemetry, name, seconds)
    monkeypatch.setattr(telemetry, "EAGER_TRIES", 3)
    asked, _, _ = scheduler(answer({}, status=500), enough=lambda asked, _: len(asked) >= 3)
    assert len(asked) == 3
    replies = iter([answer({}, status=500)] * 4)

    async def reply(request):
        return await next(replies, answer({"workers": 2}))(request)

    _, _, known = scheduler(reply, enough=lambda asked, _: len(asked) > 5)
    assert known.workers == 2


@pytest.mark.parametrize(
    "reply",
    [
        answer({}, status=500),
        answer({}, status=401),
        answer([1, 2]),
        answer({"x": "y" * 70_000}),
        answer({}, status=302, headers={"Location": "http://169.254.169.254/"}),
    ],
    ids=["500", "401", "a list", "too long", "elsewhere"],
)
def test_a_wrong_answer_is_no_answer(scheduler, reply, monkeypatch):
    monkeypatch.setattr(telemetry, "EAGER_PERIOD", 60)  # once, however long a busy machine takes
    asked, told, known = scheduler(reply, enough=lambda asked, _: asked)
    assert len(asked) == 1
    assert (told, known) == ([], None)


def test_numbers_alone_are_taken(scheduler):
    body = {
        "workers": "many",
        "progress": {"done": -1, "total": "x"},
        "metrics": {"a": 1, "b": "x"},
        "idleSeconds": [],
    }
    _, _, known = scheduler(
        answer(body, dumps=lambda value: __import__("json").dumps(value).replace("Infinity", "1e400"))
    )
    assert (known.workers, known.done, known.total, dict(known.metrics)) == (0, None, None, {"a": 1.0})


@pytest.mark.parametrize(
    ("phase", "pod_phase"), [("Succeeded", "Running"), ("Pending", "Running"), ("Running", "Pending")]
)
def test_only_running_schedulers_of_running_jobs_are_asked(scheduler, phase, pod_phase):
    assert scheduler(answer({}), enough=lambda *_: True, phase=phase, pod_phase=pod_phase)[0] == []


def test_a_scheduler_that_hangs_holds_nothing_up(scheduler, monkeypatch):
    monkeypatch.setattr("dask_training.handlers.telemetry.TIMEOUT", 0.2)

    async def reply(_request):
        await asyncio.sleep(0.6)
        return web.json_response({})

    asked, told, known = scheduler(reply, enough=lambda asked, _: asked, seconds=0.5)
    assert (len(asked), told, known) == (1, [], None)


RANGE = {"replicas": 1, "minReplicas": 1, "maxReplicas": 8, "adaptive": True}


def asking(targets):
    """A scheduler that asks for one of these after the other, and for the last for ever."""
    left = list(targets)

    async def reply(_request):
        target = left.pop(0) if len(left) > 1 else left[0]
        asked = {"target": target, "idleWorkers": ["a", 1, "b"]}
        return web.json_response({"codeStarted": True, "progress": {"done": len(left), "total": 1000}} | asked)

    return reply


@pytest.fixture
def hurried(monkeypatch):
    """A tenth of the time between looks."""
    monkeypatch.setattr("dask_training.handlers.telemetry.DEMAND_PERIOD", 0.2)
    monkeypatch.setattr("dask_training.handlers.telemetry.TICK", 0.05)


def test_an_adaptive_job_is_told_of_once_for_each_change_of_its_demand(scheduler, hurried):
    reply = asking([1, 3, 3, 2, 5, 0, 0])
    _, told, known = scheduler(
        reply, enough=lambda asked, _: len(asked) > 7, workers=RANGE, status={"workers": {"desired": 1}}
    )
    assert (known.target, known.demand, known.idle_workers) == (0, 5, ("a", "b")), "down only after the window"
    assert len(told) == 3, "1, 3 and 5"
    assert known.done == 6, "progress is written as often as that of any job"


def test_a_demand_goes_down_after_the_window_that_the_operator_is_set_to(scheduler, hurried):
    reply = asking([4, 0])
    _, told, known = scheduler(
        reply,
        enough=lambda _, told: len(told) >= 2,
        workers=RANGE,
        status={"workers": {"desired": 1}},
        scale_down=0.5,
    )
    assert (known.demand, len(told)) == (0, 2)


def test_an_operator_that_was_just_started_begins_with_the_present_number(scheduler, hurried):
    _, _, known = scheduler(asking([0]), workers=RANGE, status={"workers": {"desired": 6}})
    assert known.demand == 6


def test_a_job_that_is_adaptive_again_begins_with_what_it_has_by_then(scheduler, hurried, monkeypatch):
    monkeypatch.setattr("dask_training.handlers.telemetry.EAGER_PERIOD", 0.1)
    left = [7, 0]

    async def reply(_request):
        return web.json_response({"target": left.pop(0) if len(left) > 1 else 0})

    def fix(body):  # as `TrainingCluster.scale` does
        body["spec"]["workers"] = {"replicas": 2}
        body["status"]["workers"]["desired"] = 2

    def free(body):
        body["spec"]["workers"] = RANGE

    session = {"workers": RANGE, "mode": "Session", "status": {"workers": {"desired": 1}}}
    assert scheduler(reply, **session)[2].demand == 7
    left[:] = [7, 0]
    _, _, known = scheduler(reply, changes=[fix, free], **session)
    assert known.demand == 2


@pytest.mark.parametrize(
    ("body", "spec"),
    [
        ({"codeStarted": True, "target": 4}, {"workers": RANGE | {"adaptive": False}}),
        ({"codeStarted": True, "target": 4}, {"workers": {"replicas": 2, "minReplicas": 1}}),
        ({"codeStarted": True, "target": 4}, {"workers": RANGE, "clusterRef": {"name": "shared"}}),
        ({"codeStarted": True, "target": "many"}, {"workers": RANGE}),
        ({"codeStarted": True}, {"workers": RANGE}),
        ({"codeStarted": False, "target": 0}, {"workers": RANGE}),
    ],
    ids=["adaptive: false", "no maxReplicas", "somebody else's cluster", "no number", "an older image", "not begun"],
)
def test_nothing_is_known_of_a_demand_that_does_not_count(scheduler, hurried, body, spec):
    _, _, known = scheduler(answer(body), **spec)
    assert known.demand is None


@pytest.mark.parametrize(("phase", "demand"), [("Starting", None), ("Running", 3)])
def test_a_sessions_demand_counts_as_soon_as_its_cluster_is_ready(scheduler, hurried, phase, demand):
    _, _, known = scheduler(answer({"target": 3}), phase=phase, workers=RANGE, mode="Session")
    assert known.demand == demand


def test_that_nobody_uses_a_session_is_told_of_once_and_known_to_the_second(scheduler, hurried):
    seconds = iter(range(1, 1000))

    async def reply(_request):
        now = next(seconds)
        if now > 3:
            await asyncio.Event().wait()
        return web.json_response({"workers": 1, "clients": 0, "noClientSeconds": now, "idleSeconds": 100 + now})

    _, told, known = scheduler(reply, enough=lambda asked, _: len(asked) > 3, mode="Session")
    assert told == [KEY]
    assert (known.clients, known.no_client_seconds, known.idle_seconds) == (0, 3, 103)


def test_a_scheduler_is_asked_again_only_after_it_has_answered(scheduler, monkeypatch, hurried):
    monkeypatch.setattr("dask_training.handlers.telemetry.EAGER_PERIOD", 0.1)

    async def reply(_request):
        await asyncio.sleep(5)

    asked, _, _ = scheduler(reply, enough=lambda asked, _: asked, seconds=1.0)
    assert len(asked) == 1
