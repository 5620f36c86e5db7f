"""Warnings while a job still runs: once, only where something is left to be gained, and never of a good job."""

from __future__ import annotations

import threading
from itertools import count

import pytest

from dask_training import api
from dask_training.api import ADVICE_ANNOTATION, Phase
from dask_training.model import TrainingJob
from dask_training.runner.early_advice import NOTHING_AFTER_SECONDS, EarlyAdvice
from dask_training.runner.events import Notice, PhaseChanged, Progress, WorkersChanged

T = 1_800_000_000.0
RUNNING = PhaseChanged(at=T, phase=Phase.RUNNING)
TWO_WORKERS = WorkersChanged(at=T, desired=2, ready=2)


def job(*, annotations=None, guest=False, threads=2) -> TrainingJob:
    spec = {"runner": {"script": "pass"}, "workers": {"replicas": 2, "threads": threads}}
    if guest:
        spec = {"runner": {"script": "pass"}, "clusterRef": {"kind": "DaskCluster", "name": "shared"}}
    metadata = {"name": "search", "annotations": annotations or {}}
    return TrainingJob.from_body({"apiVersion": api.API_VERSION, "kind": api.KIND, "metadata": metadata, "spec": spec})


class Heard(list):
    """A listener; `said` are the notices."""

    def __call__(self, event):
        self.append(event)

    @property
    def said(self):
        return [event.message for event in self if isinstance(event, Notice)]


def calls(*, each: float, tasks: int, total: int | None, call=1, start=T, every=100):
    """Progress of a call on four busy threads whose tasks take `each` seconds."""
    for done in range(0, tasks + 1, every):
        yield Progress(at=start + done * each / 4, done=done, total=total, call=call)


def heard_of(events, the_job=None):
    heard = Heard()
    early = EarlyAdvice(the_job or job(), heard, lambda: None)
    for event in events:
        early(event)
    early.close()
    assert [event for event in heard if not isinstance(event, Notice)] == events
    return heard.said


def test_tiny_tasks_are_told_once_and_soon():
    events = [TWO_WORKERS, *calls(each=0.019, tasks=9000, total=20_000)]
    (said,) = heard_of(events)
    assert said.startswith("2,200 tasks took 19 ms each on average")
    assert "Better: do the work of about 6 in one task" in said
    assert heard_of([TWO_WORKERS, *calls(each=0.021, tasks=9000, total=20_000)]) == []
    assert len(heard_of([*events, *calls(each=0.001, tasks=90_000, total=None, call=2, start=T + 100)])) == 1


@pytest.mark.parametrize(
    "events",
    [
        [*calls(each=0.01, tasks=3900, total=3900)],  # over after ten seconds
        [*calls(each=0.01, tasks=4900, total=5000)],  # nearly over then
        [  # many short calls: each is over before anybody could change it
            event
            for number in range(50)
            for event in calls(each=0.01, tasks=1000, total=1000, call=number, start=T + 3 * number)
        ],
        [*calls(each=2.0, tasks=90, total=1000, every=1)],
    ],
)
def test_what_is_soon_over_or_long_enough_is_not_spoken_of(events):
    assert heard_of([TWO_WORKERS, *events]) == []


def test_with_more_workers_the_same_pace_means_longer_tasks():
    events = list(calls(each=0.01, tasks=9000, total=20_000))
    assert len(heard_of([TWO_WORKERS, *events])) == 1
    assert heard_of([TWO_WORKERS, WorkersChanged(at=T, desired=8, ready=8), *events]) == []


@pytest.mark.parametrize("the_job", [job(guest=True), job(annotations={ADVICE_ANNOTATION: "off"})])
def test_nothing_is_said_where_it_is_not_known_or_not_wanted(the_job):
    heard = Heard()
    early = EarlyAdvice(the_job, heard, lambda: pytest.fail("was asked"), after=0.0)
    for event in (RUNNING, TWO_WORKERS, *calls(each=0.001, tasks=90_000, total=None)):
        early(event)
    early.close()
    assert heard.said == []


class Asked:
    """Answers whether any task has come, and knows how often it was asked."""

    def __init__(self, answer):
        self.answer, self.times, self.over = answer, count(), threading.Event()
        self.go_on = threading.Event()

    def __call__(self):
        next(self.times)
        self.over.set()
        assert self.go_on.wait(10)
        return self.answer


@pytest.mark.parametrize(("answer", "notices"), [(False, 1), (True, 0), (None, 0)])
def test_a_script_whose_workers_have_nothing_to_do_is_told_once(answer, notices):
    heard, asked = Heard(), Asked(answer)
    asked.go_on.set()
    early = EarlyAdvice(job(), heard, asked, after=0.01)
    early(RUNNING)
    early(RUNNING)
    early._timer.join(10)
    early.close()
    assert next(asked.times) == 1
    assert len(heard.said) == notices
    assert all("n_jobs=1" in text and "reading its data" in text for text in heard.said)


def test_after_the_script_s_end_nothing_is_said_of_it():
    heard, asked = Heard(), Asked(False)
    early = EarlyAdvice(job(), heard, asked, after=0.0)
    early(RUNNING)
    assert asked.over.wait(10)
    early.close()
    asked.go_on.set()
    early._timer.join(10)
    assert heard.said == []
    soon_over = EarlyAdvice(job(), heard, lambda: pytest.fail("was asked"), after=NOTHING_AFTER_SECONDS)
    soon_over(RUNNING)
    soon_over.close()
    soon_over._timer.join(10)
    assert not soon_over._timer.is_alive()
