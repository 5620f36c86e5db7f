"""What differs between two statuses: how urgent it is to write, and which Events tell of it."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import TypeAlias

from dask_training.api import Condition, MemberState, Progress, Reason
from dask_training.status.record import Status

# Type (Normal or Warning), reason and message.
Event: TypeAlias = tuple[str, str, str]
_FAILED = (MemberState.FAILED.value, MemberState.TIMED_OUT.value)
_BLOCKING = {str(reason) for reason in Reason} - {Reason.COMPLETED.value}


class Change(IntEnum):
    """NONE: nothing to write. MINOR: numbers and words, which may wait. TRANSITION: to be written at once.

    MEMBERS: where workers of mode Workers are, which somebody waits for, and which may change a hundred times a second.
    """

    NONE = 0
    MINOR = 1
    MEMBERS = 2
    TRANSITION = 3


def change(old: Status, new: Status) -> Change:
    """How much two statuses differ; times and sums alone are no difference."""
    if _weighty(old) != _weighty(new):
        return Change.TRANSITION
    if _members(old) != _members(new):
        return Change.MEMBERS
    return Change.NONE if _all(old) == _all(new) else Change.MINOR


def _weighty(status: Status) -> tuple[object, ...]:
    return (
        status.phase,
        status.attempt,
        status.attempts,
        status.failed,
        status.ignored,
        tuple((each.type, each.status, each.reason) for each in status.conditions),
        status.artifacts,
        status.start_time,
        status.completion_time,
        status.reason if status.reason in _BLOCKING else "",
        status.workers.desired,
        status.workers.lost,
        # That a pod is there must be known before it can be gone: it is never made a second time.
        tuple(member.index for member in status.workers.members if member.created_at),
        # Of a cluster that is not the job's own: by it is known whether that is still the same one.
        status.scheduler_address if status.scheduler_address.startswith("tcp:") else "",
    )


def _members(status: Status) -> tuple[object, ...]:
    return tuple((member.state, member.ip) for member in status.workers.members)


def _all(status: Status) -> Status:
    return status.replace(timings={}, resource_seconds=None, cost=None, last_update_time="")


def events(old: Status, new: Status) -> tuple[Event, ...]:
    """What is to be told of the change, each transition once."""
    return tuple(_events(old, new))


def _events(old: Status, new: Status) -> Iterator[Event]:
    if old.holds(Condition.SUSPENDED) and not new.holds(Condition.SUSPENDED):
        yield "Normal", "Resumed", "spec.suspend is false: a new attempt starts"
    if new.attempt > old.attempt:
        yield "Normal", "AttemptStarted", f"attempt {new.attempt} with {new.workers.desired} workers"
    for condition in (Condition.RUNNER_STARTED, Condition.CLUSTER_READY):
        now = new.condition(condition)
        if now is not None and now.status == "True" and not old.holds(condition):
            yield "Normal", condition.value, now.message
        elif (
            now is not None and old.holds(condition) and now.reason in (Progress.WORKERS_LOST, Progress.SCHEDULER_LOST)
        ):
            yield "Warning", now.reason, now.message
    versions = new.condition(Condition.VERSIONS_MATCH)
    if versions is not None and versions.status == "False" and old.condition(Condition.VERSIONS_MATCH) is None:
        yield "Warning", versions.reason, versions.message
    if new.attempt == old.attempt and 0 < old.workers.desired != new.workers.desired > 0:
        yield "Normal", "Scaled", f"from {old.workers.desired} to {new.workers.desired} workers"
    if new.workers.lost > old.workers.lost and new.attempt == old.attempt:
        count = new.workers.lost - old.workers.lost
        yield "Warning", "WorkerLost", f"{count} of {new.workers.desired} workers lost; made again"
    yield from _failed_members(old, new)
    if new.reason in _BLOCKING and new.reason != old.reason and not new.has_verdict:
        yield "Warning", new.reason, new.message
    yield from _endings(old, new)


def _failed_members(old: Status, new: Status) -> Iterator[Event]:
    if new.has_verdict and not old.has_verdict:
        return  # which names them
    before = {member.index: member.state for member in old.workers.members}
    failed = [each for each in new.workers.members if each.state in _FAILED and each.state != before.get(each.index)]
    if failed:
        more = f" (and {len(failed) - 1} more)" if failed[1:] else ""
        yield "Warning", "WorkerFailed", f"worker {failed[0].index}{more}: {failed[0].message}"


def _endings(old: Status, new: Status) -> Iterator[Event]:
    ended = new.last_attempt
    if ended is not None and old.last_attempt is None and not new.has_verdict and ended.reason != Progress.SUSPENDED:
        yield "Warning", "AttemptFailed", f"attempt {ended.number}: {ended.reason}: {ended.message}\n{new.message}"
    if new.has_verdict and not old.has_verdict:
        kind = "Normal" if new.holds(Condition.SUCCESS_CRITERIA_MET) else "Warning"
        yield kind, new.reason, new.message
    if new.holds(Condition.SUSPENDED) and not old.holds(Condition.SUSPENDED):
        yield "Normal", "Suspended", "everything is removed until spec.suspend is false"
    if new.is_final and not old.is_final:
        yield "Normal", "ResourcesReleased", "all pods are gone"
