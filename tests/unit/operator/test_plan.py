"""The course of a job, from its being applied to nothing being left."""

from __future__ import annotations

from dask_training.reconcile import Delete, WriteStatus


def writes(cluster):
    return [type(action).__name__ for action in cluster.requests]


def test_a_job_with_two_workers_takes_at_most_fourteen_writes(cluster):
    job = cluster()
    job.running().pass_time(30).reconcile()
    job.succeed().pass_time(1).reconcile().vanish().reconcile()
    assert job.status["phase"] == "Succeeded"
    assert job.objects == {}
    assert len(job.requests) <= 14, writes(job)
    assert sum(isinstance(action, WriteStatus) for action in job.requests) == 4
    assert sum(isinstance(action, Delete) for action in job.requests) == 2
