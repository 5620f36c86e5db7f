"""How many workers there are: exactly as many as the work of an adaptive job asks for, and always the right ones go."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dask_training.api import Label
from dask_training.handlers.demand import STEP_SECONDS, DemandHistory
from dask_training.reconcile import Delete, WriteStatus
from dask_training.telemetry import Telemetry

WINDOW = 30.0
ADAPTIVE = {"replicas": 1, "minReplicas": 1, "maxReplicas": 4}


def staying(job):
    """The workers that nobody has sent away, by number."""
    pods = [pod for pod in job.pods("worker") if "deletionTimestamp" not in pod["metadata"]]
    return {int(pod["metadata"]["labels"][Label.INDEX]): pod for pod in pods}


def asks(job, demand, idle=()):
    """The scheduler asks for so many workers, and names the idle ones by their numbers."""
    names = tuple(job.pod("worker", index)["metadata"]["name"] for index in idle)
    job.telemetry = Telemetry(code_started=True, target=demand, demand=demand, idle_workers=names)
    return job.reconcile()


def deleted(job):
    """The numbers of the workers that were deleted so far, in order."""
    return [int(each.name.rpartition("-")[2]) for each in job.requests if isinstance(each, Delete)]


@pytest.fixture
def adaptive(cluster):
    """A running job with this many running workers, of at most four."""

    def make(running=1, **workers):
        job = cluster(workers=ADAPTIVE | workers).running()
        return asks(job, running).pass_time(1).start().reconcile()

    return make


def test_the_number_of_workers_follows_what_the_scheduler_asks_for_within_the_limits(adaptive):
    job = adaptive()
    assert sorted(staying(job)) == [0]
    asks(job, 3)
    assert sorted(staying(job)) == [0, 1, 2]
    assert job.status["workers"]["desired"] == 3
    asks(job, 90)
    assert sorted(staying(job)) == [0, 1, 2, 3], "maxReplicas"
    job.pass_time(1).start().reconcile()
    asks(job, 0, idle=[0, 1, 2, 3])
    assert deleted(job) == [0, 1, 2], "in the scheduler's order, and minReplicas stay"
    assert sorted(staying(job)) == [3]
    assert job.pass_time(11).reconcile().status["workers"]["summary"] == "1/1"
    assert job.status["workers"]["lost"] == 0
    assert [event.message for event in job.events if event.reason == "Scaled"] == [
        "from 1 to 3 workers",
        "from 3 to 4 workers",
        "from 4 to 1 workers",
    ]


def test_a_decision_costs_one_write_and_the_same_demand_none(adaptive):
    job = adaptive()
    writes = []
    for demand in (3, 3, 7, 9, 7, 3, 3):
        before = len(job.requests)
        asks(job, demand)
        writes.append(sum(isinstance(each, WriteStatus) for each in job.requests[before:]))
    assert writes == [1, 0, 1, 0, 0, 1, 0]


@pytest.mark.parametrize(
    "fixed",
    [{"adaptive": False}, {"minReplicas": 2, "replicas": 2, "maxReplicas": 2}],
    ids=["adaptive: false", "min = max"],
)
def test_a_job_that_is_not_adaptive_has_its_replicas_whatever_is_asked_for(adaptive, fixed):
    job = adaptive(**fixed)
    assert len(staying(job)) == fixed.get("replicas", 1)


def test_an_attempt_begins_with_its_replicas_and_keeps_them_until_something_is_known(cluster):
    job = cluster(workers=ADAPTIVE | {"replicas": 2}, backoffLimit=1).running()
    assert sorted(staying(job)) == [0, 1]
    job.telemetry = Telemetry(code_started=False, target=0)
    assert sorted(staying(job.pass_time(60).reconcile())) == [0, 1], "the code has not begun"
    asks(job, 4)
    job.telemetry = None
    assert len(staying(job.pass_time(60).start().reconcile())) == 4, "an operator that has just been started"
    job.fail().reconcile().vanish().pass_time(3600)
    job.reconcile().reconcile()
    assert job.status["attempt"] == 2
    assert job.status["workers"]["desired"] == 2, "the next attempt begins as the first one did"
    assert sorted(staying(job)) == [0, 1]


def test_kubectl_scale_sets_what_an_adaptive_job_begins_with_and_limits_hold_at_once(adaptive):
    job = adaptive(3)
    job.edit(workers={"replicas": 2}).reconcile()
    assert sorted(staying(job)) == [0, 1, 2]
    job.edit(workers={"replicas": 1, "maxReplicas": 2}).reconcile()
    assert sorted(staying(job)) == [0, 1], "more than there may be: one that works goes, too"
    job.edit(workers={"replicas": 4, "minReplicas": 4, "maxReplicas": 4}).reconcile()
    assert len(staying(job)) == 4


def test_the_operators_own_limit_holds_for_adaptive_jobs(cluster, operator_settings):
    workers = {"replicas": 1, "minReplicas": 1, "maxReplicas": operator_settings.max_workers}
    job = cluster(workers=workers).running()
    job.edit(workers={"maxReplicas": 1000})
    asks(job, 1000)
    assert len(staying(job)) == operator_settings.max_workers


# Bugs of dask-kubernetes, by their numbers there.


def test_dask_kubernetes_633_workers_on_their_way_out_are_not_counted(adaptive):
    job = adaptive(4)
    asks(job, 2, idle=[1, 2])
    assert sorted(staying(job)) == [0, 3]
    for _ in range(5):
        job.pass_time(2).reconcile()
    assert deleted(job) == [1, 2], "those that are going were counted again"
    asks(job, 3)
    assert sorted(staying(job)) == [0, 3, 4], "nobody waits for the two that are going, whose names are taken"
    job.vanish()
    asks(job, 4)
    assert sorted(staying(job)) == [0, 1, 3, 4]


def test_dask_kubernetes_659_a_worker_that_still_starts_goes_before_one_that_is_ready(adaptive):
    job = adaptive(2)
    asks(job, 4)
    asks(job, 3, idle=[0, 1])
    assert deleted(job) == [3], "its image was still being pulled"
    asks(job, 1, idle=[0])
    assert deleted(job) == [3, 2, 0]
    assert sorted(staying(job)) == [1]


def test_dask_kubernetes_807_without_the_schedulers_word_no_worker_is_taken(adaptive):
    job = adaptive(3)
    job.telemetry = None  # it does not answer
    assert len(staying(job.pass_time(300).reconcile())) == 3
    asks(job, 1)  # it answers, and all are busy
    assert len(staying(job)) == 3
    assert job.check_after <= 2
    asks(job, 1, idle=[1])
    assert sorted(staying(job)) == [0, 2], "the idle one alone"


def test_dask_kubernetes_855_a_worker_that_has_handed_over_does_not_come_back(adaptive):
    job = adaptive(2)
    gone = job.pod("worker", 1)
    asks(job, 1, idle=[1])
    job.end(gone, 0)  # it has drained; the kubelet's last word on its pod is a grace of 0
    gone["metadata"]["deletionGracePeriodSeconds"] = 0
    for _ in range(3):
        job.pass_time(10).reconcile()
    assert sorted(staying(job)) == [0]
    assert job.status["workers"]["lost"] == 0
    assert job.vanish().reconcile().pods("worker") == [job.pod("worker", 0)]


def test_dask_kubernetes_910_exactly_the_pods_that_the_scheduler_names_are_deleted(adaptive):
    job = adaptive(4)
    named = [job.pod("worker", index)["metadata"]["name"] for index in (2, 0)]
    asks(job, 2, idle=[2, 0])
    assert [each.name for each in job.requests if isinstance(each, Delete)] == named
    assert {each.kind for each in job.requests if isinstance(each, Delete)} == {"Pod"}
    assert sorted(staying(job.vanish().reconcile())) == [1, 3]


# What is left to chance.


def test_a_lost_worker_that_is_not_needed_any_more_is_not_made_again(adaptive):
    job = adaptive(3)
    job.kubectl_delete_pod(job.pod("worker", 1)).reconcile()
    asks(job, 2, idle=[0])
    assert sorted(staying(job)) == [0, 2], "the lost one was one too many anyway"
    assert sorted(staying(job.vanish().reconcile())) == [0, 2]


def test_pods_that_a_quota_refuses_are_tried_again_and_take_nobody_away(adaptive):
    job = adaptive(2)
    job.refuse = lambda manifest: (403, "exceeded quota: team") if manifest["kind"] == "Pod" else None
    asks(job, 4)
    assert sorted(staying(job.pass_time(11).reconcile())) == [0, 1]
    assert "exceeded quota" in job.status["message"]
    job.refuse = lambda _: None
    assert sorted(staying(job.pass_time(90).reconcile())) == [0, 1, 2, 3]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    moments=st.lists(st.tuples(st.integers(0, 7), st.booleans(), st.booleans()), min_size=5, max_size=60),
    limits=st.tuples(st.integers(1, 3), st.integers(0, 3)),
    window=st.sampled_from([0.0, 4.0, WINDOW]),
)
def test_no_sequence_of_demands_makes_workers_come_and_go_for_nothing(cluster, moments, limits, window):
    """Every two seconds the work asks for some number, pods start or not, those that were sent away go or not."""
    least, most = limits[0], sum(limits)
    job = cluster(workers={"replicas": least, "minReplicas": least, "maxReplicas": most}).running()
    history, asked, steps_down = DemandHistory(least, 0.0, window), [], []
    for number, (work, pods_start, pods_go) in enumerate(moments):
        now = 2.0 * number
        running = {index: pod for index, pod in staying(job).items() if pod["status"]["phase"] == "Running"}
        idle = sorted(running)[work:]
        target = max(work, len(running) - len(idle))
        asked.append((now, target))
        before, before_pods, requests = job.status["workers"]["desired"], staying(job), len(job.requests)
        asks(job, history.add(target, now), idle)
        desired, pods, new = job.status["workers"]["desired"], staying(job), job.requests[requests:]

        assert least <= desired <= most
        recent = [least, target, *(target for at, target in asked if at > now - window)]
        assert desired >= min(max(recent), most), "fewer than what was asked for within the window"
        assert len(pods) <= max(desired, len(running)), "a worker more than is wanted"
        assert len(pods) >= min(desired, len(before_pods)), "a worker less than is wanted"
        gone = [each.name for each in new if isinstance(each, Delete)]
        for index, pod in running.items():
            if pod["metadata"]["name"] in gone:
                assert index in idle, "it was at work"
                assert all(pods[other]["status"]["phase"] == "Running" for other in pods), "others were not there yet"
        made = [each for each in new if isinstance(each, dict)]
        assert not (made and gone), "made and deleted at once"
        if desired < before:
            assert not steps_down or now - steps_down[-1] >= STEP_SECONDS
            steps_down.append(now)
        assert sum(isinstance(each, WriteStatus) for each in new) <= 1
        assert job.status["workers"]["lost"] == 0
        job.pass_time(2)
        if pods_start:
            job.start()
        if pods_go:
            job.vanish()
        job.reconcile()


# The window.


def test_demand_goes_up_at_once_and_down_when_it_was_lower_for_the_whole_window():
    history = DemandHistory(1, 0.0, WINDOW)
    assert [history.add(target, 2.0 * n) for n, target in enumerate([1, 3, 8, 2])] == [1, 3, 8, 8]
    levels = [history.add(0, 6.0 + second) for second in range(2, 60, 2)]
    assert levels[:14] == [8] * 14, "for 30 s from the last time that 8 were asked for, at 4 s"
    assert levels[-1] == 0


def test_an_operator_that_was_just_started_takes_nothing_away_for_a_window():
    history = DemandHistory(5, 100.0, WINDOW)
    levels = {second: history.add(0, 100.0 + second) for second in range(0, 40, 2)}
    assert {level for second, level in levels.items() if second < WINDOW} == {5}
    assert levels[38] == 0


def test_what_was_asked_for_last_holds_while_the_scheduler_is_silent():
    history = DemandHistory(1, 0.0, WINDOW)
    history.add(6, 2.0)
    assert history.add(0, 500.0) == 6, "it may have needed six all the time"
    assert history.add(0, 531.0) == 0


def test_a_slow_decline_goes_down_in_few_steps():
    history = DemandHistory(20, 0.0, WINDOW)
    levels = [history.add(max(20 - n, 1), 2.0 * n) for n in range(60)]
    steps = [after for before, after in itertools.pairwise(levels) if after < before]
    assert levels[-1] == 1
    assert len(steps) <= 6
