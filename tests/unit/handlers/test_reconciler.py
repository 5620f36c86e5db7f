"""From a key to the end of a job, with a plan as simple as can be."""

import asyncio
import datetime

import pytest

from dask_training.handlers.cache import Cache
from dask_training.handlers.executor import Executor
from dask_training.handlers.lease import AlwaysLeader
from dask_training.handlers.metrics import Metrics
from dask_training.handlers.reconciler import ROUNDS, NotLeaderError, Reconciler
from dask_training.handlers.refusals import Refusals
from dask_training.handlers.store_accounts import StoreUnavailableError
from dask_training.handlers.workqueue import WorkQueue
from dask_training.kube.resources import JOBS, PODS
from dask_training.reconcile import Plan

KEY = ("team", "forest")


@pytest.fixture
def desk(kubernetes, job, child):
    """A reconciler on a fake server; `plans` gives its decisions, `asked` what they were based on."""

    class Desk(kubernetes):
        def __init__(self, plans=None):
            super().__init__()
            self.plans = plans or self.two_pods
            self.asked = []

        async def __aenter__(self):
            await super().__aenter__()
            self.cache, self.queue, self.leader, self.metrics = Cache(), WorkQueue(), AlwaysLeader(), Metrics()
            self.stored = []

            async def store(namespace):
                self.stored.append((namespace, len(self.api.names("Pod"))))

            self.reconciler = Reconciler(
                client=self.client,
                cache=self.cache,
                queue=self.queue,
                executor=Executor(self.client, self.cache, Refusals(), post=lambda *_: None),
                planner=self.planner,
                leader=self.leader,
                metrics=self.metrics,
                store=store,
            )
            self.cache.put(JOBS, self.api.put(JOBS.kind, job()))
            self.api.log.clear()
            return self

        def planner(self, body, observed, now):
            self.asked.append((body, observed))
            return self.plans(body, observed)

        @staticmethod
        def two_pods(body, observed):
            if not body.get("status"):
                return Plan(status={"phase": "Starting", "attempt": 1}, status_first=True)
            have = {pod.name for pod in observed.pods}
            missing = [child("Pod", body, name) for name in ("p0", "p1") if name not in have]
            return Plan(create=tuple(missing), check_after=None if missing else 60)

    return Desk


def test_a_job_comes_as_far_as_it_can_in_one_go(run, desk):
    async def scene():
        async with desk() as kube:
            await kube.reconciler.reconcile(KEY)
            assert kube.api.writes() == [
                ("patch", "dasktrainingjobs", "forest"),
                ("create", "pods", ""),
                ("create", "pods", ""),
            ]
            assert kube.api.names("Pod") == ["p0", "p1"]
            assert len(kube.queue._checks) == 1
            assert kube.stored == [("team", 0)]
            kube.api.log.clear()
            await kube.reconciler.reconcile(KEY)
            assert kube.api.log == []  # nothing to do is no request at all

    run(scene())


