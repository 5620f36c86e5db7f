"""Versions that differ between a job's pods: a condition and one Event, and no write where they do not."""

from __future__ import annotations

import pytest

from dask_training.telemetry import Telemetry

DIFFER = "versions differ between runner and cluster: joblib is 1.6.0 in the runner, 1.5.0 in w. Mend it."
TYPE = "VersionsMatch"


def warnings(job):
    return [(event.type, event.message) for event in job.events if event.reason == "VersionMismatch"]


def ended(job, **said):
    return job.end(job.pod("runner"), 0, job.said(**said)).reconcile()


def test_a_mismatch_is_a_condition_and_one_event_while_the_job_runs(cluster):
    job = cluster().running()
    job.telemetry = Telemetry(workers=2, code_started=True, versions=DIFFER)
    job.reconcile()
    found = job.condition(TYPE)
    assert (found["status"], found["reason"], found["message"]) == ("False", "VersionMismatch", DIFFER)
    assert job.status["phase"] == "Running"
    job.pass_time(60).reconcile()
    job.telemetry = Telemetry(workers=2, code_started=True, done=3)
    job.pass_time(60).reconcile()
    assert job.condition(TYPE) == found, "what was seen stays: results may have come from there"
    ended(job, versions={"workers": 2, "differences": DIFFER})
    assert job.condition(TYPE)["message"] == DIFFER
    assert warnings(job) == [("Warning", DIFFER)]


def test_a_runner_that_ends_before_anybody_asked_tells_of_a_mismatch(cluster):
    job = ended(cluster().running(), versions={"workers": 2, "differences": DIFFER})
    assert job.condition(TYPE)["reason"] == "VersionMismatch"
    assert warnings(job) == [("Warning", DIFFER)]


def test_the_same_versions_are_told_with_the_verdict_and_cost_no_write(cluster):
    def writes(**said):
        job = cluster().running()
        job.telemetry = Telemetry(workers=2, code_started=True)
        job.reconcile()
        ended(job, **said).vanish().reconcile()
        assert job.status["phase"] == "Succeeded"
        return len(job.statuses), job

    plain, silent = writes()
    told, job = writes(versions={"workers": 2, "differences": ""})
    assert plain == told
    assert silent.condition(TYPE) is None
    found = job.condition(TYPE)
    assert (found["status"], found["reason"]) == ("True", "SameVersions")
    assert found["message"] == "the runner, the scheduler and 2 worker(s) have the same versions"
    assert warnings(job) == []


def test_the_next_attempt_is_compared_anew(cluster):
    job = cluster(backoffLimit=1).running()
    job.telemetry = Telemetry(workers=2, code_started=True, versions=DIFFER)
    job.reconcile().fail().reconcile()
    assert job.condition(TYPE)["status"] == "False"
    job.telemetry = None
    job.vanish().reconcile().pass_time(30).reconcile()
    assert job.status["attempt"] == 2
    assert job.condition(TYPE) is None


@pytest.mark.parametrize("answer", [None, 3, ["x"], {"a": 1}])
def test_only_text_is_taken_from_a_scheduler(answer):
    assert Telemetry.of({"versions": answer}).versions == ""


def test_what_a_scheduler_says_is_cleaned_and_cut():
    said = Telemetry.of({"versions": "\x1b[2J" + "x" * 5000}).versions
    assert said.startswith("[2Jx")
    assert len(said) == 500
