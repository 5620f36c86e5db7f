"""From the end of an attempt on: the verdict, the next attempt, the end of the job."""

from __future__ import annotations

import datetime
from collections.abc import Callable

from dask_training.api import Condition, Mode, Phase, Progress, Reason
from dask_training.manifests import Attempt, engines_service, runner_service, scheduler_service, workers_selector
from dask_training.model.retry import Fail, Failure, decide
from dask_training.reconcile.actions import Delete, Manifest, Plan
from dask_training.reconcile.judge import deadline_exceeded
from dask_training.reconcile.members import closed
from dask_training.reconcile.outcome import Outcome
from dask_training.reconcile.release import is_released, kept_until, releases, stuck_from
from dask_training.reconcile.view import View
from dask_training.reconcile.writing import asked_again, written
from dask_training.status import AttemptRecord, ProgressRecord, Status, timestamp, with_mismatch
from dask_training.termination import Termination

DEFAULT_TTL_SECONDS = 86400  # the CRD's


def end_attempt(view: View, outcome: Outcome) -> Plan:
    """Writes how the attempt ended, and what follows, before anything of it is deleted."""
    status = with_ended_cluster(view, view.status)
    if outcome.said is not None:
        status = _with_versions(view, _with_said(status, outcome.said), outcome.said)
    status = _with_stored(view, status, outcome.said)
    if outcome.succeeded:
        return _write(view, with_verdict(view, _recorded(view, status, outcome), outcome))
    failure = Failure(outcome.reason, outcome.exit_code)
    decision = decide(view.spec, [failure], counted=status.failed, ignored=status.ignored)
    if isinstance(decision, Fail):
        status = _recorded(view, status, outcome).replace(failed=status.failed + 1)
        more = f"{outcome.message}\n{decision.message}." if decision.message else outcome.message
        return _write(view, with_verdict(view, status, Outcome(outcome.reason, more)))
    status = _recorded(view, status, outcome, ignored=decision.ignored > status.ignored)
    status = status.replace(
        phase=Phase.PENDING.value,
        reason=Progress.BACKOFF.value,
        message=f"attempt {status.attempt} failed: {outcome.reason}: {outcome.message}\n"
        f"The next one starts in {decision.delay_seconds:g} s.",
        failed=decision.counted,
        ignored=decision.ignored,
    )
    return _write(view, status)


def conclude(view: View, status: Status, outcome: Outcome, delete: tuple[Delete, ...] | None = None) -> Plan:
    """Ends the job with its running attempt, whatever backoffLimit says; `status` is all else that is known.

    `delete`: what goes at once; all if that is not given.
    """
    status = _recorded(view, with_ended_cluster(view, status), outcome)
    if not outcome.succeeded:
        status = status.replace(failed=status.failed + 1)
    status = with_verdict(view, status, outcome)
    return written(view, status, delete=releases(view) if delete is None else delete, first=True)


def suspend_attempt(view: View, status: Status | None = None) -> Plan:
    """Ends the attempt because the job is suspended: from here on it is, even if that is taken back meanwhile.

    `status` is what is known if that is more than what is written.
    """
    status = with_ended_cluster(view, status or view.status)
    outcome = Outcome(Reason.INTERRUPTED, "spec.suspend is true")
    status = _recorded(view, status, outcome, ignored=True)
    record = status.attempts[-1]
    suspended = AttemptRecord(
        number=record.number,
        start_time=record.start_time,
        completion_time=record.completion_time,
        reason=Progress.SUSPENDED.value,
        message=record.message,
        ignored=True,
    )
    status = status.replace(
        attempts=(*status.attempts[:-1], suspended),
        phase=Phase.FINALIZING.value,
        reason=Progress.SUSPENDING.value,
        message="spec.suspend is true: the pods are being removed",
    )
    return _write(view, status)


def finalize(view: View) -> Plan:
    """Everything goes, then the job is Complete or Failed."""
    status = view.status
    said = view.runner.ended.termination if view.runner is not None and view.runner.ended is not None else None
    if said is not None and status.artifacts is None and said.artifacts is not None:
        status = _with_stored(view, _with_said(status, said), said)
    if not is_released(view):
        until = kept_until(view)
        if until is not None and not view.is_past(until):
            return written(view, status, look_at=(until,))
        return written(view, status, delete=releases(view), look_at=stuck_from(view))
    succeeded = status.holds(Condition.SUCCESS_CRITERIA_MET)
    final = Condition.COMPLETE if succeeded else Condition.FAILED
    status = status.with_condition(
        Condition.RESOURCES_RELEASED, Progress.RELEASED, "all pods are gone", view.now, holds=True
    )
    status = status.with_condition(final, status.reason, status.message, view.now, holds=True)
    phase = Phase.SUCCEEDED if succeeded else Phase.FAILED
    return written(view, status.replace(phase=phase.value))


