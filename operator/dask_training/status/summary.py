"""Numbers of a status that follow from what is observed: workers, progress, time spent, resources used."""

from __future__ import annotations

import datetime
from typing import Final

from dask_training.api import Condition, Phase, Progress, Role
from dask_training.costs import ResourceSeconds
from dask_training.observed import Observed, Pod
from dask_training.status.record import ProgressRecord, Status, timestamp
from dask_training.telemetry import Telemetry

# A worker that crashed is believed to work once it has run for so long: it may be in a loop.
STEADY_SECONDS: Final = 10
_ROLES: Final = {Role.SCHEDULER: "scheduler", Role.WORKER: "workers", Role.RUNNER: "runner"}


def is_ready(pod: Pod, now: datetime.datetime) -> bool:
    """Whether a worker works, as far as its pod tells."""
    if not pod.is_running or pod.running_since is None:
        return False
    return pod.restarts == 0 or now - pod.running_since >= datetime.timedelta(seconds=STEADY_SECONDS)


def with_workers(status: Status, observed: Observed, desired: int, now: datetime.datetime) -> Status:
    """With the workers as they are; each one that is lost counts once."""
    pods = observed.of_attempt(status.attempt, Role.WORKER)
    leaving = tuple(sorted(pod.index for pod in pods if pod.is_lost and pod.index is not None))
    newly = (set(leaving) | _gone_unseen(status, observed)) - set(status.workers.leaving)
    return status.with_workers(
        desired=desired,
        ready=sum(is_ready(pod, now) for pod in pods),
        restarts=max(sum(pod.restarts for pod in pods), status.workers.restarts),
        lost=status.workers.lost + len(newly),
        leaving=leaving,
    )


def _gone_unseen(status: Status, observed: Observed) -> set[int]:
    """The workers that worked and are not there any more since the status was written last, sent away by nobody."""
    return {
        pod.index
        for pod in observed.gone
        if pod.attempt == status.attempt and pod.role is Role.WORKER and pod.index is not None
        if not pod.is_leaving and (pod.is_lost or pod.is_running)
        if pod.gone is not None and status.updated is not None and pod.gone > status.updated
    }


def with_telemetry(status: Status, telemetry: Telemetry | None) -> Status:
    """With progress and metrics as the scheduler told them last."""
    if telemetry is None:
        return status
    if telemetry.done is not None:
        done, total = telemetry.done, telemetry.total
        summary = str(done) if total is None else f"{done}/{total}"
        status = status.replace(progress=ProgressRecord(done=done, total=total, summary=summary))
    return status.replace(metrics=dict(telemetry.metrics)) if telemetry.metrics else status


def with_mismatch(status: Status, differences: str, now: datetime.datetime) -> Status:
    """With a warning that versions differ; once seen in an attempt it stays, for results may have come from there."""
    reason = Progress.VERSION_MISMATCH
    return status.with_condition(Condition.VERSIONS_MATCH, reason, differences, now, holds=False)


def stamped(status: Status, old: Status, observed: Observed, now: datetime.datetime, created: str) -> Status:
    """The status as it is written at `now`: time and resources since the last write are added up.

    They go to the phase that the job was in until now; a pod counts from the kubelet's accepting it to its end.
    """
    since = old.updated or datetime.datetime.fromisoformat(created or timestamp(now))
    phase = _TIMED.get(old.phase or Phase.PENDING)
    spent = max((now - since).total_seconds(), 0.0)
    timings, used = dict(old.timings), old.resource_seconds or ResourceSeconds()
    if phase is not None and not old.is_final:
        timings[phase] = round(timings.get(phase, 0.0) + spent, 3)
        timings["total"] = round(timings.get("total", 0.0) + spent, 3)
    for pod in (*observed.pods, *observed.gone):
        seconds = _seconds_within(pod, since, now)
        if seconds > 0 and pod.role in _ROLES:
            used = used.plus_role(_ROLES[pod.role], pod.amounts, seconds)
    return status.replace(
        timings=timings,
        resource_seconds=used if used.by_role else None,
        last_update_time=timestamp(now, "microseconds"),
    )


_TIMED: Final = {
    Phase.PENDING.value: "pending",
    Phase.STARTING.value: "starting",
    Phase.RUNNING.value: "running",
    Phase.FINALIZING.value: "finalizing",
}


def _seconds_within(pod: Pod, since: datetime.datetime, now: datetime.datetime) -> float:
    if pod.accepted is None:
        return 0.0
    end = now if pod.gone is None else pod.gone
    if (pod.is_over or pod.gone is not None) and pod.ended is not None and pod.ended.finished:
        end = min(end, pod.ended.finished)
    return (min(end, now) - max(pod.accepted, since)).total_seconds()
