"""The course of a job, from its being applied to nothing being left."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from dask_training.api import Label
from dask_training.costs import Prices
from dask_training.observed import Observed
from dask_training.reconcile import Delete, SecretRequest, WriteStatus, plan_body
from dask_training.telemetry import Telemetry


def writes(job):
    return [type(action).__name__ for action in job.requests]


def roles(job):
    return sorted(pod["metadata"]["labels"][Label.ROLE] for pod in job.pods())


def indexes(job):
    return sorted(int(pod["metadata"]["labels"][Label.INDEX]) for pod in job.pods("worker"))


def reasons(job):
    return [event.reason for event in job.events]


def torn_down(job):
    return job.reconcile().vanish().reconcile()


# The whole course.


def test_a_job_with_two_workers_takes_at_most_fourteen_writes(cluster):
    job = cluster()
    job.running().pass_time(30).reconcile()
    torn_down(job.succeed().pass_time(1))
    assert job.status["phase"] == "Succeeded"
    assert job.objects == {}
    assert len(job.requests) <= 14, writes(job)
    assert sum(isinstance(action, WriteStatus) for action in job.requests) == 4
    assert sum(isinstance(action, Delete) for action in job.requests) == 2


def test_workers_that_come_late_cost_one_write_more(cluster):
    job = cluster().reconcile().pass_time(1).start("scheduler", "runner").reconcile()
    job.pass_time(0.1).start("worker").reconcile()
    job.pass_time(10).reconcile()
    torn_down(job.succeed())
    assert len(job.requests) <= 14, writes(job)


def test_nothing_is_made_before_the_attempt_is_written(cluster):
    job = cluster().reconcile()
    assert isinstance(job.requests[0], WriteStatus)
    assert job.requests[0].status["attempt"] == 1
    kinds = [each.kind if isinstance(each, SecretRequest) else each["kind"] for each in job.requests[1:]]
    assert kinds == ["Service", "Secret", "NetworkPolicy", "Pod", "Pod", "Pod", "Pod"]


def test_the_verdict_is_written_before_anything_is_deleted(cluster):
    job = cluster().running()
    count = len(job.requests)
    job.succeed().reconcile()
    verdict, *rest = job.requests[count:]
    assert [each["reason"] for each in verdict.status["attempts"]] == ["Completed"]
    assert verdict.status["phase"] == "Finalizing"
    assert [each.kind for each in rest] == ["Pod", "Service"]
    assert rest[0].grace == 2


def test_a_second_plan_has_nothing_to_do(cluster):
    job = cluster().running()
    for step in (lambda: job, lambda: job.succeed().reconcile(), lambda: job.vanish().reconcile()):
        step()
        assert job.plan().is_empty
    assert job.plan() == job.plan()


def test_a_finished_job_says_what_a_reader_wants_to_know(cluster):
    job = cluster().running().pass_time(60)
    torn_down(job.succeed())
    status = job.status
    assert (status["phase"], status["reason"]) == ("Succeeded", "Completed")
    assert status["metrics"] == {"accuracy": 0.9}
    assert status["progress"] == {"done": 3, "total": 3, "summary": "3/3"}
    assert status["artifacts"]["files"] == 4
    assert status["image"] == "dask-training-runtime:latest"
    assert status["workers"]["summary"] == "0/2"
    kept = {each["type"]: each["status"] for each in status["conditions"]}
    assert kept == {
        "ClusterReady": "False",
        "RunnerStarted": "True",
        "SuccessCriteriaMet": "True",
        "ArtifactsStored": "True",
        "ResourcesReleased": "True",
        "Complete": "True",
    }
    assert {each["observedGeneration"] for each in status["conditions"]} == {status["observedGeneration"]} == {1}
    assert reasons(job) == ["AttemptStarted", "RunnerStarted", "ClusterReady", "Completed", "ResourcesReleased"]


def test_a_runners_advice_is_in_the_status_until_the_next_attempt(cluster):
    advice = [{"rule": "tiny-tasks", "message": "900 tasks took 2.0 ms each", "fix": "do more in each"}]
    job = cluster(backoffLimit=1).running()
    job.end(job.pod("runner"), 3, job.said(reason="RunnerFailed", succeeded=False, exitCode=3, advice=advice))
    job.reconcile()
    assert job.status["advice"] == advice
    job.vanish().pass_time(3600).reconcile()
    assert job.status["attempt"] == 2
    assert "advice" not in job.status
    torn_down(job.running().end(job.pod("runner"), 0, job.said(advice=advice)))
    assert (job.status["phase"], job.status["advice"]) == ("Succeeded", advice)


def test_a_running_job_says_where_it_is(cluster):
    job = cluster().running()
    assert (job.status["phase"], job.status["reason"]) == ("Running", "Running")
    assert job.status["schedulerAddress"] == "tls://10.96.0.7:8786"
    assert job.status["dashboardURL"] == "http://10.96.0.7:8787/status"
    assert job.status["workers"] == {
        "desired": 2, "ready": 2, "restarts": 0, "lost": 0, "summary": "2/2", "leaving": []
    }  # fmt: skip
    uid = job.body["metadata"]["uid"]
    assert job.status["selector"] == f"dask-training.io/job-uid={uid},dask-training.io/role=worker"


def test_time_and_resources_are_added_up(cluster):
    job = cluster(workers={"resources": {"requests": {"cpu": "2", "memory": "1Gi"}}}).pass_time(2).reconcile()
    job.pass_time(3).start().reconcile().pass_time(100).succeed().reconcile().pass_time(4).vanish().reconcile()
    assert job.status["timings"] == {
        "pending": 2.0,
        "starting": 3.0,
        "running": 100.0,
        "finalizing": 4.0,
        "total": 109.0,
    }
    used = job.status["resourceSeconds"]
    # The runner ended with the code; the others ran for the four seconds that it took to end them.
    assert used["byRole"] == {
        "scheduler": {"cpu": pytest.approx(104 * 0.1), "memoryGiB": pytest.approx(104 * 0.25), "gpu": 0},
        "workers": {"cpu": pytest.approx(104 * 2 * 2), "memoryGiB": pytest.approx(104 * 2), "gpu": 0},
        "runner": {"cpu": pytest.approx(100 * 0.1), "memoryGiB": pytest.approx(100 * 0.25), "gpu": 0},
    }
    assert used["cpu"] == pytest.approx(sum(role["cpu"] for role in used["byRole"].values()))
    assert used["memoryGiB"] == pytest.approx(sum(role["memoryGiB"] for role in used["byRole"].values()))
    assert "cost" not in job.status, "nobody said what an hour costs"


def test_workers_that_are_gone_count_for_as_long_as_they_were_there(cluster):
    gpus = {"resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"nvidia.com/gpu": "1"}}}
    job = cluster(workers={**gpus, "replicas": 3}).running()
    before = job.status.get("resourceSeconds", {}).get("byRole", {}).get("workers", {"cpu": 0})["cpu"]
    job.pass_time(50).kubectl_delete_pod(job.pod("worker", 2)).reconcile().pass_time(5).vanish().reconcile()
    job.start().reconcile().pass_time(45).succeed().reconcile().vanish().reconcile()
    used = job.status["resourceSeconds"]["byRole"]["workers"]
    made_again = 45  # in its place, from when it was gone
    assert used["cpu"] - before == pytest.approx(100 + 100 + 55 + made_again, rel=0.05)
    assert used["gpu"] == pytest.approx(used["cpu"]), "one of each per worker"


def test_the_cost_is_what_the_installations_prices_say(cluster, operator_settings):
    prices = Prices(currency="EUR", cpu_hour=36.0, memory_gib_hour=3.6)
    job = cluster(settings=dataclasses.replace(operator_settings, prices=prices)).running().pass_time(1000)
    runner = job.pod("runner")["spec"]["containers"][0]
    assert {"name": "DASK_TRAINING_PRICES", "value": msgspec.json.encode(prices).decode()} in runner["env"]
    job.succeed().reconcile().vanish().reconcile()
    used = job.status["resourceSeconds"]
    assert job.status["cost"]["currency"] == "EUR"
    assert float(job.status["cost"]["amount"]) == pytest.approx(0.01 * used["cpu"] + 0.001 * used["memoryGiB"])


def test_progress_is_not_written_more_often_than_every_ten_seconds(cluster):
    job = cluster().running()
    count = len(job.statuses)
    for done in range(20):
        job.pass_time(1)
        todo = job.plan(telemetry=Telemetry(done=done, total=20, metrics={"loss": 1.0 / (done + 1)}))
        if todo.status:
            job.execute(todo)
        else:
            assert 0 < todo.check_after <= 10
    assert len(job.statuses) - count == 2
    assert job.status["progress"]["total"] == 20


# Failure and retry.


def test_a_failed_job_has_its_code_s_words(cluster):
    job = torn_down(cluster().running().fail(3))
    assert (job.status["phase"], job.status["reason"]) == ("Failed", "RunnerFailed")
    assert job.status["message"] == "ValueError: no, line 3 of spec.runner.script"
    assert job.status["attempts"][0]["exitCode"] == 3
    assert job.holds("Failed")
    assert job.holds("FailureTarget")
    assert job.events[-2].type == "Warning"


def test_the_next_attempt_waits_and_has_a_cluster_of_its_own(cluster):
    job = cluster(backoffLimit=1).running()
    first = {pod["metadata"]["name"] for pod in job.pods()}
    job.fail().reconcile()
    assert (job.status["phase"], job.status["reason"]) == ("Pending", "Backoff")
    assert "The next one starts in 10 s" in job.status["message"]
    job.vanish().reconcile()
    assert job.objects == {}
    assert 0 < job.check_after <= 10
    job.pass_time(9).reconcile()
    assert job.objects == {}
    job.pass_time(1).reconcile()
    assert job.status["attempt"] == 2
    assert not first & {pod["metadata"]["name"] for pod in job.pods()}
    torn_down(job.pass_time(1).start().reconcile().fail())
    assert job.status["message"].endswith("backoffLimit is 1, and 2 attempts failed.")
    assert [each["number"] for each in job.status["attempts"]] == [1, 2]


def test_no_attempt_starts_while_the_last_one_is_there(cluster):
    job = cluster(backoffLimit=1).running().fail().reconcile().pass_time(60).reconcile()
    assert job.status["attempt"] == 1
    assert job.vanish().reconcile().status["attempt"] == 2


def test_many_attempts_are_counted_though_few_are_kept(cluster):
    job = cluster(backoffLimit=30)
    for _ in range(31):
        job.reconcile().pass_time(1).start().reconcile().fail(message="x" * 900).reconcile().vanish().pass_time(700)
    job.reconcile()
    assert job.status["phase"] == "Failed"
    assert job.status["failed"] == 31
    assert job.status["attempt"] == 31
    assert job.status["attempts"][-1]["number"] == 31
    assert len(job.status["attempts"]) <= 20


# Deadlines.


def test_a_job_that_goes_on_past_its_deadline_is_stopped(cluster):
    job = cluster(activeDeadlineSeconds=60).running().pass_time(100).reconcile()
    assert job.status["phase"] == "Running", "the runner stops it itself, and stores what there is"
    job.pass_time(81).reconcile()
    assert job.status["reason"] == "DeadlineExceeded"
    deletes = [each for each in job.requests if isinstance(each, Delete)]
    assert deletes[0].name.endswith("-runner")
    assert deletes[0].grace is None, "it may still store what there is"
    assert {each.selector.rpartition("=")[2] for each in deletes[1:3]} == {"scheduler", "worker"}


def test_the_deadline_is_over_all_attempts(cluster):
    job = cluster(activeDeadlineSeconds=60, backoffLimit=5, startupDeadlineSeconds=30)
    job.running().pass_time(55).fail().reconcile().vanish().reconcile().pass_time(6).reconcile()
    assert job.status["reason"] == "DeadlineExceeded"
    assert job.status["phase"] == "Failed"


def test_what_does_not_start_in_time_has_failed(cluster):
    job = cluster(startupDeadlineSeconds=60).reconcile().pass_time(11).reconcile()
    assert job.check_after == pytest.approx(49, abs=1)
    torn_down(job.pass_time(55))
    assert job.status["reason"] == "StartupDeadlineExceeded"
    assert "spec.startupDeadlineSeconds" in job.status["message"]


def test_a_finished_job_is_deleted_when_its_time_is_over(cluster):
    job = torn_down(cluster(ttlSecondsAfterFinished=30).running().succeed())
    assert job.check_after == pytest.approx(30, abs=2)
    job.pass_time(31).reconcile()
    assert job.requests[-1] == Delete.one("DaskTrainingJob", "job", job.body["metadata"]["uid"])


def test_a_job_can_be_deleted_as_soon_as_it_is_over(cluster):
    job = torn_down(cluster(ttlSecondsAfterFinished=0).running().succeed())
    assert "deletionTimestamp" in job.body["metadata"]


def test_the_operators_own_time_to_live_is_for_jobs_that_name_none(cluster, operator_settings):
    short = dataclasses.replace(operator_settings, default_ttl_seconds=5)
    silent = torn_down(cluster(settings=short).running().succeed()).pass_time(6).reconcile()
    assert "deletionTimestamp" in silent.body["metadata"]
    own = torn_down(cluster(settings=short, ttlSecondsAfterFinished=60).running().succeed()).pass_time(6).reconcile()
    assert "deletionTimestamp" not in own.body["metadata"]


def test_a_job_that_is_being_deleted_is_left_to_the_garbage_collector(cluster):
    job = cluster().running()
    job.body["metadata"]["deletionTimestamp"] = job.stamp()
    job.vanish()
    assert job.plan().is_empty


# Suspending.


def test_a_job_applied_suspended_makes_nothing(cluster):
    job = cluster(suspend=True).reconcile()
    assert job.status["phase"] == "Suspended"
    assert job.holds("Suspended")
    assert job.objects == {}
    job.edit(suspend=False).reconcile()
    assert job.status["attempt"] == 1
    assert not job.holds("Suspended")
    assert "Resumed" in reasons(job)


def test_a_job_is_suspended_when_all_is_released(cluster):
    job = cluster(activeDeadlineSeconds=100).running().pass_time(80).edit(suspend=True).reconcile()
    assert (job.status["phase"], job.status["reason"]) == ("Finalizing", "Suspending")
    assert not job.holds("Suspended")
    runner = next(each for each in job.requests if isinstance(each, Delete))
    assert (runner.name[-6:], runner.grace) == ("runner", None)
    job.vanish().reconcile()
    assert job.status["phase"] == "Suspended"
    assert job.objects == {}
    job.pass_time(1000).edit(suspend=False).reconcile().start().reconcile()
    assert (job.status["phase"], job.status["attempt"]) == ("Running", 2)
    job.pass_time(80).reconcile()
    assert job.status["phase"] == "Running", "the deadline counts from the resumption"


def test_a_runner_that_ended_is_not_suspended(cluster):
    job = cluster().running().edit(suspend=True)
    torn_down(job.succeed())
    assert job.status["phase"] == "Succeeded"
    assert job.plan().is_empty


# Workers.


def test_more_workers_are_made_at_once_and_fewer_may_finish_their_work(cluster):
    job = cluster().running().edit(workers={"replicas": 4}).reconcile()
    assert indexes(job) == [0, 1, 2, 3]
    assert job.status["workers"]["desired"] == 4
    job.pass_time(1).start().reconcile().edit(workers={"replicas": 1}).reconcile()
    deletes = [each for each in job.requests if isinstance(each, Delete)]
    assert [each.name.rpartition("-")[2] for each in deletes] == ["3", "2", "1"]
    assert {each.grace for each in deletes} == {3600}
    job.vanish().pass_time(10).reconcile()
    assert indexes(job) == [0]
    assert job.status["workers"]["lost"] == 0
    assert job.status["workers"]["summary"] == "1/1"


def test_a_lost_worker_is_counted_once_and_made_again_when_it_is_gone(cluster):
    job = cluster().running().pass_time(200)
    gone = job.pod("worker", 1)
    job.kubectl_delete_pod(gone).reconcile().reconcile().pass_time(6).reconcile()
    assert job.status["workers"]["lost"] == 1
    assert indexes(job) == [0, 1]
    job.vanish().reconcile()
    assert job.pod("worker", 1)["metadata"]["uid"] != gone["metadata"]["uid"]
    assert reasons(job).count("WorkerLost") == 1


def test_a_worker_that_is_gone_before_anybody_looked_is_lost_all_the_same(cluster):
    job = cluster().running().pass_time(200).reconcile().pass_time(1)
    job.kubectl_delete_pod(job.pod("worker", 0)).kubectl_delete_pod(job.pod("worker", 1)).vanish().reconcile()
    assert job.status["workers"]["lost"] == 2
    assert job.reconcile().pass_time(20).reconcile().status["workers"]["lost"] == 2
    assert reasons(job).count("WorkerLost") == 1
    assert indexes(job) == [0, 1]


def test_two_workers_lost_in_one_second_are_two(cluster):
    job = cluster(workers={"replicas": 3}).running().pass_time(200)
    job.kubectl_delete_pod(job.pod("worker", 1)).reconcile()
    job.kubectl_delete_pod(job.pod("worker", 2)).reconcile()
    assert job.status["workers"]["lost"] == 2


def test_workers_that_end_again_and_again_are_made_more_and_more_slowly(cluster):
    job = cluster(workers={"replicas": 1, "lossGraceSeconds": 80000}).running().pass_time(200)
    waits = []
    for _ in range(6):
        job.end(job.pod("worker", 0), 1).reconcile()
        began = job.now
        while job.pod("worker", 0) is None or job.pod("worker", 0)["status"]["phase"] != "Pending":
            job.pass_time(1).reconcile()
        waits.append((job.now - began).total_seconds())
        job.start().reconcile()
    assert waits == sorted(waits)
    assert waits[0] <= 11
    assert waits[-1] >= 60


def test_too_few_workers_for_too_long_end_the_attempt(cluster):
    job = cluster(workers={"replicas": 1, "lossGraceSeconds": 60}).running()
    pod = job.pod("worker", 0)
    ended = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": job.stamp(), "startedAt": job.stamp()}
    job.set_state(
        pod,
        "Running",
        {"waiting": {"reason": "CrashLoopBackOff"}},
        lastState={"terminated": ended},
        restartCount=4,
    )
    job.reconcile()
    assert job.condition("ClusterReady")["reason"] == "WorkersLost"
    job.pass_time(60).reconcile()
    assert job.status["phase"] == "Running", "the runner sees to it itself"
    job.pass_time(46).reconcile()
    assert job.status["reason"] == "WorkerOOMKilled"
    assert "spec.workers.resources" in job.status["message"]


def test_a_worker_that_crashed_is_not_believed_at_once(cluster):
    job = cluster(workers={"replicas": 1}).running()
    ended = {"exitCode": 1, "reason": "Error", "finishedAt": job.stamp()}
    running = {"running": {"startedAt": job.stamp()}}
    job.set_state(job.pod("worker", 0), "Running", running, lastState={"terminated": ended}, restartCount=1)
    job.reconcile()
    assert not job.holds("ClusterReady")
    assert job.check_after <= 10
    job.pass_time(10).reconcile()
    assert job.holds("ClusterReady")


# Losses.


def test_a_lost_scheduler_leaves_the_runner_time_to_store(cluster):
    job = cluster().running().pass_time(5)
    job.end(job.pod("scheduler"), 137, reason="OOMKilled").reconcile()
    assert job.condition("ClusterReady")["reason"] == "SchedulerLost"
    assert job.status["phase"] == "Running"
    count = len(roles(job))
    job.pass_time(19).reconcile()
    assert len(roles(job)) == count, "nothing is made again, nothing deleted"
    job.pass_time(2).reconcile()
    assert job.status["reason"] == "SchedulerOOMKilled"


def test_a_runner_that_was_running_is_never_made_again_within_its_attempt(cluster):
    job = cluster().running()
    job.kubectl_delete_pod(job.pod("runner")).reconcile().vanish().reconcile()
    assert job.status["attempts"][0]["reason"] == "RunnerDisrupted"
    assert job.status["attempt"] == 1
    assert torn_down(job).status["phase"] == "Failed"


def test_a_runner_that_ran_and_went_before_that_was_written_is_not_made_again(cluster):
    job = cluster().reconcile().start("runner")
    job.kubectl_delete_pod(job.pod("runner")).vanish().reconcile()
    assert job.pod("runner") is None
    assert job.status["attempts"][0]["reason"] == "RunnerDisrupted"


def test_a_runner_that_its_node_refused_is_made_again(cluster):
    job = cluster().reconcile()
    pod = job.pod("runner")
    pod["status"] = {
        "phase": "Failed",
        "reason": "UnexpectedAdmissionError",
        "message": "no cpu",
        "startTime": job.stamp(),
    }
    job.pass_time(6).reconcile()
    assert job.pod("runner")["metadata"]["uid"] != pod["metadata"]["uid"]
    assert job.running().status["phase"] == "Running"


def test_a_missing_pod_is_looked_for_before_it_counts(cluster):
    job = cluster().running()
    job.objects = {key: each for key, each in job.objects.items() if not key[1].endswith("-runner")}
    todo = job.plan(confirmed=False)
    assert todo.confirm
    assert todo.status is None
    assert not todo.delete
    assert job.plan(confirmed=True).status["attempts"][0]["reason"] == "RunnerDisrupted"


def test_a_pod_on_a_dead_node_does_not_hold_the_job(cluster):
    job = cluster(backoffLimit=1).running()
    job.kubectl_delete_pod(job.pod("runner"))
    job.pass_time(30 + 59).reconcile()
    assert job.status["phase"] == "Running"
    job.pass_time(2).reconcile()
    assert job.status["attempts"][0]["reason"] == "RunnerDisrupted"
    job.pass_time(130).reconcile()
    assert job.status["attempt"] == 2


def test_pods_of_a_finished_job_are_removed_whenever_they_turn_up(cluster):
    job = cluster().running()
    late = next(iter(job.pods("worker")))
    torn_down(job.succeed())
    job.objects["Pod", late["metadata"]["name"]] = late | {
        "metadata": {key: value for key, value in late["metadata"].items() if not key.startswith("deletion")}
    }
    torn_down(job)
    assert job.objects == {}
    assert job.status["phase"] == "Succeeded"


# What is refused.


def test_a_job_that_is_not_right_fails_with_its_fields_and_makes_nothing(cluster, operator_settings):
    job = cluster(runner={"script": "x = ", "module": "m"})
    todo = plan_body(job.body, Observed(), job.now, operator_settings)
    assert (todo.status["phase"], todo.status["reason"]) == ("Failed", "ValidationFailed")
    assert "spec.runner" in todo.status["message"]
    assert not todo.create
    job.execute(todo)
    assert plan_body(job.body, Observed(), job.now, operator_settings).is_empty


@pytest.mark.parametrize(
    ("spec", "settings", "said"),
    [
        ({"workers": {"replicas": 51}}, {}, "spec.workers.replicas: must be at most 50, got 51"),
        ({}, {"store_endpoint": ""}, "spec.artifacts.destination: is required: the operator has no artifact store"),
        ({"volumes": [{"name": "dask-training-work", "emptyDir": {}}]}, {}, "spec.volumes[0].name: must not begin"),
    ],
)
def test_what_this_operator_can_not_do_fails_before_anything_is_made(cluster, operator_settings, spec, settings, said):
    job = cluster(settings=dataclasses.replace(operator_settings, **settings), **spec).reconcile()
    assert (job.status["phase"], job.status["reason"]) == ("Failed", "ValidationFailed")
    assert said in job.status["message"]
    assert [type(each) for each in job.requests] == [WriteStatus]
    assert job.holds("Failed")
    assert job.holds("ResourcesReleased")


QUOTA = 'pods "x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2'


def refusing(code, message, *roles):
    return lambda manifest: (code, message) if manifest["metadata"]["labels"][Label.ROLE] in roles else None


def test_a_quota_is_told_of_and_tried_again_ever_more_slowly(cluster):
    job = cluster(startupDeadlineSeconds=120)
    job.refuse = refusing(403, QUOTA, "worker", "runner")
    job.reconcile()
    assert job.status["reason"] == "QuotaExceeded"
    assert "requested: pods=1" in job.status["message"]
    assert 0 < job.check_after <= 5
    count = len(job.requests)
    for _ in range(60):
        job.pass_time(1).reconcile()
    assert len(job.requests) - count <= 3 * 5
    job.refuse = lambda _: None
    job.pass_time(40).reconcile().pass_time(1).start().reconcile()
    assert job.status["phase"] == "Running"


def test_a_quota_that_lets_the_runner_in_first_costs_no_attempt(cluster):
    job = cluster()
    job.refuse = refusing(403, QUOTA, "worker", "scheduler")
    job.reconcile().start().reconcile().pass_time(3).reconcile()
    assert job.status["reason"] == "QuotaExceeded"
    job.refuse = lambda _: None
    job.pass_time(40).reconcile().pass_time(1).start().reconcile()
    assert (job.status["phase"], job.status["attempt"]) == ("Running", 1)
    assert job.pod("scheduler")


def test_a_scheduler_that_was_not_made_yet_is_made_though_the_runner_runs(cluster):
    """As where the operator was killed between the two pods: the next one knows of nothing that stood in the way."""
    job = cluster()
    job.refuse = refusing(403, QUOTA, "worker", "scheduler")
    job.reconcile().start().reconcile()
    job.refuse = lambda _: None
    job.refusals.clear()
    job.reconcile().pass_time(1).start().reconcile()
    assert (job.status["phase"], job.status["attempt"]) == ("Running", 1)


def test_a_quota_that_stays_ends_the_attempt(cluster):
    job = cluster(startupDeadlineSeconds=60)
    job.refuse = refusing(403, QUOTA, "runner")
    torn_down(job.reconcile().pass_time(61))
    assert (job.status["phase"], job.status["reason"]) == ("Failed", "QuotaExceeded")


def test_a_job_runs_with_the_workers_that_a_quota_allows(cluster):
    job = cluster()
    job.refuse = lambda manifest: (403, QUOTA) if manifest["metadata"]["name"].endswith("worker-1") else None
    job.running()
    assert (job.status["phase"], job.status["reason"]) == ("Running", "Running")
    assert job.status["workers"]["summary"] == "1/2"
    assert "exceeded quota" in job.status["message"]


def test_somebody_elses_service_is_not_taken(cluster):
    job = cluster()
    job.execute(job.plan())
    service = next(each for (kind, _), each in job.objects.items() if kind == "Service")
    service["metadata"]["ownerReferences"][0]["uid"] = "another"
    job.reconcile()
    assert (job.status["phase"], job.status["reason"]) == ("Failed", "NameCollision")
    assert service["metadata"]["name"] in job.status["message"]
    assert [key[0] for key in job.objects] == ["Service"], "it is not ours to delete"


# What only shows in combination.


def test_no_worker_is_made_for_a_scheduler_that_is_lost(cluster):
    job = cluster().running().pass_time(200)
    job.end(job.pod("scheduler"), 1).reconcile()
    job.kubectl_delete_pod(job.pod("worker", 1)).vanish().reconcile()
    assert indexes(job) == [0]


def test_a_failure_that_is_ignored_does_not_count(cluster):
    rules = {"rules": [{"action": "Ignore", "onReasons": ["RunnerDisrupted"]}]}
    job = cluster(failurePolicy=rules).running()
    for number in (1, 2):
        job.end(job.pod("runner"), 137, reason="Error", conditions=[EVICTED]).reconcile().vanish().reconcile()
        assert job.status["attempts"][-1]["ignored"] is True
        assert job.status["ignored"] == number
        assert "failed" not in job.status
        job.pass_time(10 * number - 2).reconcile()
        assert job.status["attempt"] == number, "the wait doubles with each failure"
        job.pass_time(2).reconcile().pass_time(1).start().reconcile()
        assert job.status["attempt"] == number + 1
    torn_down(job.fail())
    assert (job.status["phase"], job.status["failed"], job.status["ignored"]) == ("Failed", 1, 2)


EVICTED = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drained"}


def test_workers_that_finish_their_work_are_hurried_when_the_job_is_over(cluster):
    job = cluster(workers={"replicas": 3}).running().edit(workers={"replicas": 1}).reconcile()
    job.succeed().reconcile()
    assert {pod["metadata"]["deletionGracePeriodSeconds"] for pod in job.pods()} == {2}
    assert job.plan().is_empty


def test_a_job_that_is_not_right_is_read_once_and_deleted_in_its_time(cluster, operator_settings):
    job = cluster(runner={}, ttlSecondsAfterFinished=5)
    job.body["metadata"]["uid"] = "of-its-own"
    for _ in range(3):
        todo = plan_body(job.body, Observed(), job.now, operator_settings)
        if todo.status:
            job.execute(todo)
    assert job.status["reason"] == "ValidationFailed"
    todo = plan_body(job.body, Observed(), job.pass_time(6).now, operator_settings)
    assert todo.delete == (Delete.one("DaskTrainingJob", "job", "of-its-own"),)