@pytest.mark.parametrize("answer", [409, 429, 500, "reset", "late", "lost"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_every_request_may_fail_once(run, until, desk, fault, answer, nth):
    async def scene():
        async with desk() as kube:
            verb, plural, nth_of = ("patch", "dasktrainingjobs", 1) if nth == 1 else ("create", "pods", nth - 1)
            kube.api.faults.append(fault(verb, plural, answer, nth=nth_of, headers={"Retry-After": "0"}))
            worker = asyncio.create_task(kube.reconciler.work())
            deadlines = asyncio.create_task(kube.queue.run_deadlines())
            kube.queue.add(KEY)
            await until(lambda: len(kube.cache.children("uid-of-forest")[0]) == 2)
            assert kube.api.names("Pod") == ["p0", "p1"]
            assert kube.cache.job(KEY)["status"] == {"phase": "Starting", "attempt": 1}
            assert len(kube.api.writes()) <= 5
            for task in (worker, deadlines):
                task.cancel()

    run(scene())


def test_no_request_comes_before_what_a_429_asked_for(run, until, desk, fault):
    async def scene():
        async with desk() as kube:
            kube.api.faults.append(fault("patch", "dasktrainingjobs", 429, nth=1, headers={"Retry-After": "60"}))
            worker = asyncio.create_task(kube.reconciler.work())
            kube.queue.add(KEY)
            await until(lambda: kube.queue._held)
            for _ in range(10):
                kube.queue.add(KEY)
                await asyncio.sleep(0.01)
            assert len(kube.api.log) == 1
            assert kube.queue.release_due() > 25
            worker.cancel()

    run(scene())


def test_who_does_not_lead_writes_nothing(run, desk):
    async def scene():
        async with desk() as kube:
            kube.leader.is_leader = False
            with pytest.raises(NotLeaderError):
                await kube.reconciler.reconcile(KEY)
            assert kube.api.log == []

    run(scene())


def test_a_lease_that_is_late_delays_the_work_and_does_not_end_it(run, until, desk):
    async def scene():
        async with desk() as kube:
            kube.leader.is_leader = False
            tasks = [asyncio.create_task(part) for part in (kube.reconciler.work(), kube.queue.run_deadlines())]
            kube.queue.add(KEY)
            await until(lambda: kube.queue._held)
            assert kube.api.log == []
            kube.leader.is_leader = True
            await until(lambda: len(kube.cache.children("uid-of-forest")[0]) == 2)
            for task in tasks:
                task.cancel()

    run(scene())


def test_a_job_that_is_going_or_gone_is_left_to_the_garbage_collector(run, desk, job):
    async def scene():
        async with desk() as kube:
            going = job()
            going["metadata"] |= {"resourceVersion": "900", "deletionTimestamp": "2026-01-01T00:00:00Z"}
            kube.cache.put(JOBS, going)
            await kube.reconciler.reconcile(KEY)
            kube.cache.remove(JOBS, going["metadata"])
            await kube.reconciler.reconcile(KEY)
            assert (kube.api.log, kube.asked) == ([], [])

    run(scene())


def test_one_jobs_bug_does_not_end_the_others(run, until, desk):
    def plans(body, _):
        if body["metadata"]["name"] == "forest":
            raise RuntimeError("a bug")
        return Plan(status={"phase": "Starting"})

    async def scene():
        async with desk(plans) as kube:
            other = {"metadata": {"name": "other", "namespace": "team"}, "kind": JOBS.kind}
            kube.cache.put(JOBS, kube.api.put(JOBS.kind, other))
            worker = asyncio.create_task(kube.reconciler.work())
            kube.queue.add(KEY)
            kube.queue.add(("team", "other"))
            await until(lambda: kube.cache.job(("team", "other")).get("status"))
            assert b"dasktraining_reconcile_errors_total 1.0" in kube.metrics.render()
            worker.cancel()

    run(scene())


def test_a_plan_that_never_rests_gives_others_their_turn(run, desk):
    numbers = iter(range(1000))

    async def scene():
        async with desk(lambda *_: Plan(status={"phase": "Running", "progress": {"done": next(numbers)}})) as kube:
            await kube.reconciler.reconcile(KEY)
            assert len(kube.api.writes()) == ROUNDS
            assert kube.queue.release_due() > 0.5

    run(scene())


def test_absence_is_confirmed_by_a_list_before_anything_rests_on_it(run, desk, job, child):
    def plans(_, observed):
        return Plan(status={"phase": f"{len(observed.pods)} pods"}) if observed.confirmed else Plan(confirm=True)

    async def scene():
        async with desk(plans) as kube:
            kube.api.put("Pod", child("Pod", job(), "unseen"))  # no watch has told of it
            lost = child("Pod", job(), "lost")
            lost["metadata"] |= {"uid": "lost", "resourceVersion": "1"}
            kube.cache.put(PODS, lost)
            await kube.reconciler.reconcile(KEY)
            assert kube.cache.job(KEY)["status"]["phase"] == "1 pods"
            assert kube.asked[-1][1].pods[0].name == "unseen"

    run(scene())


def test_the_pods_own_events_are_read_when_a_plan_asks(run, desk):
    def plans(body, observed):
        if body.get("status"):
            return Plan()
        message = observed.mount_errors.get("p0")
        return Plan(status={"message": message}) if message else Plan(events_of=("p0",), check_after=5)

    async def scene():
        async with desk(plans) as kube:
            event = {"reason": "FailedMount", "message": "no such Secret", "involvedObject": {"name": "p0"}}
            kube.api.put("Event", {"metadata": {"name": "e", "namespace": "team"}} | event)
            await kube.reconciler.reconcile(KEY)
            assert kube.cache.job(KEY)["status"] == {"message": "no such Secret"}

    run(scene())


def test_without_the_store_there_are_no_pods_but_a_reason(run, desk):
    def plans(body, observed):
        (said,) = [refusal.message for refusal in observed.refusals] or [""]
        pods = Desk.two_pods(body | {"status": {"phase": "x"}}, observed).create
        status = {"phase": "Starting", "attempt": 1, "message": said}
        return Plan(status=None if body.get("status") == status else status, create=pods)

    Desk = desk  # noqa: N806 - a class

    async def scene():
        async with desk(plans) as kube:
            down = [True]

            async def store(_namespace):
                if down[0]:
                    raise StoreUnavailableError("the store is down")

            kube.reconciler._store = store
            for _ in range(2):
                with pytest.raises(StoreUnavailableError):
                    await kube.reconciler.reconcile(KEY)
            assert kube.cache.job(KEY)["status"]["message"] == "the store is down"
            assert kube.api.names("Pod") == []
            down[0] = False
            await kube.reconciler.reconcile(KEY)
            assert kube.cache.job(KEY)["status"]["message"] == ""
            assert kube.api.names("Pod") == ["p0", "p1"]

    run(scene())


def test_only_what_keeps_artifacts_waits_for_the_store(run, desk, job):
    async def scene():
        for mode, asked in (("Batch", True), ("Session", False), ("Workers", False)):
            async with desk() as kube:
                body = job()
                body["spec"] = {**body.get("spec", {}), "mode": mode}
                kube.cache.put(JOBS, kube.api.put(JOBS.kind, body))
                await kube.reconciler.reconcile(KEY)
                assert bool(kube.stored) is asked, mode
                assert kube.api.names("Pod") == ["p0", "p1"]

    run(scene())


def test_ends_and_starts_are_measured(run, desk, job):
    phases = iter(["Running", "Succeeded"])

    def plans(body, _):
        phase = next(phases, None)
        return Plan(status={"phase": phase, "attempt": 1, "reason": "Completed"}) if phase else Plan()

    async def scene():
        async with desk(plans) as kube:
            await kube.reconciler.reconcile(KEY)
            text = kube.metrics.render().decode()
            assert 'dasktraining_jobs_finished_total{phase="Succeeded",reason="Completed"} 1.0' in text
            assert "dasktraining_startup_seconds_count 1.0" in text

    run(scene())


def test_a_session_keeps_no_artifacts_and_so_needs_no_store(run, desk):
    async def scene():
        async with desk() as kube:
            body = kube.api.objects[JOBS.plural, *KEY]
            body["spec"] = {"mode": "Session"}
            kube.cache.put(JOBS, kube.api.put(JOBS.kind, body))
            await kube.reconciler.reconcile(KEY)
            assert kube.api.names("Pod") == ["p0", "p1"]
            assert kube.stored == []

    run(scene())


def test_a_missing_heartbeat_is_looked_for_before_anything_rests_on_that(run, desk):
    def plans(_, observed):
        return Plan(check_after=60) if observed.confirmed else Plan(confirm=True)

    async def scene():
        async with desk(plans) as kube:
            body = kube.api.objects[JOBS.plural, *KEY]
            body["spec"] = {"mode": "Session", "session": {"heartbeatTimeoutSeconds": 10}}
            kube.cache.put(JOBS, kube.api.put(JOBS.kind, body))
            entry = {"manager": "dask-training-heartbeat", "operation": "Update", "time": "2026-03-01T12:00:00Z"}
            kube.api.put(
                JOBS.kind, body | {"metadata": body["metadata"] | {"managedFields": [entry]}}
            )  # no watch tells
            kube.api.log.clear()
            await kube.reconciler.reconcile(KEY)
            before, after = (observed.heartbeat for _, observed in kube.asked)
            assert (before, after) == (None, datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC))
            assert [entry[:2] for entry in kube.api.log] == [("get", "dasktrainingjobs"), ("list", "pods")]

    run(scene())
