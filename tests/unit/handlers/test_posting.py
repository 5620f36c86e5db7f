"""Events: posted once, whatever happens to the requests."""

import asyncio

import pytest

from dask_training.handlers.posting import EventPoster
from dask_training.kube.events import event


@pytest.fixture
def body(job):
    return job(attempt=1)


def test_an_event_says_what_describe_shows(body):
    made = event(body, kind="Warning", reason="Failed", message="x" * 2000, about="1", now="2026-01-01T00:00:00Z")
    assert made["involvedObject"]["uid"] == body["metadata"]["uid"]
    assert len(made["message"]) == 1024
    assert (made["type"], made["reason"], made["count"]) == ("Warning", "Failed", 1)
    assert made["metadata"]["namespace"] == "team"


def test_the_same_transition_has_the_same_name_and_another_has_not(body):
    def name(**changed):
        told = {"kind": "Normal", "reason": "Started", "message": "m", "about": "1", "now": "t"} | changed
        return event(body, **told)["metadata"]["name"]

    assert name() == name(now="later", message="other words")
    assert len({name(), name(reason="Ended"), name(about="2")}) == 3


@pytest.mark.parametrize("answer", [None, 429, 500, "reset", "late", "lost"])
def test_a_post_that_fails_comes_again_and_makes_one_event(run, until, kubernetes, body, fault, answer):
    async def scene():
        async with kubernetes() as kube:
            if answer:
                kube.api.faults.append(fault("create", "events", answer, nth=1, headers={"Retry-After": "0"}))
            poster = EventPoster(kube.client)
            task = asyncio.create_task(poster.run())
            poster.post(body, "Normal", "Started", "attempt 1")
            poster.post(body, "Normal", "Ended", "done")
            await until(lambda: len(kube.api.names("Event")) == 2)
            task.cancel()

    run(scene())


def test_a_refused_event_is_given_up_at_once(run, until, kubernetes, body, fault):
    async def scene():
        async with kubernetes() as kube:
            kube.api.faults.append(fault("create", "events", 403, nth=1))
            poster = EventPoster(kube.client)
            poster.post(body, "Normal", "Started", "attempt 1")
            poster.post(body, "Normal", "Ended", "done")
            await poster.drain()
            assert len(kube.api.names("Event")) == 1
            assert len(kube.api.log) == 2

    run(scene())