def finished(view: View) -> Plan:
    """What is left of a finished job goes; the job itself, when its time is over."""
    deletes = releases(view)
    if deletes:
        return Plan(delete=deletes, check_after=asked_again(view, stuck_from(view)))
    seconds = view.spec.ttl_seconds_after_finished
    if seconds == DEFAULT_TTL_SECONDS and view.settings.default_ttl_seconds is not None:
        seconds = view.settings.default_ttl_seconds  # the API server has filled in the CRD's: the job says nothing
    due = view.after(view.status.completion_time, seconds)
    if not view.is_past(due):
        return Plan(check_after=asked_again(view, (due,)))
    return Plan(delete=(Delete.one("DaskTrainingJob", view.job.name, view.job.metadata.uid),))


def between_attempts(view: View) -> Plan:
    """No attempt runs: the last one is taken away; then the job is suspended, waits, or starts the next."""
    if not is_released(view):
        return written(view, view.status, delete=releases(view), look_at=stuck_from(view))
    if view.spec.suspend:
        return written(view, _suspended(view))
    status, last = view.status, view.status.last_attempt
    resumed = status.holds(Condition.SUSPENDED) or (last is not None and last.reason == Progress.SUSPENDED)
    if last is not None and not resumed:
        deadline = view.after(status.start_time, view.spec.active_deadline_seconds)
        if view.is_past(deadline):
            outcome = deadline_exceeded(view.spec.active_deadline_seconds)
            return _write(view, with_verdict(view, status, outcome))
        due = next_start(view, last)
        if not view.is_past(due):
            return written(view, status, look_at=(due, deadline))
    return start_attempt(view)


def next_start(view: View, last: AttemptRecord) -> datetime.datetime:
    """When the attempt after `last` starts."""
    counted, ignored = view.status.failed, view.status.ignored
    before = (counted, ignored - 1) if last.ignored else (counted - 1, ignored)
    decision = decide(view.spec, [Failure(last.reason, last.exit_code)], counted=before[0], ignored=before[1])
    delay = 0.0 if isinstance(decision, Fail) else decision.delay_seconds
    return view.after(last.completion_time, delay)


def start_attempt(view: View) -> Plan:
    """Writes the attempt's number, then makes its Service: the rest needs the Service's address."""
    if view.runs_code and not view.observed.confirmed and view.status.attempt:
        return Plan(confirm=True)
    now, number = view.now, view.status.attempt + 1
    status, last = view.status, view.status.last_attempt
    resumed = status.holds(Condition.SUSPENDED) or (last is not None and last.reason == Progress.SUSPENDED)
    if resumed or not status.start_time:
        status = status.replace(start_time=timestamp(now))
    if status.condition(Condition.SUSPENDED) is not None:
        status = status.with_condition(Condition.SUSPENDED, Progress.RESUMED, "", now, holds=False)
    old = (Condition.VERSIONS_MATCH, Condition.ARTIFACTS_STORED, Condition.RESOURCES_RELEASED)
    status = status.without(*old).replace(
        phase=Phase.STARTING.value,
        reason=Progress.CLUSTER_STARTING.value,
        message="",
        attempt=number,
        attempt_start_time=timestamp(now),
        image=view.numbered(number).image,
        selector=workers_selector(view.job.metadata.uid),
        scheduler_address="",
        dashboard_url="",
        session={},
        progress=None,
        metrics={},
        artifacts=None,
        advice=(),
    )
    status = status.with_workers(desired=view.initial_workers, ready=0, restarts=0, lost=0, leaving=(), members=())
    make, words = _beginning(view)
    status = status.with_condition(Condition.CLUSTER_READY, Progress.CLUSTER_STARTING, words, now, holds=False)
    if view.spec.mode is Mode.BATCH:
        status = status.with_condition(
            Condition.RUNNER_STARTED, Progress.RUNNER_STARTING, "the runner is starting", now, holds=False
        )
    fresh = View(view.job, status, view.observed, now, view.settings)
    return written(view, status, create=(make(fresh.attempt),), first=True)


def _beginning(view: View) -> tuple[Callable[[Attempt], Manifest], str]:
    """What makes the attempt's Service, and what is said of its cluster while there is no more than that."""
    if view.spec.mode is Mode.WORKERS:
        return engines_service, "the workers are starting"
    if view.is_guest:
        return runner_service, "looking for the cluster of spec.clusterRef"
    return scheduler_service, "scheduler and workers are starting"


def with_verdict(view: View, status: Status, outcome: Outcome) -> Status:
    """The job is decided."""
    status = status.with_workers(members=closed(status.workers.members, outcome, view.now))
    condition = Condition.SUCCESS_CRITERIA_MET if outcome.succeeded else Condition.FAILURE_TARGET
    status = status.with_condition(condition, outcome.reason, outcome.message, view.now, holds=True)
    return status.replace(
        phase=Phase.FINALIZING.value,
        reason=outcome.reason.value,
        message=outcome.message,
        completion_time=timestamp(view.now),
    )


def with_ended_cluster(view: View, status: Status) -> Status:
    """The attempt's cluster is not to be counted on any more."""
    status = status.with_condition(
        Condition.CLUSTER_READY, Progress.ATTEMPT_ENDED, f"attempt {status.attempt} is over", view.now, holds=False
    )
    status = status.with_condition(
        Condition.RESOURCES_RELEASED, Progress.TEARING_DOWN, "the pods are being removed", view.now, holds=False
    )
    return status.with_workers(ready=0, leaving=())


def _write(view: View, status: Status) -> Plan:
    """The verdict is known to everybody before what it rests on is deleted."""
    return written(view, status, delete=releases(view), first=True)


def _suspended(view: View) -> Status:
    status = view.status.with_condition(
        Condition.SUSPENDED, Progress.SUSPENDED, "spec.suspend is true", view.now, holds=True
    )
    status = status.with_condition(
        Condition.RESOURCES_RELEASED, Progress.RELEASED, "all pods are gone", view.now, holds=True
    )
    return status.replace(
        phase=Phase.SUSPENDED.value,
        reason=Progress.SUSPENDED.value,
        message="set spec.suspend to false to start it: dask-training resume " + view.job.name,
        start_time="",
        selector=workers_selector(view.job.metadata.uid),
    ).with_workers(desired=0, ready=0)


def _recorded(view: View, status: Status, outcome: Outcome, *, ignored: bool = False) -> Status:
    record = AttemptRecord(
        number=status.attempt,
        start_time=status.attempt_start_time,
        completion_time=timestamp(view.now),
        reason=outcome.reason.value,
        message=outcome.message,
        exit_code=outcome.exit_code,
        ignored=ignored,
    )
    return status.replace(attempts=(*status.attempts, record))


def _with_said(status: Status, said: Termination) -> Status:
    changed = status.replace(metrics=dict(said.metrics)) if said.metrics else status
    if said.advice:
        changed = changed.replace(advice=said.advice)
    if said.succeeded and said.tasks:  # what was asked for last may be older than the last tasks
        summary = f"{said.tasks}/{said.tasks}"
        changed = changed.replace(progress=ProgressRecord(done=said.tasks, total=said.tasks, summary=summary))
    return changed if said.artifacts is None else changed.replace(artifacts=said.artifacts)


def _with_versions(view: View, status: Status, said: Termination) -> Status:
    """Whether versions were the same; that they were is told with the verdict, where it costs no write of its own."""
    if said.versions is None:
        return status
    if said.versions.differences:
        return with_mismatch(status, said.versions.differences, view.now)
    if status.condition(Condition.VERSIONS_MATCH) is not None:
        return status
    words = f"the runner, the scheduler and {said.versions.workers} worker(s) have the same versions"
    return status.with_condition(Condition.VERSIONS_MATCH, Progress.SAME_VERSIONS, words, view.now, holds=True)


def _with_stored(view: View, status: Status, said: Termination | None) -> Status:
    """What became of the artifacts, where the runner has lived to tell."""
    if said is None:
        return status
    if said.artifacts is not None:
        message = f"{said.artifacts.files} files, {said.artifacts.bytes} bytes"
        return status.with_condition(Condition.ARTIFACTS_STORED, Progress.STORED, message, view.now, holds=True)
    reason = Reason.ARTIFACT_STORE_FAILED if said.reason == Reason.ARTIFACT_STORE_FAILED else Progress.NOT_STORED
    return status.with_condition(Condition.ARTIFACTS_STORED, reason, said.message, view.now, holds=False)
